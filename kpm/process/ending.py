"""Being told to end, from the first moment on.

A container's first process has no default handler: a SIGTERM that comes before it has one of its
own is lost, and the pod is killed a minute later. So the handlers of long-running verbs stand
before anything slow is imported; what they were told waits here until the loop that is to end has
been made.
"""

import signal
from collections.abc import Callable
from types import FrameType

Stop = Callable[[int, FrameType | None], None]

_told: list[int] = []
_stops: list[Stop] = []


def listen() -> None:
    """Take SIGTERM and SIGINT from now on, and those that wait already."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _take)
    unblock()


def unblock() -> None:
    """Take what has come while the interpreter started: the image starts it with SIGTERM blocked,
    so that none is lost.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))


def on_signals(stop: Stop) -> None:
    """Call `stop` on SIGTERM and SIGINT; at once where one has come already."""
    listen()
    _stops[:] = [stop]
    if _told:
        stop(_told[0], None)


def _take(number: int, frame: FrameType | None) -> None:
    _told.append(number)
    for stop in _stops:
        stop(number, frame)
