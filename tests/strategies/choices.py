"""One draw for several small choices: a generated cluster has hundreds of them, and a draw costs more than all the rest.

For the same reason the modules beside this one write plain functions that take `draw`, and make strategies of those that
others use.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, TypeVar

from hypothesis import strategies as st

_Value = TypeVar("_Value")
#: Hypothesis draws smaller ranges evenly; in wider ones it prefers small numbers, and late pools would never vary.
_WIDEST = 2**24


@lru_cache(maxsize=4096)
def _below(size: int) -> st.SearchStrategy[int]:
    return st.integers(0, size - 1)


def pick(draw: st.DrawFn, *pools: Sequence[Any]) -> tuple[Any, ...]:
    """A choice from every pool; shrinks to the first of each."""
    size = prod(len(pool) for pool in pools)
    if not 0 < size < _WIDEST:
        raise ValueError(f"{size} combinations are none or too many for one draw")
    number = draw(_below(size))
    found = []
    for pool in pools:
        number, index = divmod(number, len(pool))
        found.append(pool[index])
    return tuple(found)


def often(common: _Value, *rare: _Value, times: int = 3) -> tuple[_Value, ...]:
    """A pool in which the first value is `times` as likely as each other."""
    return (*[common] * times, *rare)


def mask(draw: st.DrawFn, count: int, *, rare: bool = False) -> list[int]:
    """A bit for each of `count` choices, such as one for every CPU; rare: mostly none is set."""
    if rare and draw(_below(3)) < 2:
        return [0] * count
    number = draw(_below(2**count))
    return [number >> index & 1 for index in range(count)]
