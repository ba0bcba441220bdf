"""Attribution of energy: nothing is lost or made, who does not run pays nothing, and it matters
neither how work is named nor how it is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import TypeVar

import pytest
from attrs import evolve, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.energy.attribution import (
    EnergyAllocation,
    EnergyPolicy,
    EnergyReport,
    MeterEnergy,
    Sample,
    attribute,
    carry,
)
from kpm_planner.energy.meters import Meter
from kpm_planner.energy.shares import (
    UNIT,
    Consumer,
    EnergyCpu,
    WeightPolicy,
    cpu_weights,
    frequency_weight,
)
from kpm_planner.energy.standing import Line
from kpm_planner.model.problems import Code
from tests.strategies.energy import RANGES, SECOND, History, Interval, histories, intervals, without

Key = TypeVar("Key")
Value = TypeVar("Value")

PLAUSIBLE = intervals(plausible=True)
#: CPUs that only these tests add, and nobody else claims.
OWN, OTHER = 100, 101


def by_meter(report: EnergyReport) -> dict[str, MeterEnergy]:
    """The energies of a report, by the meter's id."""
    return {item.meter.id: item for item in report.meters}


def owned(interval: Interval) -> dict[str, frozenset[int]]:
    """Consumer → online CPUs that its set alone claims."""
    consumers, online = interval.allocation.consumers, {cpu.id for cpu in interval.allocation.cpus}
    sets = {frozenset(item.cpus & online) for item in consumers.values()}
    return {
        name: frozenset(
            cpu for cpu in item.cpus & online if sum(cpu in other for other in sets) == 1
        )
        for name, item in consumers.items()
    }


# --- what passed is what was divided ---


@given(intervals())
def test_energy_is_conserved_to_the_microjoule(interval: Interval) -> None:
    """What a meter measured is busy energy of consumers and system, and idle energy of owners and
    of nobody; whatever the samples are.
    """
    report = interval.report()
    assert [item.meter for item in report.meters] == (
        list(interval.allocation.meters) if interval.elapsed_us > 0 else []
    )
    for item in report.meters:
        assert (
            item.uj
            == sum(item.busy.values())
            + item.system_uj
            + sum(item.idle.values())
            + item.unattributed_uj
        )
        assert item.busy_uj == sum(item.busy.values()) + item.system_uj


@given(intervals())
def test_nothing_is_negative(interval: Interval) -> None:
    """No energy, time or load; and consumers with none are left out."""
    report = interval.report()
    assert report.elapsed_us >= 0
    assert all(
        value >= 0
        for times in (report.usage_us, report.busy_us, report.idle_us)
        for value in times.values()
    )
    for item in report.meters:
        assert min(item.uj, item.system_uj, item.unattributed_uj, item.load) >= 0
        assert all(uj > 0 for uj in (*item.busy.values(), *item.idle.values()))


@given(intervals())
def test_only_known_consumers_get_energy(interval: Interval) -> None:
    """A cgroup that is no consumer counts as system."""
    for item in interval.report().meters:
        assert item.busy.keys() | item.idle.keys() <= interval.allocation.consumers.keys()


def test_a_machine_whose_cpus_are_not_known_is_measured_all_the_same() -> None:
    """Nothing can be said of who ran where, yet nothing is lost."""
    allocation = EnergyAllocation((Meter("m0", "psys"),), (), {"a": Consumer()})
    item = attribute(
        Sample(0, {"m0": 0}, usage_us={"a": 0}),
        Sample(SECOND, {"m0": 500}, usage_us={"a": 1_000}),
        allocation,
        EnergyPolicy(),
    ).meters[0]
    assert item.uj == item.busy_uj + sum(item.idle.values()) + item.unattributed_uj == 500


# --- who ran ---


@given(intervals(), st.sampled_from((0, None)), st.sets(st.integers(0, 12)))
def test_who_used_no_cpu_time_gets_no_busy_energy(
    interval: Interval, used: int | None, cpus: set[int]
) -> None:
    """Whatever the others do, and whether it stands still or has gone."""
    found = interval.with_consumer("still", used, Consumer(frozenset(cpus), 1_000)).report()
    assert all("still" not in item.busy for item in found.meters)


@given(PLAUSIBLE, st.integers(0, 10 * SECOND), st.integers(0, 4_000), st.integers(0, 4_000))
def test_equal_work_on_shared_cpus_gives_equal_energy(
    interval: Interval, used: int, request: int, other: int
) -> None:
    """The same CPU time without own CPUs is the same energy, whatever was asked for."""
    used = min(used, interval.elapsed_us)
    both = interval.with_consumer("one", used, Consumer(request=request)).with_consumer(
        "two", used, Consumer(request=other)
    )
    for item in both.report().meters:
        assert item.busy.get("one", 0) == item.busy.get("two", 0)


