"""What cannot be read is unknown, not gone: whatever fails while the machine is looked at, a
restore leaves no residue (R7, A6, A7).
"""

import errno
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm.request.machines import IdleStateSpec, MachineSpec, PowerSpec, UncoreSpec, build_machine
from kpm_applier.discovery.discover import HostError, discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier, Report
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.caps.zones import CapTarget
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import Target
from kpm_planner.plan import NodePlan
from kpm_planner.uncore import UncoreTarget
from tests.applier import rig

LONG = 1000.0
#: None: a CPU goes at that moment.
ERRORS = (errno.EIO, errno.EBUSY, errno.ENODEV, errno.EMFILE, None)
#: Machine, the number of the access that goes wrong, how, and the limits that somebody had set
#: before us, in kHz.
Case = tuple[str, int, int | None, tuple[int, int] | None]
_C6 = (IdleStateSpec("POLL", 0), IdleStateSpec("C6", 133))
_SMALL = MachineSpec(cores=2, idle_driver="intel_idle", idle_states=_C6, epp="balance_performance")
MACHINES: dict[str, MachineSpec] = {
    "intel_pstate": evolve(
        _SMALL, uncore=UncoreSpec(), boost=True, power=PowerSpec(max_watts=165, short_watts=198)
    ),
    "amd-pstate-epp": evolve(
        _SMALL, driver="amd-pstate-epp", power=PowerSpec("amd_hsmp_hwmon", 280, 400)
    ),
    "amd-pstate": evolve(_SMALL, driver="amd-pstate", epp=None),
    "acpi-cpufreq": evolve(
        _SMALL, driver="acpi-cpufreq", epp=None, boost=True, available_mhz=(800, 1800, 3700)
    ),
    "cppc_cpufreq": evolve(_SMALL, driver="cppc_cpufreq", epp=None, architecture="aarch64"),
}


#: A first look takes up to 120 accesses. Above what we ask for, below it, around it.
LIMITS = (None, (2_000_000, 3_000_000), (800_000, 850_000), (1_000_000, 3_700_000))
cases = st.tuples(
    st.sampled_from(sorted(MACHINES)),
    st.integers(0, 120),
    st.sampled_from(ERRORS),
    st.sampled_from(LIMITS),
)


def wanted(machine: Machine) -> NodePlan:
    """Every attribute that the machine has, otherwise than it is at first."""
    first = machine.domains[0] if machine.domains else None
    driver = first.driver if first else None
    governor = {
        "cppc_cpufreq": "powersave",
        "acpi-cpufreq": "powersave",
        "amd-pstate": "performance",
    }.get(driver or "", "powersave")
    epp = "power" if driver in ("intel_pstate", "amd-pstate-epp") else None
    target = Target(900_000, 1_800_000, governor, epp, (("C6", False),), latency_us=10)
    uncore = [UncoreTarget(entry, 900_000, 1_000_000) for entry in machine.uncore]
    caps = [
        CapTarget(zone, (90_000_000, *(None,) * (len(zone.limits) - 1)))
        for zone in machine.power_zones
        if zone.limits
    ]
    return rig.everywhere(
        machine, target, uncore=uncore, caps=caps, boost=None if machine.boost is None else False
    )


@define
class Fault:
    """One access to the machine that goes wrong: the one of this number, by an errno, or by a CPU
    that goes at that moment.
    """

    model: KernelModel
    at: int
    number: int | None
    seen: int = 0

    def __call__(self, verb: str, _path: str) -> int | None:
        if verb == "write":
            return None
        hit, self.seen = self.seen == self.at, self.seen + 1
        if hit and self.number is None:
            self.model.plug(1, online=False)
        return self.number if hit else None


def settle(handle: Applier, model: KernelModel) -> None:
    """What an agent does afterwards: look whether something is new, plan for that, apply."""
    for _ in range(3):
        model.clock += LONG
        if handle.changed():
            handle.discover()
        handle.bring(wanted)


