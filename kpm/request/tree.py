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
from kpm_applier.sysfs.composite import Composite
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.hsmp import Hsmp
from kpm_applier.sysfs.mailbox import DEVICE, Device, Mailbox
from kpm_applier.sysfs.tree import SysfsHost


def make_applier(tree: TreeOptions, repair: Repair = Repair.WRITE) -> Applier:
    """The applier of one root, not yet open. Errors: OSError where the root is no folder."""
    files = open_tree(tree.sysfs, tree.helper)
    store = StateStore(tree.state_dir, files.root, live=files.live)

    def known() -> Mapping[str, str]:
        try:
            return asked_fabrics(store.load())
        except StateError:
            return {}

    return Applier(_with_mailbox(files, tree, known), store, repair)


def open_tree(sysfs: str, helper: str | None) -> SysfsHost:
    """A tree that this process writes, or a helper for it.

    Errors: OSError where it is no folder.
    """
    if helper is None:
        return SysfsHost(sysfs)
    from kpm_applier.sysfs.remote import Helper, RemoteHost

    return RemoteHost(sysfs, Helper(helper))


def make_host(tree: TreeOptions) -> SysfsHost | Composite:
    """The tree alone, to look at. Errors: OSError where it is no folder."""
    return _with_mailbox(SysfsHost(tree.sysfs), tree, dict)


def files_of(host: Host) -> SysfsHost | None:
    """The files of a host; None for one that has none, such as a model."""
    if isinstance(host, Composite):
        return host.files
    return host if isinstance(host, SysfsHost) else None


def _with_mailbox(
    files: SysfsHost, tree: TreeOptions, known: Callable[[], Mapping[str, str]]
) -> SysfsHost | Composite:
    """The tree with the mailbox of an AMD machine, where there may be one: a helper's only where it
    is asked for.
    """
    mailbox = _mailbox(files, tree)
    return files if mailbox is None else Composite(files, Hsmp(mailbox, known))


def _mailbox(files: SysfsHost, tree: TreeOptions) -> Mailbox | None:
    if tree.helper is not None:
        from kpm_applier.sysfs.remote import RemoteHost, RemoteMailbox

        if not tree.hsmp or not isinstance(files, RemoteHost):
            return None
        return RemoteMailbox(tree.hsmp, files.helper)
    device = tree.hsmp if tree.hsmp is not None else DEVICE if files.live else None
    return None if device is None else Device(device)


def told(failure: StateError) -> str:
    """What a person can do about a state that cannot be used, beside what is wrong with it."""
    if isinstance(failure.__cause__, PermissionError):
        return f"{failure}; use sudo, or a folder of your own by --state-dir"
    return str(failure)


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
