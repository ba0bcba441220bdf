"""Small faults for a source text: every one that the operators can make, each as a text of its own.

A fault replaces the text of one node of the syntax tree and leaves all else as it is, so that lines
keep their numbers and the page can say what was changed. Left out is what cannot be a fault of a
decision: docstrings, annotations, imports, decorators, and what only type checkers read.
"""

import ast
import re
from collections.abc import Iterator, Sequence

from attrs import field, frozen

Function = ast.FunctionDef | ast.AsyncFunctionDef
_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_UNCHANGED = ("annotation", "returns", "decorator_list")
#: The name of a type, as no constant has it.
_ALIAS = re.compile(r"_?[A-Z]\w*[a-z]\w*$")
_EXTREMES = {"min": "max", "max": "min"}


@frozen(order=True)
class Mutation:
    """One fault. line: where its node begins, from 1. change: before and after, on one line.

    what: the same without what both have in common.

    begin, end: what is replaced by the text, in bytes of the source.
    """

    line: int
    begin: int
    end: int
    text: str
    change: str = field(order=False)
    what: str = field(order=False)
    operator: str = field(order=False)

    def applied(self, source: str) -> str:
        """The source with the fault."""
        raw = source.encode()
        return (raw[: self.begin] + self.text.encode() + raw[self.end :]).decode()


@frozen
class _Text:
    """A source by positions of its tree."""

    raw: bytes
    starts: tuple[int, ...]

    def span(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        """Where a node stands, in bytes."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.starts[node.lineno - 1] + node.col_offset,
            self.starts[node.end_lineno - 1] + node.end_col_offset,
        )


def mutations(source: str) -> list[Mutation]:
    """All faults of a source, in the order of their places."""
    raw = source.encode()
    starts = [0]
    for line in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    text = _Text(raw, tuple(starts))
    found = set()
    tree = ast.parse(source)
    deciding = _tests(tree)
    for node, inside in _nodes(tree, None):
        begin, end = text.span(node)
        for operator, after in _faults(node, inside, decides=node in deciding):
            statement = isinstance(node, ast.stmt)
            new = after if statement else f"({after})"
            before = ast.unparse(node)
            change = f"{_one_line(before)} → {_one_line(after)}"
            what = _difference(before.split(), after.split())
            found.add(Mutation(node.lineno, begin, end, new, change, what, operator))
    return sorted(found)


def _one_line(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 100 else f"{flat[:97]}..."


def _difference(before: Sequence[str], after: Sequence[str]) -> str:
    """Two texts by their words, less those that both begin and end with, but one on each side."""
    most = min(len(before), len(after))
    same = next((n for n in range(most) if before[n] != after[n]), most)
    left = next((n for n in range(most - same) if before[-1 - n] != after[-1 - n]), most - same)
    start, end = max(same - 1, 0), max(left - 1, 0)
    return " → ".join(
        f"{'… ' if start else ''}{' '.join(words[start : len(words) - end])}{' …' if end else ''}"
        for words in (before, after)
    )


def _nodes(
    node: ast.AST, function: Function | None
) -> Iterator[tuple[ast.stmt | ast.expr, Function | None]]:
    """Every node that may be changed, with the function that it stands in."""
    for name, value in ast.iter_fields(node):
        if name in _UNCHANGED:
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _left_out(child):
                continue
            if isinstance(node, ast.Compare) and _is_none(child):
                continue  # nothing else is meant by `is`
            if isinstance(child, ast.stmt | ast.expr):
                yield child, function
            inner = child if isinstance(child, Function) else function
            if not isinstance(child, ast.JoinedStr):  # its parts have no places of their own
                yield from _nodes(child, inner)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _left_out(node: ast.AST) -> bool:
    """Docstrings and other bare texts, imports, blocks for type checkers, names of types."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    if not isinstance(node, ast.Assign):
        return False
    name = ast.unparse(node.targets[0])
    return name == "__all__" or bool(_ALIAS.match(name))


def _tests(tree: ast.AST) -> set[ast.expr]:
    """What decides: the conditions of branches, loops and comprehensions."""
    found: set[ast.expr] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.While | ast.IfExp):
            found.add(node.test)
        elif isinstance(node, ast.comprehension):
            found.update(node.ifs)
    return found


