"""Work that is cut in parts: the first in every run, all of them in a soak."""

import pytest


def in_parts(count: int) -> pytest.MarkDecorator:
    """Gives a test its `part`, from 0."""
    rest = (pytest.param(part, marks=pytest.mark.soak) for part in range(1, count))
    return pytest.mark.parametrize("part", [0, *rest])