@given(PLAUSIBLE, st.floats(0, 1), st.floats(0, 1), st.integers(0, 4_000_000))
def test_equal_work_on_own_cpus_at_one_frequency_gives_equal_energy(
    interval: Interval, busy: float, used: float, khz: int
) -> None:
    """Busy and idle energy of two that own a CPU each, in one package, both as busy."""
    for name, number in (("one", OWN), ("two", OTHER)):
        cpu = evolve(interval.allocation.cpus[0], id=number, siblings=())
        interval = interval.with_cpu(cpu, round(busy * interval.elapsed_us), khz).with_consumer(
            name, round(used * interval.elapsed_us), Consumer(frozenset({number}))
        )
    for item in interval.report().meters:
        assert item.busy.get("one", 0) == item.busy.get("two", 0)
        assert item.idle.get("one", 0) == item.idle.get("two", 0)


@given(
    PLAUSIBLE,
    st.lists(st.tuples(st.integers(1, 5_000_000), st.floats(0, 1)), min_size=1, max_size=2),
    st.integers(1, 5_000_000),
    st.integers(0, 20) | st.integers(0),
)
def test_a_higher_frequency_of_its_own_cpu_never_lowers_a_consumers_share(
    interval: Interval, own: list[tuple[int, float]], faster: int, used: int
) -> None:
    """A µs at a higher frequency costs no less; over several CPUs a weight is rounded, which may
    cost one unit of it.
    """
    numbers = (OWN, OTHER)[: len(own)]
    for number, (khz, busy) in zip(numbers, own, strict=True):
        interval = interval.with_cpu(
            evolve(interval.allocation.cpus[0], id=number, siblings=()),
            round(busy * interval.elapsed_us),
            khz,
        )
    interval = interval.with_consumer(
        "owner", min(used, interval.elapsed_us * len(own)), Consumer(frozenset(numbers))
    )
    before, after = (
        by_meter(interval.report()),
        by_meter(interval.with_khz({OWN: max(own[0][0], faster)}).report()),
    )
    for name, item in after.items():
        unit = (
            item.busy_uj / (item.load * UNIT * interval.elapsed_us) + 1
            if item.load and len(own) > 1
            else 0
        )
        assert item.busy.get("owner", 0) >= before[name].busy.get("owner", 0) - unit


@pytest.mark.parametrize(("khz", "most"), [(3_500_000, 500), (1_750_000, 400), (800_000, 300)])
def test_work_on_slow_cpus_gets_less_than_as_much_work_on_fast_ones(khz: int, most: int) -> None:
    """1 mJ of two that run all the time on a CPU each: half each at one frequency, the less the
    slower one of them is.
    """
    allocation = EnergyAllocation(
        (Meter("m0", "package", package=0),),
        (EnergyCpu(0, max_khz=3_500_000), EnergyCpu(1, max_khz=3_500_000)),
        {"slow": Consumer(frozenset({0})), "fast": Consumer(frozenset({1}))},
    )
    zero, full = {0: 0, 1: 0}, {0: SECOND, 1: SECOND}
    before = Sample(0, {"m0": 0}, zero, zero, {"slow": 0, "fast": 0})
    after = Sample(
        SECOND, {"m0": 1_000}, full, zero, {"slow": SECOND, "fast": SECOND}, {0: khz, 1: 3_500_000}
    )
    item = attribute(before, after, allocation, EnergyPolicy()).meters[0]
    assert most - 150 < item.busy["slow"] <= most
    assert item.busy["slow"] + item.busy["fast"] + item.system_uj == item.uj == 1_000


def test_shared_work_runs_where_nobody_owns_the_cpus() -> None:
    """One that owns no CPU is weighed by the two fast CPUs that are left to it, not by the slow one
    of an owner.
    """
    cpus = tuple(EnergyCpu(number, max_khz=3_500_000) for number in range(3))
    allocation = EnergyAllocation(
        (Meter("m0", "package", package=0),),
        cpus,
        {"owner": Consumer(frozenset({2})), "shared": Consumer()},
    )
    zero, full = dict.fromkeys(range(3), 0), dict.fromkeys(range(3), SECOND)
    before = Sample(0, {"m0": 0}, zero, zero, {"owner": 0, "shared": 0})
    after = Sample(
        SECOND,
        {"m0": 900_000},
        full,
        zero,
        {"owner": SECOND, "shared": 2 * SECOND},
        {0: 3_500_000, 1: 3_500_000, 2: 700_000},
    )
    item = attribute(before, after, allocation, EnergyPolicy()).meters[0]
    slow = frequency_weight(700_000, 3_500_000, WeightPolicy())
    assert item.busy == {
        "owner": 900_000 * slow // (2 * UNIT + slow),
        "shared": 900_000 * 2 * UNIT // (2 * UNIT + slow),
    }


