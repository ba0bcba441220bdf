"""Waiting for what real threads do."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(check: Callable[[], object]) -> None:
    """Real threads answer in real time."""
    ends = time.monotonic() + 20
    while not check():
        assert time.monotonic() < ends, "it does not come"
        time.sleep(0.001)
