"""The one interface to a /sys tree: real, a copy in a folder, or a model in memory.

Paths are relative to the root and use "/". Contents are bytes as the kernel gives them, newline
included. Failures are OSError with the kernel's errno.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Watch(Protocol):
    """Files with the contents they should have."""

    def same(self) -> bool:
        """Whether every file still has its content; OSError where one cannot be read."""
        ...


class Host(Protocol):
    """A /sys tree."""

    @property
    def live(self) -> bool:
        """Whether this is the running kernel's own /sys."""
        ...

    def read(self, path: str) -> bytes:
        """The content of a file."""
        ...

    def read_all(self, paths: Sequence[str]) -> Sequence[bytes | OSError]:
        """The contents of many files, or why they cannot be read."""
        ...

    def differing(
        self, paths: Sequence[str], expected: Sequence[bytes]
    ) -> dict[str, bytes | OSError]:
        """Of many files, the contents of those that do not hold what is expected, or why they
        cannot be read.
        """
        ...

    def write(self, path: str, data: bytes) -> None:
        """Hand data to a file in one write."""
        ...

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        """Hand data to many files, in order; the failures by path."""
        ...

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def watch(self, files: Mapping[str, bytes]) -> Watch:
        """Keep the files open and compare them cheaply from now on."""
        ...

    def keep(self, paths: Iterable[str]) -> None:
        """Keep files open without reading them; one that cannot be
        opened is left to its next use.
        """
        ...

    def forget(self) -> None:
        """Close what is kept open: after hotplug, a driver switch or ENODEV nothing of it is worth
        keeping.
        """
        ...


def read_text(host: Host, path: str) -> str | None:
    """The text of a file without surrounding blanks; None where it cannot be read."""
    try:
        return host.read(path).decode("ascii", "replace").strip()
    except OSError:
        return None


def read_one_by_one(host: Host, paths: Iterable[str]) -> list[bytes | OSError]:
    """The contents of many files through `read`, or why they cannot be read."""
    found: list[bytes | OSError] = []
    for path in paths:
        try:
            found.append(host.read(path))
        except OSError as failure:
            found.append(failure)
    return found


def differing_one_by_one(
    host: Host, paths: Sequence[str], expected: Sequence[bytes]
) -> dict[str, bytes | OSError]:
    """Of many files, through `read_all`, the contents of those that do not hold what is expected,
    or why they cannot be read.
    """
    found = zip(paths, host.read_all(paths), expected, strict=True)
    return {path: content for path, content, wanted in found if content != wanted}


def write_one_by_one(host: Host, writes: Iterable[tuple[str, bytes]]) -> dict[str, OSError]:
    """Hand data to many files through `write`; the failures by path."""
    failures = {}
    for path, data in writes:
        try:
            host.write(path, data)
        except OSError as failure:
            failures[path] = failure
    return failures
