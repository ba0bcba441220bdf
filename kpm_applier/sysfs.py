"""A Host on files: the running kernel's /sys or any tree of the same shape. The only module that opens them.

It never leaves its root: a link that points outside is refused (rule A5). A read takes one page at most.
"""

import errno
import os
import stat
import time
from collections.abc import Iterable, Mapping

from attrs import define

_PAGE = 4096
#: Most managed files are shorter; a read of this size tells whether one has grown.
_SHORT = 64
_COMMON = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


@define
class _FileWatch:
    entries: list[tuple[int, int, bytes]]

    def same(self) -> bool:
        pread = os.pread
        for descriptor, size, expected in self.entries:  # noqa: SIM110 - measured: a generator costs a fifth more
            if pread(descriptor, size, 0) != expected:
                return False
        return True


class SysfsHost:
    """A tree of files below `root`."""

    def __init__(self, root: str = "/sys") -> None:
        self.root = os.path.realpath(root)
        if not os.path.isdir(self.root):
            raise NotADirectoryError(errno.ENOTDIR, "is not a folder", root)
        self._folders: dict[str, str] = {"": self.root}
        self._kept: dict[str, int] = {}

    @property
    def live(self) -> bool:
        """Whether this is the running kernel's own /sys."""
        return self.root == "/sys"

    def read(self, path: str) -> bytes:
        """The first page of a file."""
        kept = self._kept.get(path)
        if kept is not None:
            return os.pread(kept, _PAGE, 0)
        descriptor = self._open(path, os.O_RDONLY)
        try:
            return os.read(descriptor, _PAGE)
        finally:
            os.close(descriptor)

    def write(self, path: str, data: bytes) -> None:
        """Hand data to a file in one write; a plain file is cut to it, as a sysfs file is by itself."""
        kept = self._kept.get(path)
        descriptor = kept if kept is not None else self._open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            written = os.write(descriptor, data) if kept is None else self._write_kept(descriptor, data)
        finally:
            if kept is None:
                os.close(descriptor)
        if written != len(data):
            raise OSError(errno.EIO, "short write", path)

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""
        return tuple(sorted(os.listdir(self._folder(path))))

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def watch(self, files: Mapping[str, bytes]) -> _FileWatch:
        """Keep the files open and compare them cheaply from now on."""
        self.keep(files)
        return _FileWatch([(self._kept[path], _SHORT if len(content) < _SHORT else _PAGE, content) for path, content in files.items()])

    def keep(self, paths: Iterable[str]) -> None:
        """Keep files open, for writing too where that is allowed."""
        for path in paths:
            if path not in self._kept:
                try:
                    self._kept[path] = self._open(path, os.O_RDWR)
                except PermissionError:
                    self._kept[path] = self._open(path, os.O_RDONLY)
                except OSError as failure:
                    if failure.errno != errno.EROFS:
                        raise
                    self._kept[path] = self._open(path, os.O_RDONLY)

    def forget(self) -> None:
        """Close what is kept open and look at every folder anew."""
        for descriptor in self._kept.values():
            os.close(descriptor)
        self._kept.clear()
        self._folders = {"": self.root}

    def _write_kept(self, descriptor: int, data: bytes) -> int:
        written = os.pwrite(descriptor, data, 0)
        if os.fstat(descriptor).st_blocks:  # sysfs files occupy none
            os.ftruncate(descriptor, len(data))
        return written

    def _open(self, path: str, flags: int) -> int:
        folder, _, name = path.rpartition("/")
        full = f"{self._folder(folder)}/{name}"
        descriptor = os.open(full, flags | _COMMON)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "is not a plain file", path)
        return descriptor

    def _folder(self, path: str) -> str:
        """The real path of a folder, each link on the way checked once."""
        known = self._folders.get(path)
        if known is not None:
            return known
        parent, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise OSError(errno.EINVAL, "is not a plain path", path)
        full = f"{self._folder(parent)}/{name}"
        if os.path.islink(full):
            full = os.path.realpath(full)
            if not full.startswith(f"{self.root}/"):
                raise PermissionError(errno.EACCES, "leads out of the tree", path)
        self._folders[path] = full
        return full
