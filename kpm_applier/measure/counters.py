"""Files of procfs and cgroupfs, read again and again through kept descriptors; folders, and whether
one has got others below it.

Beside sysfs.py the only module that opens what counts. Paths come from listings of the root itself;
a link at their end is not followed. Nothing is ever written.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Sequence

from kpm_applier.sysfs.descriptors import DESCRIPTORS, raise_limit

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER = _READ | os.O_DIRECTORY
_PAGE, _WHOLE = 4096, 1 << 20
#: Most bytes of one read: room for them is made before it is known how many there are.
_PART = 1 << 16
#: Of the descriptors that the process may keep, the share of counters: managed files go first.
_PART_NAME, _SHARE = "counters", 0.5


class CounterFiles:
    """A tree below `root`. Errors: NotADirectoryError where it is none."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        if not root or not os.path.isdir(self.root):
            raise NotADirectoryError(errno.ENOTDIR, "is not a folder", root)
        self._files: dict[str, int] = {}
        self._folders: dict[str, int] = {}
        raise_limit()

    def read(self, path: str, size: int = _PAGE) -> bytes:
        """The beginning of a file.

        Errors: OSError, with ENODEV or ESRCH for one whose cgroup or process is gone.
        """
        descriptor = self._files.get(path)
        if descriptor is None:
            if not DESCRIPTORS.take(_PART_NAME, _SHARE):
                return self.read_once(path, size)
            descriptor = self._files[path] = self._open(path, _READ)
        return os.pread(descriptor, size, 0)

    def _open(self, path: str, flags: int) -> int:
        """Open what is to be kept, with its place in the budget taken already.

        Errors: OSError, and the place is free again.
        """
        try:
            return os.open(f"{self.root}/{path}", flags)
        except OSError:
            DESCRIPTORS.give(_PART_NAME)
            raise

    def read_all(self, paths: Sequence[str], size: int = _PAGE) -> list[bytes | OSError]:
        """The beginnings of many files, or why they cannot be read."""
        found: list[bytes | OSError] = []
        kept, pread = self._files, os.pread
        for path in paths:
            try:
                descriptor = kept.get(path)
                found.append(
                    self.read(path, size) if descriptor is None else pread(descriptor, size, 0)
                )
            except OSError as failure:
                found.append(failure)
        return found

    def read_once(self, path: str, size: int = _PAGE) -> bytes:
        """The beginning of a file that is not kept open, in as many reads as it takes.

        Errors: OSError.
        """
        descriptor = os.open(f"{self.root}/{path}", _READ)
        try:
            content = b""
            while len(content) < size and (
                part := os.read(descriptor, min(size - len(content), _PART))
            ):
                content += part
            return content
        finally:
            os.close(descriptor)

    def read_whole(self, path: str) -> bytes:
        """A file however long it is, up to a megabyte; not kept open."""
        return self.read_once(path, _WHOLE)

    def link(self, path: str) -> str:
        """Where a link leads, as text; "" where it cannot be read. It is not followed."""
        try:
            return os.readlink(f"{self.root}/{path}")
        except OSError:
            return ""

    def names(self, path: str) -> tuple[str, ...]:
        """Names in a folder, none where it cannot be read."""
        try:
            return tuple(os.listdir(f"{self.root}/{path}"))
        except OSError:
            return ()

    def folders(self, path: str) -> tuple[str, ...]:
        """Names of the folders in a folder; links are none."""
        try:
            with os.scandir(f"{self.root}/{path}") as entries:
                return tuple(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            return ()

    def links(self, path: str) -> int | None:
        """How many folders a folder has, as its link count tells; None where the file system does
        not count, or the folder is gone.
        """
        try:
            descriptor = self._folders.get(path)
            count = self._count(path) if descriptor is None else os.fstat(descriptor).st_nlink
        except OSError:
            return None
        return count if count > 1 else None

    def _count(self, path: str) -> int:
        if DESCRIPTORS.take(_PART_NAME, _SHARE):
            descriptor = self._folders[path] = self._open(path, _FOLDER)
            return os.fstat(descriptor).st_nlink
        return os.stat(f"{self.root}/{path}", follow_symlinks=False).st_nlink

    def keep_only(self, files: Iterable[str], folders: Iterable[str]) -> None:
        """Close every descriptor but these."""
        _close(self._files, files)
        _close(self._folders, folders)

    def drop(self, path: str) -> None:
        """Close one file."""
        descriptor = self._files.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)
            DESCRIPTORS.give(_PART_NAME)

    def close(self) -> None:
        """Close all."""
        self.keep_only((), ())


def _close(kept: dict[str, int], wanted: Iterable[str]) -> None:
    for path in kept.keys() - set(wanted):
        with contextlib.suppress(OSError):
            os.close(kept.pop(path))
        DESCRIPTORS.give(_PART_NAME)