@pytest.mark.parametrize(
    ("before", "after", "used"),
    [
        (5_000, 9_000, 4_000),
        (5_000, 5_000, 0),
        (None, 4_000, 4_000),
        (5_000, 3_000, 3_000),
        (5_000, None, 0),
        (None, None, 0),
        (0, 9 * SECOND, 2 * SECOND),
        (None, 9 * SECOND, 0),
    ],
)
def test_cpu_time_of_a_consumer_that_comes_goes_or_begins_anew(
    before: int | None, after: int | None, used: int
) -> None:
    """All of a new one's counts, unless it is more than fits into a second of two CPUs: then it has
    run since before.
    """
    allocation = EnergyAllocation((), (EnergyCpu(0), EnergyCpu(1)), {"a": Consumer()})
    first, second = (
        Sample(at, usage_us={} if value is None else {"a": value})
        for at, value in ((0, before), (SECOND, after))
    )
    assert attribute(first, second, allocation, EnergyPolicy()).usage_us == {"a": used}


# --- names, order and cuts ---


@given(intervals(), st.randoms(use_true_random=False))
def test_renaming_consumers_renames_the_result_and_nothing_else(
    interval: Interval, random: Random
) -> None:
    """Also where they change names with each other."""
    names = list(interval.allocation.consumers)
    new = dict(zip(names, random.sample([*names, "new", "a/b/c"], len(names)), strict=True))

    def renamed(known: Mapping[str, Value]) -> dict[str, Value]:
        return {new[name]: value for name, value in known.items()}

    other = Interval(
        evolve(interval.previous, usage_us=renamed(interval.previous.usage_us)),
        evolve(interval.current, usage_us=renamed(interval.current.usage_us)),
        evolve(interval.allocation, consumers=renamed(interval.allocation.consumers)),
        interval.policy,
    )
    report = interval.report()
    meters = tuple(
        evolve(item, busy=renamed(item.busy), idle=renamed(item.idle)) for item in report.meters
    )
    assert other.report() == evolve(report, meters=meters, usage_us=renamed(report.usage_us))


@given(intervals(), st.randoms(use_true_random=False))
def test_order_of_consumers_cpus_and_meters_changes_nothing(
    interval: Interval, random: Random
) -> None:
    """Nor the order in which anything was read."""

    def mixed(known: Mapping[Key, Value]) -> dict[Key, Value]:
        return dict(random.sample(list(known.items()), len(known)))

    def sample(known: Sample) -> Sample:
        return evolve(
            known,
            readings=mixed(known.readings),
            busy_us=mixed(known.busy_us),
            idle_us=mixed(known.idle_us),
            usage_us=mixed(known.usage_us),
            khz=mixed(known.khz),
        )

    known = interval.allocation
    allocation = EnergyAllocation(
        tuple(random.sample(known.meters, len(known.meters))),
        tuple(random.sample(known.cpus, len(known.cpus))),
        mixed(known.consumers),
    )
    report, other = (
        interval.report(),
        Interval(
            sample(interval.previous), sample(interval.current), allocation, interval.policy
        ).report(),
    )
    assert by_meter(report) == by_meter(other)
    assert evolve(report, meters=()) == evolve(other, meters=())


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Interval, Interval]:
    """An interval with a consumer named whole, and the same one with its work, request and CPUs in
    two parts.
    """
    interval = draw(PLAUSIBLE)
    online = [cpu.id for cpu in interval.allocation.cpus]
    cpus = draw(
        st.sampled_from(
            (
                frozenset(),
                frozenset(online[:2]),
                frozenset(online[-1:]),
                *(item.cpus for item in interval.allocation.consumers.values()),
            )
        )
    )
    used, request = draw(st.integers(0, interval.elapsed_us)), draw(st.integers(0, 8_000))
    first_used, first_request = draw(st.integers(0, used)), draw(st.integers(0, request))
    whole = interval.with_consumer("whole", used, Consumer(cpus, request))
    parts = interval.with_consumer("part-1", first_used, Consumer(cpus, first_request))
    return whole, parts.with_consumer(
        "part-2", used - first_used, Consumer(cpus, request - first_request)
    )


@given(cuts())
def test_cutting_a_consumer_in_two_changes_no_other_consumers_busy_energy(
    cut: tuple[Interval, Interval],
) -> None:
    """The parts get what the whole got, and the system what rounding
    leaves: at most a µJ a part.
    """
    whole, parts = by_meter(cut[0].report()), by_meter(cut[1].report())
    for name, item in whole.items():
        other = parts[name]
        assert without(item.busy, "whole") == without(without(other.busy, "part-1"), "part-2")
        assert abs(item.system_uj - other.system_uj) <= 2
        assert (
            0
            <= item.busy.get("whole", 0) - other.busy.get("part-1", 0) - other.busy.get("part-2", 0)
            <= 2
        )


