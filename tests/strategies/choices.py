"""One draw for several small choices: a generated cluster has hundreds of them, and a draw costs
more than all the rest.

For the same reason the modules beside this one write plain functions that take `draw`, and make
strategies of those that others use.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, TypeVar

from hypothesis import strategies as st

_Value = TypeVar("_Value")
#: Of a strategy that is being composed, or of data that a test draws as it goes.
Draw = Callable[[st.SearchStrategy[int]], int]
#: Hypothesis draws from a range of this size evenly; in wider ones it prefers small numbers, and
#: late choices would never vary.
_EVEN = 256


@lru_cache(maxsize=_EVEN)
def _below(size: int) -> st.SearchStrategy[int]:
    return st.integers(0, size - 1)


def _index(draw: Draw, size: int) -> int:
    """A number below `size`, all of them about as likely."""
    if size <= _EVEN:
        return draw(_below(size))
    return (_index(draw, -(-size // _EVEN)) * _EVEN + draw(_below(_EVEN))) % size


def pick(draw: Draw, *pools: Sequence[Any]) -> tuple[Any, ...]:
    """A choice from every pool; shrinks to the first of each."""
    found: list[Any] = []
    waiting: list[Sequence[Any]] = []
    for pool in (*pools, None):
        if waiting and (pool is None or prod(map(len, waiting)) * len(pool) > _EVEN):
            number = _index(draw, prod(map(len, waiting)))
            for part in waiting:
                number, index = divmod(number, len(part))
                found.append(part[index])
            waiting = []
        if pool is not None:
            waiting.append(pool)
    return tuple(found)


def often(common: _Value, *rare: _Value, times: int = 3) -> tuple[_Value, ...]:
    """A pool in which the first value is `times` as likely as each other."""
    return (*[common] * times, *rare)


def mask(draw: Draw, count: int, *, rare: bool = False) -> list[int]:
    """A bit for each of `count` choices, such as one for every CPU; rare: mostly none is set."""
    if rare and draw(_below(3)) < 2:
        return [0] * count
    numbers = [draw(_below(_EVEN)) for _ in range(0, count, 8)]
    return [numbers[index // 8] >> index % 8 & 1 for index in range(count)]