def _faults(
    node: ast.stmt | ast.expr, function: Function | None, *, decides: bool
) -> Iterator[tuple[str, str]]:
    """(operator, what stands there instead) for one node."""
    if isinstance(node, ast.stmt):
        yield from _of_statement(node, function)
        return
    yield from _of_constant(node) if isinstance(node, ast.Constant) else _of_expression(node)
    if decides and not _has_opposite(node):
        yield "negation", ast.unparse(_not(node))


def _has_opposite(node: ast.expr) -> bool:
    """Whether another operator already says the contrary of it."""
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1 and len(_COMPARISONS[type(node.ops[0])]) == 1
    return isinstance(node, ast.UnaryOp)


def _of_statement(node: ast.stmt, function: Function | None) -> Iterator[tuple[str, str]]:
    early = function is None or node is not function.body[-1]
    gone = isinstance(
        node, ast.Expr | ast.AugAssign | ast.Raise | ast.Continue | ast.Break | ast.Delete
    )
    if isinstance(node, ast.Assign):  # without a first value a name would be missed at once
        gone = isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    if gone or (isinstance(node, ast.Return) and early):
        yield "statement deleted", "pass"
    if isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
        swapped = ast.AugAssign(node.target, _ARITHMETIC[type(node.op)](), node.value)
        yield "arithmetic", ast.unparse(swapped)
    if isinstance(node, ast.Return) and node.value is not None:
        empty = _empty(node.value, function)
        if empty != ast.unparse(node.value):
            yield "return value", f"return {empty}"


def _empty(value: ast.expr, function: Function | None) -> str:
    """What a function returns that found nothing, by what it promises."""
    promised = ast.unparse(function.returns) if function and function.returns else ""
    for start, text in (
        ("tuple[", "()"),
        ("list[", "[]"),
        ("dict[", "{}"),
        ("Mapping[", "{}"),
        ("Sequence[", "()"),
        ("frozenset[", "frozenset()"),
        ("set[", "set()"),
        ("str", "''"),
        ("bool", "False"),
    ):
        if promised.startswith(start) and (start != "tuple[" or "..." in promised):
            return text
    return "None"


def _of_constant(node: ast.Constant) -> Iterator[tuple[str, str]]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", str(not value)
    elif isinstance(value, int):
        yield "boundary", str(value + 1)
        if value > 0:
            yield "boundary", str(value - 1)
    elif isinstance(value, float):
        yield "constant", repr(value * 2 + 1)
    elif isinstance(value, str):
        yield "constant", repr(f"{value}x" if value else "x")
        if value:
            yield "constant", "''"
    elif isinstance(value, bytes):
        yield "constant", repr(value + b"x")
    elif value is None:
        yield "constant", "0"


def _of_expression(node: ast.expr) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Compare():
            yield from _of_comparison(node)
        case ast.BoolOp():
            yield from _of_and_or(node)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not removed", ast.unparse(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "arithmetic", ast.unparse(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            yield "arithmetic", ast.unparse(ast.BinOp(left, _ARITHMETIC[type(op)](), right))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield "arms swapped", ast.unparse(ast.IfExp(test, orelse, body))
        case ast.Call(func=ast.Name(id="min" | "max" as name)):
            call = ast.Call(ast.Name(_EXTREMES[name]), node.args, node.keywords)
            yield "min, max", ast.unparse(call)


def _of_comparison(node: ast.Compare) -> Iterator[tuple[str, str]]:
    """Every operator of it by each of its neighbours; of a chain by the nearest only."""
    for index, op in enumerate(node.ops):
        for swapped in _COMPARISONS[type(op)][: 2 if len(node.ops) == 1 else 1]:
            ops = [*node.ops[:index], swapped(), *node.ops[index + 1 :]]
            yield "comparison", ast.unparse(ast.Compare(node.left, ops, node.comparators))


def _of_and_or(node: ast.BoolOp) -> Iterator[tuple[str, str]]:
    """The other operator; each operand left out, and each by its contrary."""
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and, or", ast.unparse(ast.BoolOp(other, node.values))
    for index, value in enumerate(node.values):
        before, after = node.values[:index], node.values[index + 1 :]
        rest = [*before, *after]
        left = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        yield "operand deleted", ast.unparse(left)
        if not _has_opposite(value):
            yield "negation", ast.unparse(ast.BoolOp(node.op, [*before, _not(value), *after]))


def _not(value: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), value)
