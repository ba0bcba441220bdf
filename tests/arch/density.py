"""How dense the code is, beside that of code bases that are easy to read: a report, no gate.

Nodes of the syntax tree per line of a function's body, without docstrings; the share of functions
that have a docstring; comments per hundred lines of code; and the longest functions. Peers are
fetched from PyPI into ~/.cache/kpm-density.
"""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

from attrs import frozen

from tests.arch.sources import Function, body_lines

ROOT = Path(__file__).parents[2]
CACHE = Path.home() / ".cache/kpm-density"
OURS = ("kpm_planner", "kpm_applier", "kpm")
PEERS = {"packaging": "26.4", "h11": "0.16.0", "kopf": "1.45.2"}


@frozen
class Density:
    """Figures of one package. nodes: per body line; documented, commented: per cent."""

    name: str
    functions: int
    nodes: float
    lines_p50: int
    lines_p95: int
    documented: float
    commented: float


def density(folder: Path) -> Density:
    """The figures of the Python files below a folder."""
    nodes = documented = code = comments = 0
    sizes = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            comments += token.type == tokenize.COMMENT
            code += token.type == tokenize.NEWLINE
        for function in ast.walk(ast.parse(text)):
            if not isinstance(function, Function):
                continue
            has_docstring = ast.get_docstring(function) is not None
            documented += has_docstring
            if lines := body_lines(function):
                sizes.append(lines)
                body = function.body[has_docstring:]
                nodes += sum(1 for statement in body for _ in ast.walk(statement))
    sizes.sort()
    return Density(
        folder.name,
        functions=len(sizes),
        nodes=nodes / sum(sizes),
        lines_p50=sizes[len(sizes) // 2],
        lines_p95=sizes[len(sizes) * 95 // 100],
        documented=100 * documented / len(sizes),
        commented=100 * comments / code,
    )


def main() -> None:
    """Print the table."""
    wanted = [f"{name}=={version}" for name, version in PEERS.items()]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--upgrade", "--target", CACHE, *wanted], check=True)
    print("package       functions  nodes a line  lines p50  p95  with docstring  comments")
    for folder in (*(ROOT / name for name in OURS), *(CACHE / name for name in PEERS)):
        found = density(folder)
        print(
            f"{found.name:13} {found.functions:9}  {found.nodes:12.1f}  {found.lines_p50:9}"
            f"  {found.lines_p95:3}  {found.documented:13.0f}%  {found.commented:7.1f}%"
        )


if __name__ == "__main__":
    main()
