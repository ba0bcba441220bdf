"""A Host on files: the running kernel's /sys or any tree of the same shape.

The only module that opens them.

It never leaves its root: a link that points outside is refused (rule A5). A read takes one page at
most.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence

from attrs import define

from kpm_applier.sysfs.descriptors import DESCRIPTORS, raise_limit
from kpm_applier.sysfs.host import Watch

_PAGE = 4096
#: Most managed files are shorter; a read of this size tells whether one has grown.
_SHORT = 64
_PART_NAME = "managed"
_COMMON = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


@define
class _FileWatch:
    entries: list[tuple[int, int, bytes]]

    def same(self) -> bool:
        pread = os.pread
        for descriptor, size, expected in self.entries:
            if pread(descriptor, size, 0) != expected:
                return False
        return True


@define
class _PathWatch:
    """The slow way, where there are not enough descriptors."""

    host: "SysfsHost"
    files: dict[str, bytes]

    def same(self) -> bool:
        return all(self.host.read(path) == content for path, content in self.files.items())


def _is_sysfs(folder: str) -> bool:
    """Whether a folder lies on a mounted sysfs, as in a container that sees the host's below
    another name.
    """
    best, kind = "", ""
    with (
        contextlib.suppress(OSError),
        open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file,
    ):
        for line in file:
            words = line.split()
            point, mark = words[4], words.index("-")
            if len(point) >= len(best) and (
                folder == point or folder.startswith(f"{point.rstrip('/')}/")
            ):
                best, kind = point, words[mark + 1]
    return kind == "sysfs"


class SysfsHost:
    """A tree of files below `root`."""

    #: Whether this process itself writes.
    writes = True

    def __init__(self, root: str = "/sys") -> None:
        self.root = os.path.realpath(root)
        if not root or not os.path.isdir(self.root):
            raise NotADirectoryError(errno.ENOTDIR, "is not a folder", root)
        self._folders: dict[str, str] = {"": self.root}
        self._kept: dict[str, int] = {}
        self._plain: set[int] = set()
        self._writable: dict[str, int] = {}

    @property
    def live(self) -> bool:
        """Whether this is the running kernel's own /sys, perhaps mounted elsewhere."""
        return self.root == "/sys" or _is_sysfs(f"{self.root}/devices/system/cpu")

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

    def read_all(self, paths: Sequence[str]) -> Sequence[bytes | OSError]:
        """The first pages of many files, or why they cannot be read."""
        found: list[bytes | OSError] = []
        kept, pread = self._kept, os.pread
        for path in paths:
            try:
                descriptor = kept.get(path)
                content = self.read(path) if descriptor is None else pread(descriptor, _SHORT, 0)
                found.append(content if len(content) != _SHORT else self.read(path))
            except OSError as failure:
                found.append(failure)
        return found

    def differing(
        self, paths: Sequence[str], expected: Sequence[bytes]
    ) -> dict[str, bytes | OSError]:
        """Of many files, the contents of those that do not hold what is expected (shorter than 64
        bytes).
        """
        found: dict[str, bytes | OSError] = {}
        kept, pread = self._kept, os.pread
        for path, content in zip(paths, expected, strict=True):
            try:
                if pread(kept[path], _SHORT, 0) != content:
                    found[path] = self.read(path)
            except (KeyError, OSError) as failure:
                self._differing_slowly(path, content, failure, found)
        return found

    def _differing_slowly(
        self, path: str, content: bytes, failure: Exception, found: dict[str, bytes | OSError]
    ) -> None:
        """One file that is not kept, or could not be read."""
        try:
            if isinstance(failure, OSError):
                raise failure
            now = self.read(path)
            if now != content:
                found[path] = now
        except OSError as refusal:
            found[path] = refusal

    def write(self, path: str, data: bytes) -> None:
        """Hand data to a file in one write; a plain file is cut to it, as a sysfs file is by
        itself.
        """
        kept = self._writable.get(path)
        if kept is not None:
            written = os.pwrite(kept, data, 0)
            if kept in self._plain:
                os.ftruncate(kept, len(data))
        else:
            descriptor = self._open(path, os.O_WRONLY | os.O_TRUNC)
            try:
                written = os.write(descriptor, data)
            finally:
                os.close(descriptor)
        if written != len(data):
            raise OSError(errno.EIO, "short write", path)

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        """Hand data to many files, in order; the failures by path."""
        failures: dict[str, OSError] = {}
        writable, plain, pwrite, cut = self._writable.get, self._plain, os.pwrite, os.ftruncate
        for path, data in writes:
            try:
                kept = writable(path)
                if kept is None or (written := pwrite(kept, data, 0)) != len(data):
                    self.write(path, data)
                elif kept in plain:
                    cut(kept, written)
            except OSError as failure:
                failures[path] = failure
        return failures

    def refuses_writing(self, path: str) -> int:
        """The errno of opening a file for writing, 0 where it can be; nothing is written."""
        try:
            os.close(self._open(path, os.O_WRONLY))
        except OSError as failure:
            return failure.errno or errno.EIO
        return 0

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""
        return tuple(sorted(os.listdir(self._folder(path))))

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def watch(self, files: Mapping[str, bytes]) -> Watch:
        """Keep the files open and compare them cheaply from now on: the files, not what may take
        their names later.
        """
        try:
            kept = {path: self._descriptor(path) for path in files}
        except OSError as failure:
            if failure.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self.forget()  # better slow than without a descriptor left for anything else
            return _PathWatch(self, dict(files))
        return _FileWatch(
            [
                (kept[path], _SHORT if len(content) < _SHORT else _PAGE, content)
                for path, content in files.items()
            ]
        )

    def keep(self, paths: Iterable[str]) -> None:
        """Keep files open, for writing too where that is allowed; one that cannot be opened is left
        to its next use.
        """
        for path in paths:
            if path not in self._kept:
                with contextlib.suppress(OSError):
                    self._keep(path)

    def _descriptor(self, path: str) -> int:
        kept = self._kept.get(path)
        return self._keep(path) if kept is None else kept

    def _keep(self, path: str) -> int:
        if not DESCRIPTORS.take(_PART_NAME):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        try:
            descriptor = self._open_to_keep(path)
        except OSError:
            DESCRIPTORS.give(_PART_NAME)
            raise
        if os.fstat(descriptor).st_blocks:  # files of sysfs occupy none and need no cutting
            self._plain.add(descriptor)
        self._kept[path] = descriptor
        return descriptor

    def _open_to_keep(self, path: str) -> int:
        """Open, for writing too where that is meant and allowed. Errors: OSError."""
        try:
            descriptor = self._open_raising_limit(path, os.O_RDWR if self.writes else os.O_RDONLY)
        except OSError as failure:
            if failure.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return self._open_raising_limit(path, os.O_RDONLY)
        if self.writes:
            self._writable[path] = descriptor
        return descriptor

    def forget(self) -> None:
        """Close what is kept open and look at every folder anew."""
        for descriptor in self._kept.values():
            os.close(descriptor)
        DESCRIPTORS.give(_PART_NAME, len(self._kept))
        self._kept.clear()
        self._plain.clear()
        self._writable.clear()
        self._folders = {"": self.root}

    def _open_raising_limit(self, path: str, flags: int) -> int:
        """Open; the soft limit of descriptors is raised to the hard one
        the first time it is met.
        """
        try:
            return self._open(path, flags)
        except OSError as failure:
            soft, hard = raise_limit() if failure.errno == errno.EMFILE else (0, 0)
            if soft >= hard:
                raise
            return self._open(path, flags)

    def _open(self, path: str, flags: int) -> int:
        folder, _, name = path.rpartition("/")
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._look_anew(folder)
        full = f"{self._folder(folder)}/{name}"
        descriptor = os.open(full, flags | _COMMON)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "is not a plain file", path)
        return descriptor

    def _look_anew(self, folder: str) -> None:
        """Forget what is known of a folder and those above it: nothing is written through an old
        look at a link.
        """
        while folder:
            self._folders.pop(folder, None)
            folder = folder.rpartition("/")[0]

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
