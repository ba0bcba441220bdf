"""Machines, allocations and plans as JSON: what was written is read back as the same value."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm.formats.views import (
    VERSION,
    allocation_of,
    allocation_view,
    features,
    machine_of,
    machine_view,
    plan_view,
    problem_view,
)
from kpm.process.errors import InputError
from kpm.request.machines import MODELS, build_machine
from kpm_applier.discovery.discover import discover
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.cpuset import LARGEST_CPU
from kpm_planner.model.machine import (
    Cpu,
    CpufreqSettings,
    FrequencyDomain,
    IdleState,
    Machine,
    UncoreEntry,
)
from kpm_planner.model.problems import Code, warning
from kpm_planner.plan import ClusterPlan, NodePlan, plan_cluster
from tests.kpm.cli_rig import examples
from tests.kpm.random_samples import machines as described_machines
from tests.kpm.tree_samples import TREES, build_tree
from tests.strategies.machines import machines as found_machines
from tests.strategies.pods import allocations
from tests.strategies.scenarios import Scenario, scenarios

_ID = st.none() | st.integers(0, 70)
_KHZ = st.none() | st.integers(0, 9_999_999)
_WORD = st.text("abcXYZ019-_. é[", min_size=1, max_size=8)
_WORDS = st.lists(_WORD, max_size=3, unique=True).map(tuple)


@st.composite
def odd_machines(draw: st.DrawFn) -> Machine:
    """Machines of every value that the types allow: almost nothing known, gaps, texts of any
    letters.
    """
    numbers = sorted(draw(st.sets(st.integers(0, LARGEST_CPU), min_size=1, max_size=4)))
    domains = []
    for number in numbers[: draw(st.integers(0, len(numbers)))]:
        low, high, top = (draw(st.none() | st.integers(1, 9_999_999)) for _ in range(3))
        limit = max((khz for khz in (high, top) if khz is not None), default=None)
        table = tuple(sorted(draw(st.sets(st.integers(1, 9_999_999), max_size=2))))
        settings = CpufreqSettings(
            draw(_KHZ), draw(_KHZ), draw(st.none() | _WORD), draw(st.none() | _WORD)
        )
        named = draw(st.booleans())
        domains.append(
            FrequencyDomain(
                number,
                (number,),
                draw(st.none() | _WORD),
                low,
                high,
                limit,
                table,
                draw(_WORDS),
                draw(_WORDS),
                settings,
                named,
            )
        )
    names = {domain.id for domain in domains}
    state = st.builds(
        IdleState,
        st.integers(0, 9),
        _WORD,
        st.integers(0, 10**6),
        st.booleans(),
        st.none() | st.booleans(),
    )
    cpus = tuple(
        Cpu(
            number,
            draw(st.booleans()),
            draw(_ID),
            draw(_ID),
            draw(_ID),
            draw(_ID),
            tuple(draw(st.sampled_from([(), (number,)]))),
            number if number in names else None,
            tuple(draw(st.lists(state, max_size=2))),
        )
        for number in numbers
    )
    uncore = st.builds(UncoreEntry, _WORD, _ID, _ID, _ID, _ID, _KHZ, _KHZ, _KHZ, _KHZ)
    return Machine(
        architecture=draw(st.none() | _WORD),
        cpu_model=draw(st.none() | _WORD),
        cpus=cpus,
        domains=tuple(domains),
        idle_driver=draw(st.none() | _WORD),
        uncore=tuple(draw(st.lists(uncore, max_size=2, unique_by=lambda entry: entry.name))),
        boost=draw(st.none() | st.booleans()),
        driver_status=draw(st.none() | _WORD),
        min_percent=draw(st.none() | st.integers(0, 100)),
        max_percent=draw(st.none() | st.integers(0, 100)),
    )


def through_json(content: Any) -> Any:
    return json.loads(json.dumps(content))


@given(st.one_of(odd_machines(), found_machines(), described_machines()))
@examples(200)
def test_a_machine_there_and_back(machine: Machine) -> None:
    content = through_json(machine_view(machine))
    assert machine_of(content, "m") == machine
    assert through_json(machine_view(machine_of(content, "m"))) == content


@pytest.mark.parametrize("name", MODELS)
def test_a_model_there_and_back(name: str) -> None:
    machine = build_machine(MODELS[name])
    assert machine_of(through_json(machine_view(machine)), "m") == machine


@pytest.mark.parametrize("name", TREES)
def test_a_tree_there_and_back(name: str, tmp_path: Path) -> None:
    machine = discover(SysfsHost(str(build_tree(tmp_path / "sys", TREES[name])))).machine
    assert machine_of(through_json(machine_view(machine)), "m") == machine


def test_a_dump_there_and_back(dump: Path) -> None:
    machine = discover(SysfsHost(str(dump))).machine
    assert machine_of(through_json(machine_view(machine)), "m") == machine


def test_a_machine_of_a_later_release_may_say_more() -> None:
    """Unknown keys are not read, at any depth; keys that this release has added may be missing."""
    machine = build_machine(MODELS["xeon"])
    content = through_json(machine_view(machine))

    def grow(value: Any) -> Any:
        if isinstance(value, dict):
            return {**{key: grow(item) for key, item in value.items()}, "addedLater": {"any": [1]}}
        return [grow(item) for item in value] if isinstance(value, list) else value

    assert machine_of(grow(content), "m") == machine
    for domain in content["frequencyDomains"]:
        del domain["limitMaxKHz"]
    del content["driverStatus"], content["features"]
    assert machine_of(content, "m") == evolve(machine, driver_status=None)


def test_what_limits_a_machine_as_a_whole_is_written_where_a_file_says_so() -> None:
    """Each end by itself, 0 among them; what the switch was before us is none of the machine's."""
    plain = build_machine(MODELS["xeon"])
    assert not {"minPercent", "maxPercent"} & machine_view(plain).keys()
    for low, high in ((0, None), (None, 50), (10, 100)):
        limited = evolve(plain, min_percent=low, max_percent=high)
        content = through_json(machine_view(limited))
        assert {key: content[key] for key in ("minPercent", "maxPercent") if key in content} == {
            key: value
            for key, value in (("minPercent", low), ("maxPercent", high))
            if value is not None
        }
        assert machine_of(content, "m") == limited
    assert machine_view(evolve(plain, boost_before=True)) == machine_view(plain)