@given(cuts())
def test_cutting_a_consumer_in_two_changes_no_other_consumers_idle_energy(
    cut: tuple[Interval, Interval],
) -> None:
    """Not that of those who own the same CPUs, nor that of those who share."""
    whole, parts = by_meter(cut[0].report()), by_meter(cut[1].report())
    for name, item in whole.items():
        assert without(item.idle, "whole") == without(without(parts[name].idle, "part-1"), "part-2")


# --- containers in containers ---


@given(intervals(), st.data())
def test_whoever_is_inside_of_whom_energy_is_conserved(
    interval: Interval, data: st.DataObject
) -> None:
    """To the µJ, and nothing is negative: also where the outer one is not known, or two say that
    they are in each other.
    """
    known = interval.allocation.consumers
    places = st.sampled_from(("", "elsewhere", *known))
    nested = {name: evolve(item, inside=data.draw(places)) for name, item in known.items()}
    report = evolve(interval, allocation=evolve(interval.allocation, consumers=nested)).report()
    assert all(us >= 0 for us in report.usage_us.values())
    for item in report.meters:
        assert (
            item.uj
            == sum(item.busy.values())
            + item.system_uj
            + sum(item.idle.values())
            + item.unattributed_uj
        )
        assert (
            min(
                item.uj,
                item.system_uj,
                item.unattributed_uj,
                *item.busy.values(),
                *item.idle.values(),
            )
            >= 0
        )


@frozen
class Nest:
    """One interval twice: with a consumer named outer alone, and with others in it. own: what each
    used by itself.
    """

    alone: Interval
    nested: Interval
    own: Mapping[str, int] = field(hash=False)


@st.composite
def nests(draw: st.DrawFn) -> Nest:
    """Up to four inner ones, in the outer one or in each other, on its CPUs; none uses more than is
    left of the one around it.
    """
    interval = draw(PLAUSIBLE)
    online = [cpu.id for cpu in interval.allocation.cpus]
    cpus = draw(
        st.sampled_from(
            (
                frozenset(),
                frozenset(online[:2]),
                frozenset(online[-1:]),
                *(item.cpus for item in interval.allocation.consumers.values()),
            )
        )
    )
    used, request = draw(st.integers(0, interval.elapsed_us)), draw(st.integers(1, 8_000))
    alone = nested = interval.with_consumer("outer", used, Consumer(cpus, request))
    own = {"outer": used}
    for number in range(draw(st.integers(0, 4))):
        around, name = draw(st.sampled_from(sorted(own))), f"inner-{number}"
        part = draw(st.integers(0, own[around]))
        own |= {around: own[around] - part, name: part}
        nested = nested.with_consumer(name, part, Consumer(cpus, inside=around))
    return Nest(alone, nested, own)


@given(nests())
def test_the_time_of_an_outer_one_is_what_those_in_it_did_not_use(nest: Nest) -> None:
    """Together they have used what the outer one alone has."""
    report = nest.nested.report()
    assert {name: report.usage_us[name] for name in nest.own} == nest.own
    assert sum(nest.own.values()) == nest.alone.report().usage_us["outer"]


@given(nests())
def test_an_outer_one_with_those_in_it_gets_what_it_would_get_alone(nest: Nest) -> None:
    """Busy energy but for rounding, less than a µJ of each, which is the system's; idle energy to
    the µJ; and nobody else has more or less.
    """
    alone, nested = by_meter(nest.alone.report()), by_meter(nest.nested.report())
    for name, item in alone.items():
        other = nested[name]
        lost = item.busy.get("outer", 0) - sum(other.busy.get(who, 0) for who in nest.own)
        assert 0 <= lost <= len(nest.own)
        assert other.system_uj == item.system_uj + lost
        assert sum(other.idle.get(who, 0) for who in nest.own) == item.idle.get("outer", 0)
        assert (other.uj, other.unattributed_uj) == (item.uj, item.unattributed_uj)
        for before, after in ((item.busy, other.busy), (item.idle, other.idle)):
            assert {who: uj for who, uj in after.items() if who not in nest.own} == without(
                before, "outer"
            )


@given(nests())
def test_what_is_inside_of_one_that_is_not_known_is_its_own(nest: Nest) -> None:
    """Without the outer one, as where it is one too many to be looked at, those in it have what
    they used.
    """
    inner = {name: us for name, us in nest.own.items() if name != "outer"}
    report = nest.nested.without_consumer("outer").report()
    assert {name: report.usage_us[name] for name in inner} == inner


