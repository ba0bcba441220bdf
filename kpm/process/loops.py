"""What the loops of agent and operator have in common: they say which kinds they still wait for."""

from collections.abc import Callable, Collection

from attrs import define, field

from kpm.process.logs import Log
from kpm_applier.sysfs.descriptors import raise_limit

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


@define
class SourceTrouble:
    """One log line when the source of a power cap begins to fail, fails otherwise, or answers
    again.
    """

    log: Log
    _said: dict[str, str] = field(factory=dict)

    def only(self, caps: Collection[str]) -> None:
        """Forget the others."""
        self._said = {name: trouble for name, trouble in self._said.items() if name in caps}

    def say(self, cap: str, trouble: str) -> None:
        """What is wrong with the source of a cap, or nothing."""
        before, self._said[cap] = self._said.get(cap, ""), trouble
        if trouble and trouble != before:
            self.log.warning("external source", cap=cap, error=trouble[:200])
        elif before and not trouble:
            self.log.info("external source answers again", cap=cap)


def say_raised(log: Log) -> None:
    """Raise the limit of descriptors as far as it goes, and say so; a limit that is small is a
    warning.
    """
    before, now = raise_limit()
    if before < now:
        log.info("limit of descriptors raised", before=before, now=now)
    if now < _FEW:
        log.warning(
            "few descriptors",
            limit=now,
            wanted=_FEW,
            remedy=(
                "raise LimitNOFILE of the container runtime; files are opened and closed instead of"
                " kept meanwhile"
            ),
        )