def test_of_a_limit_that_no_file_names_it_is_written_that_none_does() -> None:
    """Of one that a file names nothing is, as in what earlier releases wrote."""
    plain = build_machine(MODELS["xeon"])
    first, *others = plain.domains
    mixed = evolve(plain, domains=(evolve(first, limit_named=False), *others))
    content = through_json(machine_view(mixed))
    assert content["frequencyDomains"][0]["limitNamed"] is False
    assert not any("limitNamed" in domain for domain in content["frequencyDomains"][1:])
    assert machine_of(content, "m") == mixed
    for told in (True, None):
        content["frequencyDomains"][0]["limitNamed"] = told
        assert machine_of(content, "m") == plain


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("minPercent", "10"),
        ("maxPercent", 1.5),
        ("maxPercent", True),
        ("minPercent", []),
        ("limitNamed", 0),
        ("limitNamed", "false"),
        ("limitNamed", {}),
    ],
)
def test_such_a_field_of_another_type_is_named(place: str, value: Any) -> None:
    """Rather than taken for what it is not."""
    content = through_json(machine_view(build_machine(MODELS["xeon"])))
    (content["frequencyDomains"][0] if place == "limitNamed" else content)[place] = value
    with pytest.raises(InputError, match=place):
        machine_of(content, "m")


def test_the_least_that_is_a_machine() -> None:
    assert machine_of({"version": 1, "cpus": [{"cpu": 5}, {"cpu": 2}]}, "m") == Machine(
        cpus=(Cpu(2), Cpu(5))
    )


@given(found_machines())
@examples(50)
def test_features_say_what_there_is(machine: Machine) -> None:
    found = {item["name"]: item["supported"] for item in features(machine)}
    assert found == {
        "frequency": any(domain.managed for domain in machine.domains),
        "epp": any(domain.settings.epp is not None for domain in machine.domains),
        "idle": any(cpu.idle for cpu in machine.cpus),
        "uncore": bool(machine.uncore),
        "cap": bool(machine.power_zones),
        "fabric": bool(machine.fabrics),
        "boost": machine.boost is not None,
    }
    assert all(item["reason"] for item in features(machine))


@pytest.mark.parametrize(
    "lacking",
    [
        {"hardware_min_khz": None},
        {"hardware_max_khz": None},
        {"hardware_min_khz": None, "hardware_max_khz": None},
    ],
)
def test_a_driver_without_a_range_is_not_said_to_be_none(
    lacking: dict[str, Any],
) -> None:
    """What is missing is the range; an untried driver is named where its range is known."""
    plain = build_machine(MODELS["xeon"])
    unknown = evolve(plain, domains=tuple(evolve(domain, **lacking) for domain in plain.domains))
    foreign = evolve(
        unknown, domains=(evolve(plain.domains[0], driver="apple-cpufreq"), *unknown.domains[1:])
    )
    none = evolve(plain, domains=())
    reasons = {
        name: features(machine)[0]
        for name, machine in (
            ("plain", plain),
            ("unknown", unknown),
            ("foreign", foreign),
            ("none", none),
        )
    }
    assert {item["name"] for item in reasons.values()} == {"frequency"}
    assert {name: item["supported"] for name, item in reasons.items()} == {
        "plain": True,
        "unknown": False,
        "foreign": True,
        "none": False,
    }
    assert (
        reasons["unknown"]["reason"]
        == "no file says between which frequencies the hardware runs (cpuinfo_min_freq,"
        " cpuinfo_max_freq)"
    )
    assert reasons["foreign"]["reason"] == (
        "driver apple-cpufreq, intel_pstate; not tried with apple-cpufreq, the general rules hold"
    )
    assert reasons["none"]["reason"] == "no cpufreq policy: no scaling driver is loaded"