def test_docker_in_a_pod_has_its_share_of_the_pods() -> None:
    """900 ms of the pod's container, of which 300 ms are of one in it, of 1 s that ran; then the
    inner one ends, and the rest is the outer one's.
    """
    consumers = {"runner": Consumer(), "inner": Consumer(inside="runner")}
    allocation = EnergyAllocation(
        (Meter("m0", "package", package=0),), (EnergyCpu(0), EnergyCpu(1)), consumers
    )
    zero = {0: 0, 1: 0}
    first = Sample(0, {"m0": 0}, zero, zero, {"runner": 5_000, "inner": 2_000})
    busy, idle = {0: SECOND // 2, 1: SECOND // 2}, {0: SECOND // 2, 1: SECOND // 2}
    second = Sample(SECOND, {"m0": 8_000_000}, busy, idle, {"runner": 905_000, "inner": 302_000})
    report = attribute(first, second, allocation, EnergyPolicy())
    assert report.usage_us == {"runner": 600_000, "inner": 300_000}
    item = report.meters[0]
    assert (item.busy, item.system_uj) == ({"runner": 2_400_000, "inner": 1_200_000}, 400_000)
    third = Sample(2 * SECOND, {"m0": 8_000_000}, busy, idle, {"runner": 1_305_000})
    assert attribute(second, third, allocation, EnergyPolicy()).usage_us == {
        "runner": 400_000,
        "inner": 0,
    }


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ({"a": "a"}, {"a": 9, "b": 5, "c": 2}),
        ({"b": "a", "c": "b"}, {"a": 4, "b": 3, "c": 2}),
        ({"b": "a", "c": "a"}, {"a": 2, "b": 5, "c": 2}),
        ({"a": "d", "c": "b"}, {"a": 9, "b": 3, "c": 2}),
    ],
)
def test_time_is_taken_from_the_nearest_one_around(
    inside: dict[str, str], expected: dict[str, int]
) -> None:
    """Not from those around that one, nor from itself, nor from one that is not known."""
    consumers = {name: Consumer(inside=inside.get(name, "")) for name in "abc"}
    allocation = EnergyAllocation((), (EnergyCpu(0),), consumers)
    before, after = (
        Sample(0, usage_us=dict.fromkeys("abc", 0)),
        Sample(SECOND, usage_us={"a": 9, "b": 5, "c": 2}),
    )
    assert attribute(before, after, allocation, EnergyPolicy()).usage_us == expected


def test_who_is_inside_of_one_that_says_nothing_is_inside_of_the_next() -> None:
    """The middle one could not be read: what is in it is taken from the outermost."""
    consumers = {"a": Consumer(), "b": Consumer(inside="a"), "c": Consumer(inside="b")}
    allocation = EnergyAllocation((), (EnergyCpu(0),), consumers)
    before = Sample(0, usage_us={"a": 0, "b": 0, "c": 0})
    after = Sample(SECOND, usage_us={"a": 9, "c": 2})
    found = attribute(before, after, allocation, EnergyPolicy())
    assert found.usage_us == {"a": 7, "b": 0, "c": 2}


def test_those_inside_get_no_more_than_the_one_around_them_has() -> None:
    """Two that are found late bring 400 ms and 200 ms that were told before as the outer one's,
    which has used 300 ms since: these are divided as theirs were, and nothing is left to it.
    """
    consumers = {"a": Consumer(), "b": Consumer(inside="a"), "c": Consumer(inside="a")}
    allocation = EnergyAllocation((), (EnergyCpu(0),), consumers)
    before = Sample(0, usage_us={"a": 1_000_000})
    after = Sample(SECOND, usage_us={"a": 1_300_000, "b": 400_000, "c": 200_000})
    assert attribute(before, after, allocation, EnergyPolicy()).usage_us == {
        "a": 0,
        "b": 200_000,
        "c": 100_000,
    }


def test_busy_cores_of_one_package_say_nothing_of_another() -> None:
    """Package 0 sleeps, and all that it takes is idle energy, however much the cores of package 1
    take.
    """
    cpus = (EnergyCpu(0, package=0), EnergyCpu(1, package=1))
    meters = (
        Meter("p0", "package", package=0),
        Meter("p1", "package", package=1),
        Meter("c1", "core", package=1),
    )
    allocation = EnergyAllocation(meters, cpus, {"a": Consumer()})
    zero = {0: 0, 1: 0}
    before = Sample(0, dict.fromkeys(("p0", "p1", "c1"), 0), zero, zero, {"a": 0})
    after = Sample(
        SECOND,
        {"p0": 10_000_000, "p1": 60_000_000, "c1": 40_000_000},
        {0: 0, 1: SECOND},
        {0: SECOND, 1: 0},
        {"a": SECOND},
    )
    asleep, awake, _ = attribute(before, after, allocation, EnergyPolicy()).meters
    assert (asleep.busy_uj, asleep.busy) == (0, {})
    assert awake.busy_uj == 60_000_000


