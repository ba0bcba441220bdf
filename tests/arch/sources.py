"""The sources of a package as syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from attrs import frozen

Function = ast.FunctionDef | ast.AsyncFunctionDef


@frozen
class Source:
    """A module. name: its file below the package, without suffix."""

    package: str
    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Lines of the file."""
        return len(self.text.splitlines())

    def imports(self) -> Iterator[str]:
        """Full names of all modules that are imported, wherever in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield f"{self.package}.{node.module or ''}" if node.level else str(node.module)

    def functions(self) -> Iterator[Function]:
        """All functions, methods and inner functions."""
        yield from (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def names(self) -> Iterator[tuple[int, str]]:
        """(line, dotted name) of all names and attributes that are used, such as os.path.join."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute):
                yield node.lineno, dotted(node)

    def public(self) -> Iterator[tuple[str, ast.ClassDef | Function]]:
        """Public classes and functions of the module and public methods of its public classes, with
        their names.
        """
        for node in self.tree.body:
            if not isinstance(node, ast.ClassDef | Function) or node.name.startswith("_"):
                continue
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from (
                    (f"{node.name}.{item.name}", item)
                    for item in node.body
                    if isinstance(item, Function) and not item.name.startswith("_")
                )


def dotted(node: ast.expr) -> str:
    """A name or attribute as it is written; "" in place of what is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def body_lines(function: Function) -> int:
    """Lines of a function's body without its docstring."""
    body = (
        function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    )
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def sources(package: ModuleType) -> list[Source]:
    """All modules of a package."""
    folder = Path(str(package.__file__)).parent
    found = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(
            Source(
                package.__name__,
                path.relative_to(folder).with_suffix("").as_posix(),
                text,
                ast.parse(text),
            )
        )
    return found
