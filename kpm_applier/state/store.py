"""What was there before us, what we asked for and where it settled: the state file (rules A3, A6,
A7).

One file for each root, private, written whole with fsync and rename, before the first write to a
group. Groups with equal records are stored once, so that a person can read it.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Protocol

from attrs import evolve

from kpm_applier.state.files import boot_id, read_plain, write_durably
from kpm_applier.state.record import GroupState, State, StateError, kind_and_number
from kpm_planner.model.cpuset import format_cpulist, parse_cpulist

VERSION = 1
_LONGEST_TEXT = 4096


class Store(Protocol):
    """Where the state is kept, with room for one writer. path: of its file."""

    path: str

    def lock(self) -> None:
        """Become the one writer. Errors: StateError."""
        ...

    def unlock(self) -> None:
        """Let another one write."""
        ...

    def load(self) -> State:
        """The state. Errors: StateError."""
        ...

    def save(self, state: State) -> None:
        """Keep the state. Errors: StateError."""
        ...


class StateStore:
    """The state file of one root below a folder, and the lock of its one writer."""

    def __init__(self, folder: str, root: str, *, live: bool) -> None:
        digest = hashlib.sha256(root.encode()).hexdigest()[:12]
        name = "sys" if live else f"{os.path.basename(root) or 'root'}-{digest}"
        self.folder, self.root, self.live = folder, root, live
        self.path = os.path.join(folder, f"{name}.json")
        self._lock_path = os.path.join(folder, f"{name}.lock")
        self._lock: int | None = None
        self._saved: State | None = None

    def lock(self) -> None:
        """Become the one writer of the root. Errors: StateError that names the holder."""
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            descriptor = os.open(
                self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as failure:
            raise StateError(_cannot("use", self.folder, failure)) from failure
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            holder = (
                os.read(descriptor, 200).decode("ascii", "replace").strip() or "another process"
            )
            os.close(descriptor)
            raise StateError(
                f"{self._lock_path}: {self.root} is being written by {holder}; only one writer is"
                " allowed"
            ) from failure
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}\n".encode())
        self._lock = descriptor

    def unlock(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def load(self) -> State:
        """The state; empty where there is no file or it is of another boot.

        Errors: StateError where it is not usable.
        """
        try:
            data = read_plain(self.path)
        except FileNotFoundError:
            return State(boot_id=self._boot_id())
        except OSError as failure:
            raise StateError(_cannot("read", self.path, failure)) from failure
        state = decode(data, self.path)
        boot = self._boot_id()
        self._saved = state
        if self.live and state.boot_id != boot:
            return State(boot_id=boot)
        return evolve(state, boot_id=boot)

    def save(self, state: State) -> None:
        """Write the state so that a crash leaves the old or the new one.

        Errors: StateError, nothing changed then.
        """
        if state == self._saved:
            return
        try:
            write_durably(self.path, encode(state, self.root))
        except OSError as failure:
            raise StateError(_cannot("write", self.path, failure)) from failure
        self._saved = state

    def _boot_id(self) -> str | None:
        return (boot_id() or None) if self.live else None


def _cannot(verb: str, path: str, failure: OSError) -> str:
    why = (
        "no space"
        if failure.errno in (errno.ENOSPC, errno.EDQUOT)
        else (failure.strerror or str(failure))
    )
    return f"{path}: cannot {verb} the state: {why}; nothing was written to the tree"


def encode(state: State, root: str) -> bytes:
    """The state file's content; equal records are written once, under all their keys."""
    by_record: dict[GroupState, list[str]] = {}
    for key, item in state.groups.items():
        by_record.setdefault(item, []).append(key)
    records: list[dict[str, Any]] = [
        {
            "groups": _folded(tuple(keys)),
            "driver": item.driver,
            "files": {
                label: {"baseline": base, "requested": asked, "settled": settled}
                for label, base, asked, settled in zip(
                    item.labels, item.baseline, item.requested, item.settled, strict=True
                )
            },
        }
        for item, keys in by_record.items()
    ]
    records.sort(key=lambda record: str(record["groups"]))
    # a line each, for people, and for the encoder that is written in C
    lines = ",\n".join(map(json.dumps, records))
    head = json.dumps({"version": VERSION, "root": root, "bootId": state.boot_id})
    return f'{head[:-1]}, "records": [\n{lines}\n]}}\n'.encode()


@lru_cache(maxsize=16)  # before and after the writes of a pass the same keys stand together
def _folded(keys: tuple[str, ...]) -> list[str]:
    """Group keys with their numbers as lists: cpufreq:0, cpufreq:1 as cpufreq:0-1."""
    numbers: dict[str, set[int]] = {}
    names = []
    for key in keys:
        kind, number = kind_and_number(key)
        if number is None:
            names.append(key)
        else:
            numbers.setdefault(kind, set()).add(number)
    return sorted([*names, *(f"{kind}:{format_cpulist(found)}" for kind, found in numbers.items())])


def _unfolded(text: str) -> Iterable[str]:
    kind, _, numbers = text.partition(":")
    if not numbers[:1].isdigit():
        return [text]
    return [f"{kind}:{number}" for number in parse_cpulist(numbers)]


def decode(data: bytes, path: str) -> State:
    """The state of a file's content.

    Errors: StateError where it is damaged or of a newer version.
    """
    remedy = "move it away to start anew from what the machine shows now"
    try:
        content = json.loads(data)
        version = content["version"]
        if version == VERSION:
            return State(_groups_of(content["records"]), _text(content["bootId"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
        raise StateError(
            f"{path}: the state file is damaged ({type(failure).__name__}); nothing was written to"
            f" the tree; {remedy}"
        ) from failure
    raise StateError(
        f"{path}: the state file has version {version!r}, this program knows {VERSION}; nothing was"
        " written to the tree; use the newer program"
    )


def _groups_of(records: list[dict[str, Any]]) -> dict[str, GroupState]:
    """The groups of a file's records.

    Errors: TypeError, ValueError, KeyError for whatever is not as it was written.
    """
    groups: dict[str, GroupState] = {}
    for record in records:
        files = record["files"]
        columns = [
            tuple(_text(item[name]) for item in files.values())
            for name in ("baseline", "requested", "settled")
        ]
        state = GroupState(_needed(record["driver"]), tuple(map(_needed, files)), *columns)
        if not isinstance(record["groups"], list):
            raise TypeError("groups")
        groups.update(
            dict.fromkeys(
                (key for text in record["groups"] for key in _unfolded(_needed(text))), state
            )
        )
    return groups


def _text(value: object) -> str | None:
    """A text as sysfs files hold it, or None."""
    return None if value is None else _needed(value)


def _needed(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    if len(value) > _LONGEST_TEXT:
        raise ValueError(value[:_LONGEST_TEXT])
    return value
