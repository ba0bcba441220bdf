"""Carrying out writes and reading back (A2, A3, A4), as examples."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import define

from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Report
from kpm_planner.model.changes import Outcome, Status
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import Target
from tests.applier import rig
from tests.applier.rig import GHZ, Probe

FULL = Target(GHZ, 2 * GHZ, "powersave", "power", (("C6", False),))


def apply(
    host: KernelModel | Probe, folder: Path, target: Target, machine: Machine | None = None
) -> Report:
    model = host if isinstance(host, KernelModel) else host.inner
    assert isinstance(model, KernelModel)
    return rig.apply_once(host, str(folder), rig.everywhere(machine or model.machine, target))


def once(verb: str, path: str, number: int, times: int = 1) -> Callable[[str, str], int | None]:
    """A failure that passes after so many times."""
    left = [times]

    def deny(asked: str, where: str) -> int | None:
        if (asked, where) == (verb, path) and left[0] > 0:
            left[0] -= 1
            return number
        return None

    return deny


# --- verifying ---


def test_a_value_that_is_reached_is_nothing_to_report(tmp_path: Path) -> None:
    """Writes in order, no outcomes, settled."""
    model = KernelModel(rig.intel(1))
    report = apply(model, tmp_path, FULL)
    assert [write.path.rpartition("/")[2] for write in report.writes] == [
        "energy_performance_preference",
        "scaling_min_freq",
        "scaling_max_freq",
        "disable",
    ]
    assert (report.outcomes, report.drift, report.released, report.settled) == ((), (), (), True)


@pytest.mark.parametrize("latency", [0.0, 0.0009, 0.004, 0.05, 0.2])
def test_an_update_that_comes_late_is_waited_for(tmp_path: Path, latency: float) -> None:
    """K2: a read right after a write may still give the old value; that is no difference."""
    model = KernelModel(rig.intel(2), latency)
    report = apply(model, tmp_path, FULL)
    assert report.outcomes == ()
    assert model.read(rig.max_path()) == b"2000000\n"


def test_the_wait_is_bounded(tmp_path: Path) -> None:
    """A kernel that never shows the value costs less than two seconds, and every file once, not one
    after the other.
    """
    model = KernelModel(rig.intel(8), latency=60)
    start = model.clock
    apply(model, tmp_path, FULL)
    assert model.clock - start < 2


@define
class Ramp(Probe):
    """A kernel that shows 3 GHz for so many seconds after a maximum was written."""

    seconds: float = 0.0
    written: float | None = None

    def read(self, path: str) -> bytes:
        content = Probe.read(self, path)
        if path == rig.max_path() and self.written is not None:
            return b"3000000\n" if self.now() - self.written < self.seconds else content
        return content

    def write(self, path: str, data: bytes) -> None:
        Probe.write(self, path, data)
        if path == rig.max_path():
            self.written = self.now()


@pytest.mark.parametrize("seconds", [0.0005, 0.002, 0.005, 0.015])
def test_a_value_on_its_way_is_not_taken_for_where_the_kernel_wants_it(
    tmp_path: Path, seconds: float
) -> None:
    """It has moved, and moves on after up to three looks that saw it stand still."""
    model = KernelModel(rig.intel(1))
    report = apply(Ramp(model, seconds=seconds), tmp_path, FULL)
    assert (report.outcomes, report.settled) == ((), True)


def test_a_value_that_stands_still_elsewhere_is_not_waited_for(tmp_path: Path) -> None:
    """Four looks that see the same after it has moved are enough: a limit costs 18 ms, a fiftieth
    of the whole wait.
    """
    model = KernelModel(rig.intel(1))
    model.limit(0, 1_500_000)
    start = model.clock
    report = apply(model, tmp_path, Target(GHZ, 1_600_000))
    assert [outcome.status for outcome in report.outcomes] == [Status.LIMITED]
    assert model.clock - start >= 0.6  # it has not moved, so nobody knows
    model.limit(0, 1_200_000)
    start = model.clock
    report = apply(model, tmp_path, Target(GHZ, 1_400_000))
    assert [outcome.shows for outcome in report.outcomes] == ["1200000"]


def test_a_limit_of_somebody_else_is_reported_as_such(tmp_path: Path) -> None:
    """K1: the request is registered, the value limited: LIMITED with both values, and settled
    (field report 48).
    """
    model = KernelModel(rig.intel(1))
    model.limit(0, 1_500_000)
    report = apply(model, tmp_path, Target(GHZ, 2 * GHZ))
    assert report.outcomes == (
        Outcome(rig.max_path(), "cpufreq:0", Status.LIMITED, "2000000", "1500000"),
    )
    assert report.settled
    model.limit(0, None)
    assert model.read(rig.max_path()) == b"2000000\n"


def test_a_table_rounds_and_that_is_learned(tmp_path: Path) -> None:
    """K3: a minimum is rounded up and a maximum down; reported once, then never written again."""
    model = KernelModel(rig.tabled())
    report = apply(model, tmp_path, Target(1_000_000, 2_000_001))
    assert {
        (outcome.path, outcome.wanted, outcome.shows, outcome.status) for outcome in report.outcomes
    } == {
        (rig.min_path(), "1000000", "1800000", Status.LIMITED),
        (rig.max_path(), "2000001", "1800000", Status.LIMITED),
    }
    assert report.settled
    model.log.clear()
    again = apply(model, tmp_path, Target(1_000_000, 2_000_001))
    assert (again, model.log) == (Report(), [])


def test_a_minimum_that_springs_back_is_settled_too(tmp_path: Path) -> None:
    """K1: both ends stay registered.

    From 2..2 under a limit of 1.5 to 0.8..4: nothing of the old pair is left once the limit goes.
    """
    model = KernelModel(rig.intel(1))
    apply(model, tmp_path, Target(2 * GHZ, 2 * GHZ))
    model.limit(0, 1_500_000)
    apply(model, tmp_path, Target(800_000, 4 * GHZ))
    model.limit(0, None)
    assert (model.read(rig.min_path()), model.read(rig.max_path())) == (b"800000\n", b"4000000\n")


def test_the_same_shown_values_with_other_requests_are_written(tmp_path: Path) -> None:
    """K1: a diff against what is read would skip writes that are needed."""
    model = KernelModel(rig.intel(1))
    model.limit(0, 1_500_000)
    apply(model, tmp_path, Target(2 * GHZ, 2 * GHZ))
    assert (model.read(rig.min_path()), model.read(rig.max_path())) == (b"1500000\n", b"1500000\n")
    apply(model, tmp_path, Target(1_500_000, 1_500_000))
    model.limit(0, None)
    assert (model.read(rig.min_path()), model.read(rig.max_path())) == (b"1500000\n", b"1500000\n")


# --- governor and EPP ---


@pytest.mark.parametrize(
    "machine", [rig.intel(1), rig.amd(1)], ids=["intel_pstate", "amd-pstate-epp"]
)
@pytest.mark.parametrize("epp", rig.EPP_WORDS)
def test_leaving_governor_performance_ends_at_the_asked_epp(
    tmp_path: Path, machine: Machine, epp: str
) -> None:
    """K9, K10, field reports 9 and 10: no EBUSY on the way, and the driver's own EPP does not
    stay.
    """
    model = KernelModel(machine)
    apply(model, tmp_path, Target(governor="powersave", epp="balance_power"))
    apply(model, tmp_path, Target(governor="performance", epp="performance"))
    assert model.read(rig.epp_path()) == b"performance\n"
    report = apply(model, tmp_path, Target(governor="powersave", epp=epp))
    assert report.outcomes == ()
    assert model.read(rig.epp_path()) == f"{epp}\n".encode()


@pytest.mark.parametrize(
    "machine", [rig.intel(1), rig.amd(1)], ids=["intel_pstate", "amd-pstate-epp"]
)
def test_a_profile_without_epp_gets_the_baseline_and_not_the_last_one(
    tmp_path: Path, machine: Machine
) -> None:
    """Field report 10: after a profile with EPP, one without has what was there before us."""
    model = KernelModel(machine)
    apply(model, tmp_path, Target(governor="performance", epp="performance"))
    apply(model, tmp_path, Target(governor="powersave"))
    assert model.read(rig.epp_path()) == b"balance_performance\n"


def test_a_refused_epp_costs_only_itself(tmp_path: Path) -> None:
    """EBUSY is reported with what the file holds; governor and limits are in force (A4)."""
    model = KernelModel(rig.intel(1))
    report = apply(model, tmp_path, Target(GHZ, 2 * GHZ, "performance", "power"))
    assert report.outcomes == (
        Outcome(rig.epp_path(), "cpufreq:0", Status.FAILED, "power", "performance", errno.EBUSY),
    )
    assert not report.settled
    assert model.read(rig.max_path()) == b"2000000\n"


def test_the_epp_follows_a_governor_that_came_late(tmp_path: Path) -> None:
    """A2: governor powersave is refused at first and taken in a later round: intel_pstate then
    brings back its own EPP (K10), so ours is written again.
    """
    model = KernelModel(
        rig.machine(
            [rig.domain(settings=(None, None, "powersave", "balance_power"))], status="active"
        )
    )
    rig.foreign_write(model, rig.governor_path(), "performance")
    host = Probe(model, deny=once("write", rig.governor_path(), errno.EBUSY))
    apply(host, tmp_path, Target(GHZ, 2 * GHZ, "powersave", "performance"))
    assert model.read(rig.governor_path()) == b"powersave\n"
    assert model.read(rig.epp_path()) == b"performance\n"


# --- failures (A4) ---


@pytest.mark.parametrize(
    "number", [errno.EBUSY, errno.EIO, errno.EINVAL, errno.EACCES, errno.EROFS, errno.ENOMEM]
)
def test_a_failing_write_is_reported_with_what_the_file_holds(tmp_path: Path, number: int) -> None:
    """Path, value, errno, what is there now; the rest of the group and the other CPUs are done
    (field report 14).
    """
    model = KernelModel(rig.intel(3))
    host = Probe(
        model,
        deny=lambda verb, path: number if (verb, path) == ("write", rig.max_path(1)) else None,
    )
    report = apply(host, tmp_path, FULL)
    assert report.outcomes == (
        Outcome(rig.max_path(1), "cpufreq:1", Status.FAILED, "2000000", "4000000", number),
    )
    assert not report.settled
    assert [model.read(rig.max_path(cpu)) for cpu in range(3)] == [
        b"2000000\n",
        b"4000000\n",
        b"2000000\n",
    ]
    assert [model.read(rig.min_path(cpu)) for cpu in range(3)] == [b"1000000\n"] * 3


def test_a_write_that_cannot_be_read_back_is_not_taken_for_limited(tmp_path: Path) -> None:
    """LIMITED means registered and seen; what is not seen is said with the errno of the read, and
    is not settled.
    """
    model = KernelModel(rig.intel(1))
    written: list[str] = []
    host = Probe(
        model,
        after_write=lambda path, _: written.append(path),
        deny=lambda verb, path: (
            errno.EIO if verb == "read" and path == rig.max_path() and path in written else None
        ),
    )
    report = apply(host, tmp_path, FULL)
    (outcome,) = report.outcomes
    assert (outcome.path, outcome.shows, outcome.errno) == (rig.max_path(), None, errno.EIO)
    assert outcome.status not in (Status.LIMITED, Status.OFFLINE)
    assert not report.settled


def test_a_cpu_that_goes_offline_between_write_and_verification_is_offline(tmp_path: Path) -> None:
    """K17: EBUSY of a policy without CPU is no fault of anybody; but the pass is not complete."""
    model = KernelModel(rig.intel(2))
    host = Probe(
        model,
        after_write=lambda path, _: (
            model.plug(1, online=False) if path == rig.min_path(1) else None
        ),
    )
    report = apply(host, tmp_path, FULL)
    assert {outcome.status for outcome in report.outcomes if "policy1" in outcome.path} == {
        Status.OFFLINE
    }
    assert not report.settled
    assert model.read(rig.max_path(0)) == b"2000000\n"


def test_a_failure_that_passes_is_tried_again_at_once(tmp_path: Path) -> None:
    """EINVAL of an old kernel for a maximum below the minimum, and EBUSY of an EPP, pass once the
    other file has moved (K6, K9).
    """
    model = KernelModel(rig.intel(1))
    host = Probe(model, deny=once("write", rig.max_path(), errno.EINVAL))
    report = apply(host, tmp_path, FULL)
    assert report.outcomes == ()
    assert model.read(rig.max_path()) == b"2000000\n"


def test_a_failure_that_stays_is_not_hammered(tmp_path: Path) -> None:
    """At most a handful of tries a pass."""
    model = KernelModel(rig.intel(1))
    tries: list[str] = []
    host = Probe(
        model,
        before_write=lambda path, _: tries.append(path),
        deny=lambda verb, path: errno.EBUSY if (verb, path) == ("write", rig.max_path()) else None,
    )
    apply(host, tmp_path, FULL)
    assert tries.count(rig.max_path()) <= 4


def test_strict_kernels_are_pleased(tmp_path: Path) -> None:
    """Field report 11: a kernel that refuses min > max (before 5.4) never
    has to, in any transition.
    """
    model = KernelModel(rig.intel(1))
    refused: list[str] = []

    def check(path: str, text: str) -> None:
        low, high = int(model.read(rig.min_path())), int(model.read(rig.max_path()))
        low, high = (
            (int(text), high)
            if path == rig.min_path()
            else (low, int(text))
            if path == rig.max_path()
            else (low, high)
        )
        if low > high:
            refused.append(f"{path}={text}")

    host = Probe(model, before_write=check)
    for low, high in (
        (800, 1000),
        (2000, 3000),
        (800, 1000),
        (1500, 1500),
        (1600, 1600),
        (1500, 1500),
        (3000, 4000),
        (800, 800),
    ):
        assert apply(host, tmp_path, Target(low * 1000, high * 1000)).outcomes == ()
        assert (model.read(rig.min_path()), model.read(rig.max_path())) == (
            f"{low}000\n".encode(),
            f"{high}000\n".encode(),
        )
    assert refused == []


# --- boost ---


def test_boost_is_set_before_the_frequencies_that_need_it(tmp_path: Path) -> None:
    """K24: a maximum above the unboosted one, in the same pass as boost on."""
    machine = rig.machine([rig.domain(0, driver="cppc_cpufreq", high=2_500_000)], boost=False)
    model = KernelModel(machine, boosted={0: 2_956_522}, unboosted={0: 2_500_000})
    report = rig.apply_once(
        model, str(tmp_path), rig.plan(machine, {0: Target(GHZ, 2_900_000)}, boost=True)
    )
    assert [path.rpartition("/")[2] for path, _ in model.log] == [
        "boost",
        "scaling_max_freq",
        "scaling_min_freq",
    ]
    assert report.outcomes == ()
    assert model.read(rig.max_path()) == b"2900000\n"
