"""Speeds that change many times a second: how they are written, and that the applier does not take
them for somebody else's.
"""

from pathlib import Path

import pytest
from attrs import evolve

from kpm.request.machines import MachineSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.speed import SpeedWriter
from kpm_applier.state.store import StateStore
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import Container, Meta, Node, Pod
from kpm_planner.model.objects import Intent, PowerProfile, PStates
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.plan import NodeInput, NodePlan, plan_node

FOLDER = "devices/system/cpu/cpufreq/policy2"
PROFILE = PowerProfile(
    Meta("dpdk"),
    pstates=PStates(1000, 2000, "userspace"),
    cpu_scaling_policy=CpuScalingPolicy("polling-dpdk"),
)
MACHINE = build_machine(MachineSpec(cores=4))  # under intel_pstate, which has no governor userspace


def plan(profile: PowerProfile = PROFILE) -> NodePlan:
    """CPU 2 belongs to a pod that asks for the profile."""
    container = Container(
        "app", cpu=(1, 1), memory=(1, 1), resources=(("power.openshift.io/dpdk", 1),), id="x"
    )
    pod = Pod(Meta("web", "default", uid="u"), (container,), "n", "Running", guaranteed=True)
    reported = (ContainerCpus("default", "web", "app", frozenset({2})),)
    return plan_node(
        Intent((profile,)),
        NodeInput(
            Node("n"), MACHINE, Allocation((pod,), reported, allocatable=frozenset(range(1, 4)))
        ),
    )


@pytest.fixture
def model() -> KernelModel:
    return KernelModel(MACHINE)


@pytest.fixture
def applier(model: KernelModel, tmp_path: Path) -> Applier:
    """Open on the model."""
    made = Applier(model, StateStore(str(tmp_path / "state"), "/model", live=False))
    made.open()
    return made


def limits(model: KernelModel) -> tuple[int, int]:
    """What the kernel shows."""
    low, high = (int(model.read(f"{FOLDER}/scaling_{name}_freq")) for name in ("min", "max"))
    return low, high


def test_a_speed_inside_the_limits_is_nobody_elses_value(
    model: KernelModel, applier: Applier
) -> None:
    """No drift, no write; where one is outside the limits of the profile are written again."""
    assert applier.apply(plan()).settled
    assert limits(model) == (1_000_000, 2_000_000)
    writer = SpeedWriter(model)
    for khz in (1_500_000, 1_200_000, 2_000_000):
        writer.set(2, khz, by_limits=True)
        report = applier.apply(plan())
        assert (report.writes, report.drift) == ((), ())
        assert limits(model) == (khz, khz)
    writer.set(2, 3_000_000, by_limits=True)
    assert len(applier.apply(plan()).writes) > 0
    assert limits(model) == (1_000_000, 2_000_000)


def test_without_the_policy_the_profiles_limits_are_back(
    model: KernelModel, applier: Applier
) -> None:
    """And at the end what was there before."""
    before = limits(model)
    applier.apply(plan())
    SpeedWriter(model).set(2, 1_500_000, by_limits=True)
    applier.apply(plan())
    applier.apply(plan(evolve(PROFILE, cpu_scaling_policy=None, pstates=PStates(1000, 2000))))
    assert limits(model) == (1_000_000, 2_000_000)
    applier.restore()
    assert limits(model) == before


def test_the_limits_never_cross(model: KernelModel) -> None:
    """Up and down, also at the first time, when nothing is known of what is there."""
    written: list[tuple[int, int]] = []
    real = model.write

    class Noting:
        """The model, and what its limits are after each write."""

        def __getattr__(self, name: str) -> object:
            return getattr(model, name)

        def write(self, path: str, data: bytes) -> None:
            real(path, data)
            written.append(limits(model))

    for start in (1_000_000, 3_000_000):
        writer = SpeedWriter(Noting())  # type: ignore[arg-type]
        for khz in (start, 2_000_000, 3_700_000, 800_000):
            writer.set(2, khz, by_limits=True)
            assert limits(model) == (khz, khz)
    assert all(low <= high for low, high in written)
