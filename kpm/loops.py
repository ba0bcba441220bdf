"""What the loops of agent and operator have in common: they say which kinds they still wait for."""

from collections.abc import Callable

from attrs import define

from kpm.logs import Log
from kpm_applier.descriptors import raise_limit

#: Below so many descriptors some files of a large node are not kept open.
_FEW = 4096


def trouble_logger(log: Log) -> Callable[[str, Exception], None]:
    """What an informer calls when its source fails."""

    def trouble(name: str, failure: Exception) -> None:
        log.warning("watch failed", kind=name, error=str(failure))

    return trouble


@define
class Listing:
    """Says in the log what has not been listed yet, each time that changes."""

    log: Log
    _told: tuple[str, ...] | None = None

    def done(self, unsynced: tuple[str, ...]) -> bool:
        """Whether nothing is waited for any more."""
        if unsynced != self._told:
            if unsynced:
                self.log.info("waiting for the API server", kinds=list(unsynced))
            else:
                self.log.info("all kinds are listed")
            self._told = unsynced
        return not unsynced


def say_raised(log: Log) -> None:
    """Raise the limit of descriptors as far as it goes, and say so; a limit that is small is a warning."""
    before, now = raise_limit()
    if before < now:
        log.info("limit of descriptors raised", before=before, now=now)
    if now < _FEW:
        log.warning("few descriptors", limit=now, wanted=_FEW, remedy="raise LimitNOFILE of the container runtime; files are opened and closed instead of kept meanwhile")