def test_an_interval_of_a_microsecond_is_one() -> None:
    """Two hyperthreads that both ran in it share their core as in any other."""
    cpus = (EnergyCpu(0, siblings=(1,)), EnergyCpu(1, siblings=(0,)))
    found = [cpu_weights(cpus, {0: us, 1: us}, {}, us, EnergyPolicy().weights) for us in (1, 1_000)]
    assert found[0] == found[1]
    assert found[0] != cpu_weights(cpus, {0: 1, 1: 0}, {}, 1, EnergyPolicy().weights)


# --- whose idle energy is ---


@given(intervals(), st.sampled_from(("owner", "requests", "node")))
def test_the_idle_policy_changes_no_busy_energy(interval: Interval, idle: str) -> None:
    """It says whose idle energy is, not how much of it there is."""
    other = by_meter(evolve(interval, policy=evolve(interval.policy, idle=idle)).report())
    for name, item in by_meter(interval.report()).items():
        assert (item.busy, item.system_uj) == (other[name].busy, other[name].system_uj)


@given(intervals())
def test_under_node_nobody_bears_idle_energy(interval: Interval) -> None:
    """It is unattributed, all of it."""
    for item in evolve(interval, policy=evolve(interval.policy, idle="node")).report().meters:
        assert not item.idle


@given(intervals())
def test_under_owner_only_owners_of_exclusive_cpus_bear_idle_energy(interval: Interval) -> None:
    """A CPU that two sets claim is nobody's."""
    mine = owned(interval)
    for item in evolve(interval, policy=evolve(interval.policy, idle="owner")).report().meters:
        assert all(mine[name] for name in item.idle)


@given(intervals())
def test_under_requests_owners_bear_what_they_bear_under_owner(interval: Interval) -> None:
    """Requests divide the rest alone."""
    mine = owned(interval)
    by_owner = by_meter(evolve(interval, policy=evolve(interval.policy, idle="owner")).report())
    for item in evolve(interval, policy=evolve(interval.policy, idle="requests")).report().meters:
        assert {name: uj for name, uj in item.idle.items() if mine[name]} == by_owner[
            item.meter.id
        ].idle


@given(intervals())
def test_under_requests_the_others_bear_idle_energy_by_their_request(interval: Interval) -> None:
    """In proportion, but for rounding down; who asks for nothing bears nothing."""
    consumers, mine = interval.allocation.consumers, owned(interval)
    for item in evolve(interval, policy=evolve(interval.policy, idle="requests")).report().meters:
        borne = {
            name: (item.idle.get(name, 0), consumers[name].request)
            for name in consumers
            if not mine[name]
        }
        assert all(uj == 0 for uj, request in borne.values() if not request)
        for uj, request in borne.values():
            assert all(
                abs(uj * other_request - other * request) <= max(request, other_request)
                for other, other_request in borne.values()
            )


@pytest.mark.parametrize(
    ("idle", "expected", "nobody"),
    [
        ("node", {}, 8_000),
        ("owner", {"owner": 2_000}, 6_000),
        ("requests", {"owner": 2_000, "large": 3_000, "small": 1_000}, 2_000),
    ],
)
def test_idle_energy_of_a_quiet_machine(idle: str, expected: dict[str, int], nobody: int) -> None:
    """8 mJ over four CPUs, one of them owned, and requests for two of the other three."""
    consumers = {
        "owner": Consumer(frozenset({3}), 1_000),
        "large": Consumer(request=1_500),
        "small": Consumer(request=500),
        "none": Consumer(),
    }
    allocation = EnergyAllocation(
        (Meter("m0", "package", package=0),),
        tuple(EnergyCpu(number) for number in range(4)),
        consumers,
    )
    times = dict.fromkeys(range(4), SECOND)
    item = attribute(
        Sample(0, {"m0": 0}, dict.fromkeys(times, 0), dict.fromkeys(times, 0)),
        Sample(SECOND, {"m0": 8_000}, dict.fromkeys(times, 0), times),
        allocation,
        EnergyPolicy(idle),
    ).meters[0]
    assert (dict(item.idle), item.unattributed_uj, item.busy_uj) == (expected, nobody, 0)


# --- over time ---


def carried(previous: Sample, current: Sample) -> Sample:
    """The sample to go on from, as the sampler makes it."""
    return carry(previous, current, [Meter(name, "package") for name in previous.readings])


def replay(history: History, each: Callable[[Sample, Sample, EnergyReport], None]) -> None:
    """Go through a history as the sampler does."""
    previous = history.steps[0].sample
    for step in history.steps[1:]:
        each(
            previous,
            step.sample,
            attribute(previous, step.sample, history.allocation, history.policy),
        )
        previous = carried(previous, step.sample)