def life(model: KernelModel, folder: str, fault: Fault | None = None) -> None:
    """One agent from start to kill. fault: while it looks at the machine for the first time."""
    host = rig.Probe(model, deny=fault or (lambda _verb, _path: None))
    with suppress(HostError), rig.applier(host, folder) as handle:
        found = handle.machine
        host.deny = lambda _verb, _path: None
        _back(model)
        handle.bring(wanted, wanted(found))
        settle(handle, model)
    _back(model)


def _back(model: KernelModel) -> None:
    for cpu in sorted(model.offline):
        model.plug(cpu, online=True)


def residue(
    case: Case, live: Callable[[KernelModel, str, Fault], None]
) -> dict[str, tuple[str, str | None]]:
    """What differs in the end from what was there at first, after a life with a fault, one without,
    and a restore.
    """
    name, at, number, limits = case
    machine = build_machine(MACHINES[name])
    model, before = _limited(machine, limits), rig.shown(_limited(machine, limits))
    with rig.state_folder() as folder:
        live(model, folder, Fault(model, at, number))
        model.clock += LONG
        life(model, folder)
        report = rig.restore_once(model, folder)
        assert report.settled, report.outcomes
        assert rig.owned(folder) == set()
    after = rig.shown(model)
    return {
        path: (text, after.get(path))
        for path, text in before.items()
        if after.get(path) != text and not _forgotten(path, name, number)
    }


def _limited(machine: Machine, limits: tuple[int, int] | None) -> KernelModel:
    """The machine as somebody had set it."""
    model = KernelModel(machine)
    if limits is not None:
        for domain in machine.domains:
            rig.foreign_write(model, rig.max_path(domain.id), str(limits[1]))
            rig.foreign_write(model, rig.min_path(domain.id), str(limits[0]))
    model.log.clear()
    return model


def _forgotten(path: str, name: str, number: int | None) -> bool:
    """What a driver forgets of a CPU that was away (K18)."""
    return (
        number is None
        and name == "amd-pstate-epp"
        and "policy1" in path
        and path.endswith("energy_performance_preference")
    )


@given(cases)
def test_a_successor_that_cannot_read_something_loses_no_baseline(case: Case) -> None:
    """Nor takes what we had set for what was there before us."""

    def live(model: KernelModel, folder: str, fault: Fault) -> None:
        life(model, folder)
        life(model, folder, fault)

    assert residue(case, live) == {}


@given(cases)
def test_what_cannot_be_read_at_first_is_given_back_all_the_same(case: Case) -> None:
    assert residue(case, life) == {}


@given(cases)
def test_a_restore_that_cannot_read_something_leaves_it_to_the_next(case: Case) -> None:
    """What it left is still in the state, and it does not say that all is done."""

    def live(model: KernelModel, folder: str, fault: Fault) -> None:
        life(model, folder)
        host = rig.Probe(model, deny=fault)
        with suppress(HostError), rig.applier(host, folder) as handle:
            host.deny = lambda _verb, _path: None
            report = handle.restore()
            assert report.settled is not bool(rig.owned(folder))
        _back(model)
        rig.restore_once(model, folder)

    assert residue(case, live) == {}


@given(st.sampled_from(sorted(MACHINES)), st.data())
def test_an_empty_file_has_no_value_and_stays_empty(name: str, data: st.DataObject) -> None:
    """Copies of /sys have empty files where the kernel refused to be read.

    The others are tuned and given back (R6).
    """
    machine = build_machine(MACHINES[name])
    managed = sorted(
        {item.path for group in discover(KernelModel(machine)).groups for item in group.files}
    )
    empty = data.draw(st.sets(st.sampled_from(managed), min_size=1), label="empty")
    with tempfile.TemporaryDirectory() as place, rig.state_folder() as folder:
        root = rig.tree(Path(place), machine)
        for path in empty:
            (root / path).write_bytes(b"")
        before = {path: (root / path).read_bytes() for path in managed}
        with rig.applier(SysfsHost(str(root)), folder) as handle:
            handle.bring(wanted)
            report = handle.apply(wanted(handle.machine))
            assert report == Report(), "nothing is tried again and again"
            assert all((root / path).read_bytes() == b"" for path in empty)
        assert rig.restore_once(SysfsHost(str(root)), folder).settled
        assert {path: (root / path).read_bytes() for path in managed} == before
