"""What the loops of agent and operator have in common: they say which kinds they still wait for."""

from collections.abc import Callable

from attrs import define

from kpm.logs import Log


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
