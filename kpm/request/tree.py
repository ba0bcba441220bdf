"""An Applier for a tree, with the mailbox of an AMD machine where there is one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from kpm.process.errors import InputError, one_line
from kpm.request.options import TreeOptions
from kpm_applier.diff import Repair
from kpm_applier.discovery.discover import HostError
from kpm_applier.session import Applier
from kpm_applier.state.baseline import asked_fabrics
from kpm_applier.state.record import StateError
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.hsmp import Hsmp
from kpm_applier.sysfs.mailbox import DEVICE, Device
from kpm_applier.sysfs.tree import SysfsHost


def make_applier(tree: TreeOptions, repair: Repair = Repair.WRITE) -> Applier:
    """The applier of one root, not yet open. Errors: OSError where the root is no folder."""
    host = open_tree(tree.sysfs, tree.helper)
    store = StateStore(tree.state_dir, host.root, live=host.live)

    def known() -> Mapping[str, str]:
        try:
            return asked_fabrics(store.load())
        except StateError:
            return {}

    host.mailbox = _mailbox(host, tree, known)
    return Applier(host, store, repair)


def open_tree(sysfs: str, helper: str | None) -> SysfsHost:
    """A tree that this process writes, or a helper for it.

    Errors: OSError where it is no folder.
    """
    if helper is None:
        return SysfsHost(sysfs)
    from kpm_applier.sysfs.remote import Helper, RemoteHost

    return RemoteHost(sysfs, Helper(helper))


def make_host(tree: TreeOptions) -> SysfsHost:
    """The tree alone, to look at. Errors: OSError where it is no folder."""
    host = SysfsHost(tree.sysfs)
    host.mailbox = _mailbox(host, tree, dict)
    return host


def _mailbox(
    host: SysfsHost, tree: TreeOptions, known: Callable[[], Mapping[str, str]]
) -> Hsmp | None:
    """The mailbox of an AMD machine, where there may be one: a helper's
    only where it is asked for.
    """
    if tree.helper is not None:
        from kpm_applier.sysfs.remote import RemoteHost, RemoteMailbox

        return (
            Hsmp(RemoteMailbox(tree.hsmp, host.helper), known)
            if tree.hsmp and isinstance(host, RemoteHost)
            else None
        )
    device = tree.hsmp if tree.hsmp is not None else DEVICE if host.live else None
    return None if device is None else Hsmp(Device(device), known)


@contextmanager
def open_applier(
    tree: TreeOptions, *, writing: bool = True, repair: Repair = Repair.WRITE
) -> Iterator[Applier]:
    """The applier of one root.

    Errors: InputError where the tree cannot be used, StateError of its state.
    """
    try:
        applier = make_applier(tree, repair)
        try:
            applier.open(writing=writing)
            yield applier
        finally:
            applier.close()
    except HostError as failure:
        raise InputError(f"--sysfs {tree.sysfs}: {one_line(failure)}") from None
    except OSError as failure:
        raise InputError(f"--sysfs {tree.sysfs}: {failure.strerror or one_line(failure)}") from None
