"""What loops have in common: they end on a signal, and those of agent and operator say which kinds they still wait for."""

import signal
from collections.abc import Callable
from types import FrameType

from attrs import define

from kpm.logs import Log


def on_signals(stop: Callable[[int, FrameType | None], None]) -> None:
    """Call `stop` on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def trouble_logger(log: Log) -> Callable[[str, Exception], None]:
    """What an informer calls when its source fails."""

    def trouble(name: str, failure: Exception) -> None:
        log.warning("watch failed", kind=name, error=str(failure))

    return trouble


@define
class Listing:
    """Says in the log what has not been listed yet, each time that changes."""

    log: Log
    _told: tuple[str, ...] = ()

    def done(self, unsynced: tuple[str, ...]) -> bool:
        """Whether nothing is waited for any more."""
        if unsynced != self._told:
            if unsynced:
                self.log.info("waiting for the API server", kinds=list(unsynced))
            else:
                self.log.info("all kinds are listed")
            self._told = unsynced
        return not unsynced
