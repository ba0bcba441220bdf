"""A described machine is what discovery finds of it, and what one plan would write where another is
in force is what the applier writes there.
"""

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm.request.machines import MODELS, build_machine
from kpm_applier.attributes import Kind
from kpm_applier.described import Described, between, describe
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import Target
from tests.applier import rig
from tests.applier.property.asks import plans, small_machines


def found(machine: Machine) -> tuple[Described, Any]:
    """A machine as it was discovered, described; and the discovery."""
    seen = discover(KernelModel(machine))
    return describe(seen.machine), seen


def assert_same(machine: Machine) -> None:
    described, seen = found(machine)
    of_cpus = [
        [group.key for group in groups if group.kind in (Kind.CPUFREQ, Kind.IDLE, Kind.CPU)]
        for groups in (described.groups, seen.groups)
    ]
    assert of_cpus[0] == of_cpus[1], "in one order"
    assert {group.key: group for group in described.groups} == {
        group.key: group for group in seen.groups
    }
    assert {group.key: group.files for group in described.groups} == {
        group.key: group.files for group in seen.groups
    }
    assert described.observed.values == dict(seen.observed.values)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_described_as_it_is_discovered(name: str) -> None:
    assert_same(build_machine(MODELS[name]))


@given(small_machines())
def test_a_machine_is_described_as_it_is_discovered(machine: Machine) -> None:
    """Groups, files, labels, hardware limits, texts."""
    assert_same(machine)


@given(st.data())
def test_what_a_second_plan_would_write_is_what_it_writes(data: st.DataObject) -> None:
    """File by file and in order, where nobody else writes and nothing is rounded."""
    machine = data.draw(small_machines())
    machine = evolve(
        machine,
        boost=None,
        domains=tuple(evolve(item, available_khz=()) for item in machine.domains),
    )
    described, seen = found(machine)
    first, second = (data.draw(plans(seen.machine, whole=True)) for _ in range(2))
    with rig.state_folder() as folder, rig.applier(KernelModel(machine), folder) as handle:
        handle.apply(first)
        if any(item.shows != item.asked for item in handle.holdings):
            return  # rounded: from afar that is not known
        assert between(described, first, second) == handle.preview(second)


def test_nothing_is_written_for_the_plan_in_force() -> None:
    described, seen = found(rig.intel(4))
    plan = rig.everywhere(seen.machine, Target(900_000, 1_800_000))
    assert between(described, plan, plan) == ()
