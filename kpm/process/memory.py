"""What a node remembers of objects: their last valid versions (rule R8), and whose CPU counts were
found right.

One file beside the applier's state, good over boots, since it speaks of objects and not of
registers. It is kept before the first write under it. Without it a plan is as if nothing had been
there before, and says so where that matters.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from attrs import evolve, frozen

from kpm.formats.wire import WireError, document_of_object, parse_time, structure_object
from kpm.process.errors import InputError, one_line
from kpm_applier.state.files import read_plain, remove_durably, write_durably
from kpm_applier.state.record import StateError
from kpm_planner.versions import Version, Versions

VERSION = 1
#: Bytes of one object and of the file; an object that is larger is not remembered.
_LARGEST_OBJECT, _LARGEST_FILE = 64 << 10, 4 << 20
_MOST_CONTAINERS = 4096
_LONGEST_NAME = 256
OFFLINE = (
    "whether an earlier version of it is in force on the node, and which, cannot be known here; kpm"
    " apply and the agent know"
)


@frozen
class Remembered:
    """What is kept. accepted: (pod uid, container) whose CPU count was compared and found right."""

    versions: tuple[Version, ...] = ()
    accepted: frozenset[tuple[str, str]] = frozenset()


class Memory:
    """The memory of one root. path: None to keep nothing over the end of the process. note: what
    was lost, or nothing.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path, self.note, self.found = path, "", False
        self.now = Remembered()
        if path is not None:
            self._load(path)

    @property
    def versions(self) -> Versions:
        """The versions as a plan takes them."""
        return Versions(self.now.versions, self.note)

    def keep(self, versions: tuple[Version, ...], accepted: frozenset[tuple[str, str]]) -> None:
        """Remember these from now on; nothing is written while they are the same.

        Errors: StateError, nothing changed then.
        """
        new = Remembered(versions, accepted)
        if new == self.now:
            return
        try:
            if self.path is not None and new == Remembered():
                remove_durably(self.path)
            elif self.path is not None:
                write_durably(self.path, encode(new))
        except OSError as failure:
            raise StateError(
                f"{self.path}: cannot keep the last valid versions: {failure.strerror}; nothing was"
                " written to the tree"
            ) from failure
        self.now = new

    def forget(self) -> None:
        """Everything was put back: nothing is in force any more. Errors: StateError."""
        self.keep((), frozenset())

    def _load(self, path: str) -> None:
        try:
            self.now = decode(read_plain(path, _LARGEST_FILE))
            self.found = True
        except FileNotFoundError:
            pass
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            WireError,
        ) as failure:
            why = (
                failure.strerror
                if isinstance(failure, OSError)
                else f"it is damaged ({type(failure).__name__})"
            )
            self.note = f"which version of it was last valid here is lost: {path}: {why}; baseline"


def path_beside(state_path: str) -> str:
    """The memory's file that belongs to a state file."""
    return f"{state_path.removesuffix('.json')}.versions"


def memory_beside(state_path: str) -> Memory:
    """The memory that belongs to a state file."""
    return Memory(path_beside(state_path))


def version_view(version: Version) -> dict[str, Any]:
    """A version as files hold it."""
    return {
        "object": document_of_object(version.obj),
        "since": None if version.since is None else version.since.isoformat(),
    }


def version_of(content: Mapping[str, Any]) -> Version:
    """The opposite. Errors: KeyError, TypeError, ValueError, WireError for anything else."""
    since = content["since"]
    obj: Any = structure_object(content["object"], strict=False)
    return Version(obj, None if since is None else _aware(parse_time(since, "since")))


def _aware(moment: datetime) -> datetime:
    if not 1 < moment.year < 9999:  # the arithmetic of time zones would leave the calendar
        raise ValueError(moment)
    return moment


def versions_view(versions: Versions) -> dict[str, Any]:
    """Versions as snapshots hold them; nothing where all is said by its being left out."""
    return {
        **({"versions": [version_view(item) for item in versions.items]} if versions.items else {}),
        **({"versionsNote": versions.note} if versions.note else {}),
    }


def versions_from(content: Any, place: str) -> Versions:
    """The opposite; an earlier recording holds none. Errors: InputError."""
    held = content if isinstance(content, dict) else {}
    try:
        items = tuple(map(version_of, _list(held.get("versions", []))))
    except (KeyError, TypeError, ValueError, WireError) as failure:
        raise InputError(
            f"{place}.versions: expected objects, each with since when it was valid:"
            f" {one_line(failure)}"
        ) from None
    return Versions(items, str(held.get("versionsNote", ""))[:_LONGEST_NAME])


def encode(kept: Remembered) -> bytes:
    """The file's content; what is too large is left out."""
    room, versions = _LARGEST_FILE // 2, []
    for version in kept.versions:
        view = version_view(version)
        size = len(json.dumps(view))
        if size <= min(_LARGEST_OBJECT, room):
            versions.append(view)
            room -= size
    accepted = sorted(item for item in kept.accepted if max(map(len, item)) <= _LONGEST_NAME)[
        :_MOST_CONTAINERS
    ]
    return (
        json.dumps({"version": VERSION, "versions": versions, "accepted": accepted}, indent=1)
        + "\n"
    ).encode()


def decode(data: bytes) -> Remembered:
    """What a file keeps.

    Errors: KeyError, TypeError, ValueError, WireError where it is damaged or of another version.
    """
    content = json.loads(data)
    if content["version"] != VERSION:
        raise ValueError(f"version {content['version']!r}")
    return Remembered(
        tuple(map(version_of, _list(content["versions"]))), frozenset(_pairs(content["accepted"]))
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return value


def _pairs(value: Any) -> Iterable[tuple[str, str]]:
    for uid, name in _list(value):
        if not isinstance(uid, str) or not isinstance(name, str):
            raise TypeError(type(uid).__name__)
        yield uid, name


def known_offline(memory: Memory) -> Versions:
    """The versions for a plan that nobody carries out: where there is no memory, they are not
    known.
    """
    return memory.versions if memory.found or memory.note else evolve(memory.versions, note=OFFLINE)
