"""Fixtures of the applier's tests."""

import signal
from collections.abc import Iterator

import pytest


class HangsError(BaseException):
    """Something waits that must not; no OSError, so that nothing takes it for a refusal."""


@pytest.fixture
def impatient() -> Iterator[None]:
    """Break off a test that hangs in open or read."""

    def alarm(_number: int, _frame: object) -> None:
        raise HangsError

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