# --- allocations ---


@given(st.data())
@examples(100)
def test_an_allocation_there_and_back(data: st.DataObject) -> None:
    """With the pods that it refers to; what the caller keeps from earlier answers is not part of
    it.
    """
    machine = data.draw(found_machines(most_cpus=6))
    drawn = data.draw(allocations(machine))
    allocation = evolve(drawn, last_known=None, accepted=frozenset())
    again = allocation_of(through_json(allocation_view(allocation)), allocation.pods, "a")
    assert again == allocation


def test_what_an_allocation_may_leave_out() -> None:
    assert allocation_of({"version": VERSION}, (), "a") == Allocation()
    for content in ({}, {"version": 2}, {"version": "1"}):
        with pytest.raises(InputError, match=r"^a\.version"):
            allocation_of(content, (), "a")


def test_not_answered_and_not_asked_are_not_empty() -> None:
    for allocation in (
        Allocation(answered=False),
        Allocation(allocatable=frozenset()),
        Allocation(allocatable=frozenset({1})),
        Allocation(allocatable=None),
    ):
        assert allocation_of(through_json(allocation_view(allocation)), (), "a") == allocation


# --- plans ---


@given(scenarios())
@examples(60)
def test_a_plan_says_of_each_cpu_what_its_group_has(scenario: Scenario) -> None:
    plan = scenario.plan()
    (content,) = through_json(plan_view(ClusterPlan((plan,))))["nodes"]
    by_number = {item["cpu"]: item for item in content["cpus"]}
    assert list(by_number) == sorted(cpu.id for cpu in scenario.machine.cpus)
    for group in plan.groups:
        for cpu in group.cpus:
            item = by_number[cpu]
            assert (item["pool"], item["profile"], item["held"]) == (
                str(group.pool),
                group.profile,
                group.held,
            )
            assert (item["minKHz"], item["maxKHz"], item["governor"], item["epp"]) == (
                group.target.min_khz,
                group.target.max_khz,
                group.target.governor,
                group.target.epp,
            )
            assert item["cstates"] == (dict(group.target.idle) or None)
            assert item["because"] == list(group.because)
            assert (item["container"] or {}).get("pod") == (
                group.container.pod if group.container else None
            )
    assert content["extendedResources"] == dict(plan.extended_resources)
    assert len(content["problems"]) == len(plan.problems)


def test_a_problem_and_an_end_of_validity() -> None:
    problem = warning(Code.EPP_WORD, "PowerProfile/p", "spec.pstates.epp", "no")
    assert problem_view(problem) == {
        "severity": "warning",
        "code": "epp-word",
        "object": "PowerProfile/p",
        "field": "spec.pstates.epp",
        "message": "no",
    }
    until = NodePlan("n", valid_until=datetime(2026, 1, 31, tzinfo=UTC))
    content = through_json(plan_view(ClusterPlan((until, NodePlan("m")), (problem,))))
    assert [item["validUntil"] for item in content["nodes"]] == ["2026-01-31T00:00:00+00:00", None]
    assert content["problems"] == [problem_view(problem)]
    assert content["version"] == VERSION


@given(scenarios(most_cpus=8))
@examples(30)
def test_a_plan_of_what_was_read_back_is_the_same(scenario: Scenario) -> None:
    """The reason for all of this: a recording gives the plan that was recorded."""
    allocation = evolve(scenario.item.allocation, last_known=None, accepted=frozenset())
    names = [(pod.meta.namespace or "default", pod.meta.name) for pod in allocation.pods]
    if len(set(names)) < len(names):
        return  # the input refuses one pod twice
    item = evolve(scenario.item, allocation=allocation)
    again = evolve(
        item,
        machine=machine_of(through_json(machine_view(item.machine)), "m"),
        allocation=allocation_of(through_json(allocation_view(allocation)), allocation.pods, "a"),
    )
    assert plan_view(plan_cluster(scenario.intent, [again])) == plan_view(
        plan_cluster(scenario.intent, [item])
    )
