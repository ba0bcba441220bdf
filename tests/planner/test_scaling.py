"""Which frequency domains follow telemetry: those whose CPUs are all under a profile with a policy,
with that profile's limits.
"""

from typing import Any

from attrs import evolve

from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Code, Severity
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.plan import NodePlan
from kpm_planner.scaling import PodCpus
from tests.planner.build import allocation, asking, machine, on_cpu, owns, plan, pod, profile
from tests.planner.reading import with_code

POLICY = CpuScalingPolicy("polling-dpdk", target_usage=70)
ACPI = machine("0-3", driver="acpi-cpufreq")


def scaled(**pstates: Any) -> PowerProfile:
    """The profile that pods ask for, with a policy."""
    fields: dict[str, Any] = {"min": 1000, "max": 2000, "governor": "userspace", **pstates}
    return evolve(profile(**fields), cpu_scaling_policy=POLICY)


def domains(found: NodePlan) -> list[tuple[int, tuple[int, ...], int, int, bool]]:
    """Domain, CPUs, limits, by limits."""
    return [
        (item.domain, item.cpus, item.scaling.min_khz, item.scaling.max_khz, item.by_limits)
        for item in found.scaling
    ]


def test_a_pods_cpus_are_scaled_between_the_profiles_limits() -> None:
    """One entry a domain, with the pod whose telemetry counts; the plan itself asks for governor
    userspace.
    """
    found = plan(scaled(), with_=allocation([pod()], [owns("1-2")]), on=ACPI)
    assert domains(found) == [
        (1, (1,), 1_000_000, 2_000_000, False),
        (2, (2,), 1_000_000, 2_000_000, False),
    ]
    assert {item.pods for item in found.scaling} == {
        (PodCpus(pod().meta.uid, (1,)),),
        (PodCpus(pod().meta.uid, (2,)),),
    }
    assert {item.scaling.target for item in found.scaling} == {70}
    assert on_cpu(found, 1).target.governor == "userspace"


def test_without_a_policy_nothing_is_scaled() -> None:
    """Whatever the governor."""
    assert (
        plan(
            profile(governor="userspace"), with_=allocation([pod()], [owns("1-2")]), on=ACPI
        ).scaling
        == ()
    )


def test_without_governor_userspace_the_limits_are_the_speed() -> None:
    """A warning, and no error: the profile can be used."""
    found = plan(scaled(), with_=allocation([pod()], [owns("1-2")]))
    assert [item[-1] for item in domains(found)] == [True, True]
    assert [item.severity for item in with_code(found.problems, Code.GOVERNOR_UNAVAILABLE)] == [
        Severity.WARNING
    ]
    assert on_cpu(found, 1).target.governor is None


def test_a_domain_is_scaled_as_a_whole_or_not_at_all() -> None:
    """A neighbour that is not scaled keeps the domain where the plan has it."""
    for governors in (None, ("performance", "powersave")):
        shared = machine(
            "0-3",
            driver="acpi-cpufreq",
            shared=[(0, 1), (2, 3)],
            governors=governors,
        )
        found = plan(scaled(), with_=allocation([pod(asking(3))], [owns("1-3")]), on=shared)
        assert [item[:2] for item in domains(found)] == [(2, (2, 3))]
