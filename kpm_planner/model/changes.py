"""What was seen, what is to be written, and how that went: the values between planner, applier and
reports.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from attrs import field, frozen

from kpm_planner.model.why import Why


class Reason(StrEnum):
    """Why a file is written."""

    PLAN = "plan"
    DRIFT = "drift"
    RESTORE = "restore"


class Write(NamedTuple):
    """One file to be written; a tuple, since a pass may make thousands.

    path: below the root; value: text without newline; old: what it shows now; group: what it
    belongs to; because: the reasons of the group's whole target.
    """

    path: str
    value: str
    old: str | None
    group: str
    reason: Reason
    because: tuple[Why, ...] = ()


@frozen
class Observed:
    """What managed files show: path → text; path → errno of those that could not be read."""

    values: Mapping[str, str] = field(factory=dict, hash=False)
    errors: Mapping[str, int] = field(factory=dict, hash=False)


class Status(StrEnum):
    """How a file ended up that does not show what was asked of it."""

    LIMITED = "limited"
    FAILED = "failed"
    UNSETTLED = "unsettled"
    OFFLINE = "offline"
    DRIFTED = "drifted"


@frozen
class Outcome:
    """What came of one file. shows: its text at the end; errno: of a read or write that failed.

    LIMITED: the request is registered, but rounded or limited by another party; not an error.
    DRIFTED: somebody else's value (`shows`) was found and, by policy or back-off, left.
    """

    path: str
    group: str
    status: Status
    wanted: str
    shows: str | None = None
    errno: int | None = None


@frozen
class Pass:
    """How the agent's last pass went.

    refused: why nothing could be written; forbidden: files that cannot be, each with the remedy;
    drift: foreign values that were found.
    """

    outcomes: tuple[Outcome, ...] = ()
    drift: tuple[Write, ...] = ()
    settled: bool = True
    refused: str = ""
    answered: bool = True
    measure_only: bool = False
    owners: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
