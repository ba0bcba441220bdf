"""How far the writing of a machine has come, on a terminal: a bar that is gone once it is done."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from attrs import define

from kpm_applier.session import Applier
from kpm_applier.sysfs.host import Host

#: Files after which the bar moves on.
_PIECE = 64


@define(eq=False)
class _Counted:
    """A host that tells how many files were written; in all else the one behind it."""

    host: Host
    told: Callable[[int], object]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.host, name)

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        """Hand data to many files, in order; the failures by path."""
        failures: dict[str, OSError] = {}
        for start in range(0, len(writes), _PIECE):
            piece = writes[start : start + _PIECE]
            failures |= self.host.write_all(piece)
            self.told(len(piece))
        return failures


@contextmanager
def progress(applier: Applier) -> Iterator[Callable[[Callable[[], int]], None]]:
    """Show on standard error what an applier writes meanwhile, where that is a terminal. Yields
    what takes the number of files that are to be written, and asks for it only then.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("writing"), BarColumn(), MofNCompleteColumn(), TextColumn("files"))
    plain = applier.host
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        applier.host = cast("Host", _Counted(plain, lambda count: bar.advance(task, count)))
        try:
            # turbo is written first, and what remains is planned anew
            yield lambda count: bar.update(task, total=bar.tasks[task].completed + count())
        finally:
            applier.host = plain
