"""A tree of files and the mailbox of an AMD machine's firmware as one Host.

What lies below the folder `hsmp` is the mailbox's, all else is the tree's. A pass in which nothing
changes goes to the tree's descriptors directly; only the few files of the mailbox are asked one by
one.
"""

from collections.abc import Iterable, Mapping, Sequence

from attrs import define

from kpm_applier.attributes import HSMP_ROOT
from kpm_applier.sysfs.host import (
    Watch,
    differing_one_by_one,
    read_one_by_one,
    write_one_by_one,
)
from kpm_applier.sysfs.hsmp import Hsmp
from kpm_applier.sysfs.tree import SysfsHost

_BELOW = f"{HSMP_ROOT}/"


def _of_mailbox(path: str) -> bool:
    return path.startswith(_BELOW)


@define(eq=False)
class Composite:
    """Files and mailbox. Errors of all methods: OSError with the errno of the part that failed."""

    files: SysfsHost
    mailbox: Hsmp

    @property
    def live(self) -> bool:
        """Whether the tree is the running kernel's own /sys."""
        return self.files.live

    def read(self, path: str) -> bytes:
        """The content of a file."""
        return self.mailbox.read(path) if _of_mailbox(path) else self.files.read(path)

    def read_all(self, paths: Sequence[str]) -> Sequence[bytes | OSError]:
        """The contents of many files, or why they cannot be read."""
        told = [path for path in paths if _of_mailbox(path)]
        if not told:
            return self.files.read_all(paths)
        answers = dict(zip(told, read_one_by_one(self, told), strict=True))
        rest = [path for path in paths if path not in answers]
        answers |= zip(rest, self.files.read_all(rest), strict=True)
        return [answers[path] for path in paths]

    def differing(
        self, paths: Sequence[str], expected: Sequence[bytes]
    ) -> dict[str, bytes | OSError]:
        """Of many files, the contents of those that do not hold what is expected, or why they
        cannot be read.
        """
        told = [path for path in paths if _of_mailbox(path)]
        if not told:
            return self.files.differing(paths, expected)
        wanted = dict(zip(paths, expected, strict=True))
        rest = [path for path in paths if not _of_mailbox(path)]
        found = self.files.differing(rest, [wanted[path] for path in rest])
        return found | differing_one_by_one(self, told, [wanted[path] for path in told])

    def write(self, path: str, data: bytes) -> None:
        """Hand data to a file in one write."""
        if _of_mailbox(path):
            self.mailbox.write(path, data)
        else:
            self.files.write(path, data)

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        """Hand data to many files, in order; the failures by path."""
        if any(_of_mailbox(path) for path, _ in writes):
            return write_one_by_one(self, writes)
        return self.files.write_all(writes)

    def refuses_writing(self, path: str) -> int:
        """The errno of opening a file for writing, 0 where it can be; nothing is written."""
        if _of_mailbox(path):
            return self.mailbox.refuses_writing()
        return self.files.refuses_writing(path)

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted."""
        return self.mailbox.list(path) if path == HSMP_ROOT else self.files.list(path)

    def wait(self, seconds: float) -> None:
        """Sleep."""
        self.files.wait(seconds)

    def now(self) -> float:
        """Monotonic seconds."""
        return self.files.now()

    def watch(self, files: Mapping[str, bytes]) -> Watch:
        """Compare files cheaply from now on; those of the mailbox by asking anew."""
        told = {path: content for path, content in files.items() if _of_mailbox(path)}
        rest = {path: content for path, content in files.items() if path not in told}
        return _Both(self.files.watch(rest), self.mailbox, told)

    def keep(self, paths: Iterable[str]) -> None:
        """Keep files of the tree open."""
        self.files.keep(path for path in paths if not _of_mailbox(path))

    def forget(self) -> None:
        """Close what is kept open, and look for the mailbox anew when it is next used."""
        self.files.forget()
        self.mailbox.close()


@define
class _Both:
    """Files of the tree and of the mailbox with the contents they should have."""

    tree: Watch
    mailbox: Hsmp
    told: dict[str, bytes]

    def same(self) -> bool:
        """Whether every file still has its content."""
        return self.tree.same() and all(
            self.mailbox.read(path) == content for path, content in self.told.items()
        )
