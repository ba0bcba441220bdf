"""CPU time and CPUs of cgroups: the tree of version 2, of version 1, and of both side by side.

A cgroup's own counter holds the time of every process that was ever in it, however short its life,
to the µs (kernel documentation, cgroup-v2 cpu.stat and cgroup-v1 cpuacct).
"""

import errno
from collections.abc import Callable, Iterator

from attrs import define, field, frozen

from kpm_applier.measure.counters import CounterFiles

#: More cgroups than these are not looked at, none below so many others, and the walk ends after so
#: many folders.
MOST_CGROUPS, _DEEPEST, _MOST_FOLDERS = 10_000, 24, 40_000
#: Of so many folders at most it is noticed at once that they get others; in more, at the next look
#: at everything.
_MOST_WATCHED = 2_000
#: Bytes of a CPU list that are read.
_LONGEST_LIST = 1 << 14
_V1 = ("cpu,cpuacct", "cpuacct", "cpuacct,cpu")


@frozen
class Layout:
    """Where CPU time is. base: folder of the tree below the root, "" for the root itself; file: of
    each cgroup.
    """

    version: int
    base: str
    file: str


def layout_of(files: CounterFiles) -> Layout | None:
    """The layout of a cgroup file system.

    Where both versions are mounted, version 1 has the containers.
    """
    names = set(files.names(""))
    if "cgroup.controllers" in names:
        return Layout(2, "", "cpu.stat")
    for name in _V1:
        if "cpuacct.usage" in files.names(name):
            return Layout(1, name, "cpuacct.usage")
    return (
        Layout(2, "unified", "cpu.stat") if "cgroup.controllers" in files.names("unified") else None
    )


def cpuset_layout(files: CounterFiles) -> Layout | None:
    """Where the CPUs are that a cgroup's processes may run on (kernel documentation, cpuset)."""
    if "cpuset.cpus" in files.names("cpuset"):
        return Layout(1, "cpuset", "cpuset.effective_cpus")
    return (
        Layout(2, "", "cpuset.cpus.effective") if "cgroup.controllers" in files.names("") else None
    )


@define
class Cgroups:
    """The cgroups of a machine that are wanted. wanted: whether a path, below the tree's base, is
    one whose time counts.

    dropped: how many are not looked at because there are too many; 1 or more where that is not
    known.
    """

    files: CounterFiles
    layout: Layout
    wanted: Callable[[str], bool]
    paths: tuple[str, ...] = ()
    dropped: int = 0
    _links: dict[str, int | None] = field(factory=dict)
    _lost: bool = True

    def look(self, *, anew: bool = False) -> bool:
        """Find them again where a folder has got or lost others, or one of them is gone; whether
        that was so.
        """
        if (
            not anew
            and not self._lost
            and all(
                count is not None and self.files.links(folder) == count
                for folder, count in self._links.items()
            )
        ):
            return False
        found, watched, whole = self._walk()
        self.dropped = max(0 if whole else 1, len(found) - MOST_CGROUPS)
        self.paths = tuple(sorted(found)[:MOST_CGROUPS])
        self.files.keep_only((self._file(path) for path in self.paths), watched)
        self._links = {folder: self.files.links(folder) for folder in watched}
        self._lost = False
        return True

    def usage_us(self) -> dict[str, int]:
        """Path → CPU time since the cgroup was made, µs; without those that are gone or say no
        number.
        """
        found, version = {}, self.layout.version
        for path, content in self._contents(64):
            used = None if isinstance(content, OSError) else parse_usage(content, version)
            if used is not None:
                found[path] = used
        return found

    def cpusets(self) -> dict[str, str]:
        """Path → the CPU list of its file, without those that are gone.

        Errors: OSError for one that is there and cannot be read: then it is not known who shares
        CPUs.
        """
        found = {}
        for path, content in self._contents(_LONGEST_LIST):
            if not isinstance(content, OSError):
                found[path] = content.decode("ascii", "replace").strip()
            elif content.errno not in (errno.ENOENT, errno.ENODEV):
                raise content
        return found

    def _contents(self, size: int) -> Iterator[tuple[str, bytes | OSError]]:
        """What each wanted cgroup's file holds."""
        read = self.files.read_all([self._file(path) for path in self.paths], size)
        for path, content in zip(self.paths, read, strict=True):
            if isinstance(content, OSError):
                self._lost = True
                self.files.drop(self._file(path))  # one of the same name is another one
            yield path, content

    def _file(self, path: str) -> str:
        return f"{_joined(self.layout.base, path)}/{self.layout.file}"

    def _walk(self) -> tuple[list[str], list[str], bool]:
        """The wanted ones, also those inside of others, the folders in which others may come, and
        whether that was all of the tree.
        """
        found: dict[str, None] = {}
        watched: dict[str, None] = {}
        waiting = [("", "", 0)]
        seen = 0
        while waiting and seen <= _MOST_FOLDERS:
            path, holder, depth = waiting.pop()
            if not holder and len(watched) < _MOST_WATCHED:
                watched[path] = None
            for name in (
                self.files.folders(_joined(self.layout.base, path)) if depth < _DEEPEST else ()
            ):
                seen += 1
                child, inside = _joined(path, name), holder
                if self.wanted(child):
                    found[child] = None
                    inside = child
                    if holder:
                        _watch_above(path, watched)
                waiting.append((child, inside, depth + 1))
        return list(found), [_joined(self.layout.base, folder) for folder in watched], not waiting


def _watch_above(path: str, watched: dict[str, None]) -> None:
    """Watch a folder in a container in which another one is, and those above it."""
    while path and path not in watched:
        watched[path] = None
        path = path.rpartition("/")[0]


def parse_usage(content: bytes, version: int) -> int | None:
    """CPU time in µs out of cpu.stat (version 2) or cpuacct.usage (version 1, ns); None for what is
    no number.

    >>> parse_usage(b"usage_usec 1500\\nuser_usec 1000\\n", 2), parse_usage(b"1500999\\n", 1)
    (1500, 1500)
    >>> parse_usage(b"usage_usec -1\\n", 2) is None
    True
    """
    if version == 1:
        digits = content.strip()
        return int(digits) // 1000 if digits.isdigit() else None
    name, _, digits = content.partition(b"\n")[0].partition(b" ")
    return int(digits) if name == b"usage_usec" and digits.isdigit() else None


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)
