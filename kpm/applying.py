"""An Applier for the options of the command line."""

from collections.abc import Iterator
from contextlib import contextmanager

from kpm.errors import InputError, one_line
from kpm_applier.diff import Repair
from kpm_applier.discover import HostError
from kpm_applier.session import Applier
from kpm_applier.state import StateStore
from kpm_applier.sysfs import SysfsHost


@contextmanager
def open_applier(sysfs: str, state_dir: str, *, writing: bool = True, repair: Repair = Repair.WRITE) -> Iterator[Applier]:
    """The applier of one root. Errors: InputError where the tree cannot be used, StateError of its state."""
    try:
        host = SysfsHost(sysfs)
        applier = Applier(host, StateStore(state_dir, host.root, live=host.live), repair)
        try:
            applier.open(writing=writing)
            yield applier
        finally:
            applier.close()
    except HostError as failure:
        raise InputError(f"--sysfs {sysfs}: {one_line(failure)}") from None
    except OSError as failure:
        raise InputError(f"--sysfs {sysfs}: {failure.strerror or one_line(failure)}") from None