def counted(history: History) -> list[tuple[int, Code | None, int]]:
    """Of every interval: what was counted, its fault, and what truly
    passed since the last reading.
    """
    found = []
    previous, last = (
        history.steps[0].sample,
        history.steps[0].true_uj if history.steps[0].readable else None,
    )
    for step in history.steps[1:]:
        for item in attribute(previous, step.sample, history.allocation, history.policy).meters:
            found.append(
                (
                    item.uj,
                    item.fault,
                    step.true_uj - last if step.readable and last is not None else 0,
                )
            )
        last = step.true_uj if step.readable else last
        previous = carried(previous, step.sample)
    return found


@given(histories() | histories(begins_anew=True))
def test_totals_never_fall(history: History) -> None:
    """Whatever wraps, cannot be read, is repeated, sleeps or begins anew."""
    totals: dict[tuple[str, str], int] = {}

    def add(_previous: Sample, _current: Sample, report: EnergyReport) -> None:
        for item in report.meters:
            parts = {
                "uj": item.uj,
                "system": item.system_uj,
                "nobody": item.unattributed_uj,
                **{f"busy {name}": uj for name, uj in item.busy.items()},
            }
            for part, uj in {
                **parts,
                **{f"idle {name}": uj for name, uj in item.idle.items()},
            }.items():
                before = totals.get((item.meter.id, part), 0)
                totals[item.meter.id, part] = before + uj
                assert totals[item.meter.id, part] >= before
        assert all(value >= 0 for value in report.usage_us.values())

    replay(history, add)


@given(histories() | histories(most_watts=400, shortest_us=SECOND, gaps=True))
def test_what_is_counted_without_a_fault_is_what_passed(history: History) -> None:
    """To the µJ, from one reading to the next, through wraps and through samples that could not be
    read.
    """
    for uj, fault, true in counted(history):
        if fault is None:
            assert uj == true


@given(histories(most_watts=400, shortest_us=SECOND, gaps=True))
def test_a_meter_that_cannot_be_read_for_a_while_loses_nothing(history: History) -> None:
    """Its energy counts when it is read again, as long as it has wrapped no more than once."""
    found = counted(history)
    if max((true for _, _, true in found), default=0) < (
        history.allocation.meters[0].range_uj or 0
    ):
        assert {fault for _, fault, _ in found} <= {
            None,
            Code.ENERGY_UNREADABLE,
            Code.ENERGY_WRAPPED,
        }
        assert sum(uj for uj, _, _ in found) == sum(true for _, _, true in found)


@given(histories(begins_anew=True, most_watts=400, shortest_us=SECOND))
def test_a_counter_that_began_anew_while_the_machine_slept_is_marked_or_counted_right(
    history: History,
) -> None:
    """Also where it has passed its old reading since."""
    for uj, fault, true in counted(history):
        if fault is None:
            assert uj == true


def test_a_clock_that_stands_still_or_goes_back_says_nothing() -> None:
    """An empty report, and no error."""
    allocation = EnergyAllocation(
        (Meter("m0", "package", package=0),), (EnergyCpu(0),), {"a": Consumer()}
    )
    for at in (SECOND, 0):
        assert attribute(
            Sample(SECOND, {"m0": 0}), Sample(at, {"m0": 500}), allocation, EnergyPolicy()
        ) == EnergyReport(0)


def test_a_counter_that_wraps_while_it_cannot_be_read_is_counted_once() -> None:
    """100 J before its end, it is not readable for a second and then shows 50 J."""
    meter = Meter("m0", "package", package=0, range_uj=RANGES[0])
    allocation = EnergyAllocation((meter,), (EnergyCpu(0),))
    first, second = Sample(0, {"m0": RANGES[0] - 100 * SECOND}), Sample(SECOND, {"m0": None})
    third = Sample(2 * SECOND, {"m0": 50 * SECOND})
    assert (
        attribute(first, second, allocation, EnergyPolicy()).meters[0].fault
        == Code.ENERGY_UNREADABLE
    )
    item = attribute(carried(first, second), third, allocation, EnergyPolicy()).meters[0]
    assert (item.uj, item.fault) == (150 * SECOND, None)


def test_what_passed_while_a_meter_could_not_be_read_is_plausible() -> None:
    """400 W for a minute are 24 kJ: too much for the last second alone, not for all of the time
    since the last reading.
    """
    allocation = EnergyAllocation(
        (Meter("m0", "package", package=0, range_uj=RANGES[0]),), (EnergyCpu(0),)
    )
    unread, again = Sample(59 * SECOND, {"m0": None}), Sample(60 * SECOND, {"m0": 24_000 * SECOND})
    item = attribute(
        carried(Sample(0, {"m0": 0}), unread), again, allocation, EnergyPolicy()
    ).meters[0]
    assert (item.uj, item.fault) == (24_000 * SECOND, None)


