"""Whether the files that the agent is to write can be written: tried once at its start, by writing
what they hold.

Opening proves nothing: `cpuidle/stateN/disable` opens for everybody and then asks for
CAP_SYS_ADMIN. One file of each kind is written, of those whose writing anew changes nothing; a
limit of frequency is none, since what it shows may be somebody else's limit, which would become our
request (kernel-facts K1). Its governor lies in the same folder.
"""

from kpm.request.tree import files_of
from kpm_applier import attributes as table
from kpm_applier.attributes import HSMP_ROOT
from kpm_applier.session import Applier
from kpm_applier.sysfs.composite import Composite
from kpm_applier.sysfs.remote import RemoteHost
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.report.refusals import remedy

_TRIED = frozenset(
    {
        table.BOOST,
        table.NO_TURBO,
        table.GOVERNOR,
        table.IDLE_DISABLE,
        table.RESUME_LATENCY,
        table.UNCORE_MIN,
    }
)


def refusals(applier: Applier, *, names_states: bool = True) -> tuple[str, ...]:
    """A line for each kind of file that cannot be written, with errno and remedy; none where all
    can be. names_states: idle states are set one by one.
    """
    host = applier.host
    if applier.discovery is None or not isinstance(host, SysfsHost | Composite):
        return ()
    files = files_of(host)
    if isinstance(files, RemoteHost) and (absent := files.helper.reach()):
        return (f"{files.helper.path}: {remedy('', absent)}",)
    shown = applier.discovery.observed.values
    firsts = {
        item.attribute: (str(group.kind), item.path)
        for group in reversed(applier.discovery.groups)
        for item in reversed(group.files)
        if item.path in shown
    }
    if not names_states:
        firsts.pop(table.IDLE_DISABLE, None)
    tried = (
        (kind, path, _refusal(host, path, shown[path], rewritten=attribute in _TRIED))
        for attribute, (kind, path) in firsts.items()
    )
    return tuple(
        sorted({f"{path}: {remedy(kind, number)}" for kind, path, number in tried if number})
    )


def _refusal(host: SysfsHost | Composite, path: str, text: str, *, rewritten: bool) -> int:
    """The errno of writing a file anew, 0 for none.

    A copy of a tree is only opened, and so is a mailbox.
    """
    if not rewritten or not host.live or path.startswith(f"{HSMP_ROOT}/"):
        return host.refuses_writing(path)
    try:
        host.write(path, f"{text}\n".encode())
    except OSError as failure:
        return failure.errno or 0
    return 0
