"""How many files the parts of a process keep open: one budget for all of them, so that the rest of
it always finds some.

Managed files, counters of processes and cgroups, and everything else (connections, the state file)
share one limit of the process. The soft limit is raised to the hard one once. A part that may keep
no more reads by opening and closing.
"""

import resource
import threading

from attrs import define, field

#: Descriptors left to the rest of the process, at most, and of small limits this share.
_SPARE, _SPARE_SHARE = 512, 2


def raise_limit() -> tuple[int, int]:
    """Raise the soft limit to the hard one; what it was, and what it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


@define(eq=False)
class Descriptors:
    """What is kept open, by part."""

    _kept: dict[str, int] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def take(self, part: str, share: float = 1.0) -> bool:
        """Whether a part may keep one more. share: of the whole budget, what this part may have at
        most.
        """
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = hard - min(_SPARE, hard // _SPARE_SHARE)
        with self._lock:
            mine = self._kept.get(part, 0)
            if sum(self._kept.values()) >= most or mine >= most * share:
                return False
            self._kept[part] = mine + 1
            return True

    def give(self, part: str, number: int = 1) -> None:
        """A part has closed so many."""
        with self._lock:
            self._kept[part] = max(0, self._kept.get(part, 0) - number)

    @property
    def kept(self) -> int:
        """How many are kept open now."""
        return sum(self._kept.values())


#: Of this process; descriptors belong to it as a whole.
DESCRIPTORS = Descriptors()