def test_a_counter_that_may_have_wrapped_twice_while_it_could_not_be_read_is_marked() -> None:
    """400 W for twenty minutes are seven times around; the last ten seconds alone allow for less
    than one.
    """
    allocation = EnergyAllocation(
        (Meter("m0", "package", package=0, range_uj=RANGES[1]),), (EnergyCpu(0),)
    )
    unread, again = (
        Sample(1_180 * SECOND, {"m0": None}),
        Sample(1_190 * SECOND, {"m0": 400 * 1_190 * SECOND % RANGES[1]}),
    )
    item = attribute(
        carried(Sample(0, {"m0": 0}), unread), again, allocation, EnergyPolicy()
    ).meters[0]
    assert item.fault is not None


def test_a_counter_that_began_anew_in_a_sleep_and_was_not_read_has_not_wrapped() -> None:
    """The machine slept in the interval before the one in which it shows little again."""
    meter = Meter("m0", "package", package=0, range_uj=RANGES[0])
    allocation = EnergyAllocation((meter,), (EnergyCpu(0),))
    unread, again = (
        Sample(SECOND, {"m0": None}, slept_us=60 * SECOND),
        Sample(2 * SECOND, {"m0": 50 * SECOND}, slept_us=60 * SECOND),
    )
    item = attribute(
        carried(Sample(0, {"m0": RANGES[0] - 100 * SECOND}), unread),
        again,
        allocation,
        EnergyPolicy(),
    ).meters[0]
    assert (item.uj, item.fault) == (0, Code.ENERGY_RESET)


@pytest.mark.parametrize("power", [False, True])
def test_a_first_reading_that_is_no_number_counts_as_none(power: bool) -> None:
    """What it shows next is the first reading then: nothing is counted, least of all less than
    nothing.
    """
    allocation = EnergyAllocation(
        (Meter("m0", "package", package=0, power=power),), (EnergyCpu(0),)
    )
    item = attribute(
        Sample(0, {"m0": -5 * SECOND}), Sample(SECOND, {"m0": SECOND}), allocation, EnergyPolicy()
    ).meters[0]
    assert item.uj == 0


@pytest.mark.parametrize("readings", [{"m0": None}, {"m0": -1}, {}])
def test_a_meter_without_a_reading_keeps_its_last_one(readings: dict[str, int | None]) -> None:
    """Unreadable, no number, or left out."""
    assert (
        carry(Sample(0, {"m0": 7}), Sample(1, readings), [Meter("m0", "package")]).readings.get(
            "m0"
        )
        == 7
    )


def test_a_meter_that_is_none_meanwhile_begins_anew() -> None:
    """A battery that is charged: what it would have given in that time is not counted."""
    assert carry(Sample(0, {"m0": 7}), Sample(1, {"m0": None}), []).readings == {"m0": None}


LINES = st.builds(
    Line, slope_w=st.floats(0, 50), standing_w=st.floats(0, 400), trust=st.floats(0, 1)
)
INSIDE = {
    "package": {"core", "uncore"},
    "psys": {"package", "dram"},
    "platform": {"package", "dram"},
}


@given(PLAUSIBLE, st.lists(LINES, min_size=8, max_size=8))
def test_the_whole_is_no_less_busy_than_what_is_inside_of_it(
    interval: Interval, lines: list[Line]
) -> None:
    """Whatever line each meter has: lines that were learned apart would say of a busy platform that
    it is less busy than its packages.
    """
    meters = interval.allocation.meters
    policy = EnergyPolicy(
        lines={meter.id: line for meter, line in zip(meters, lines, strict=False)}
    )
    report = evolve(interval, policy=policy).report()
    for whole in report.meters:
        inside = [
            item.busy_uj
            for item in report.meters
            if item.meter.zone in INSIDE.get(whole.meter.zone, ())
            and whole.meter.package in (None, item.meter.package)
            and whole.meter.die in (None, item.meter.die)
        ]
        assert whole.busy_uj >= min(whole.uj, sum(inside))


def test_a_platform_whose_line_is_flat_is_as_busy_as_its_packages() -> None:
    """50 W of 80 W are the packages' and busy; the platform's line says that 70 of 100 W are always
    there.
    """
    meters = (Meter("p", "psys"), Meter("k", "package", package=0))
    lines = {"p": Line(1.0, 70.0), "k": Line(50.0, 30.0)}
    cpus = tuple(EnergyCpu(cpu) for cpu in range(2))
    before = Sample(0, {"p": 0, "k": 0}, {0: 0, 1: 0}, {0: 0, 1: 0}, {"a": 0})
    after = Sample(
        SECOND,
        {"p": 100_000_000, "k": 80_000_000},
        {0: SECOND, 1: 0},
        {0: 0, 1: SECOND},
        {"a": SECOND},
    )
    report = attribute(
        before, after, EnergyAllocation(meters, cpus, {"a": Consumer()}), EnergyPolicy(lines=lines)
    )
    assert [item.busy_uj for item in report.meters] == [50_000_000, 50_000_000]
