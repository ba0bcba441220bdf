"""What a container needs to own CPUs under a profile, by the pod alone."""

import pytest

from kpm_planner.model.cluster import Container, Meta, Pod
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Code
from kpm_planner.pod_requests import pod_faults

PROFILES = {
    "fast": PowerProfile(Meta("fast")),
    "slow": PowerProfile(Meta("slow"), shared=True),
}


def container(cpus: int = 2, claims: bool = False, **asked: int) -> Container:
    resources = tuple((f"power.openshift.io/{name}", amount) for name, amount in asked.items())
    return Container("c", (cpus, cpus), (1, 1), resources=resources, claims=claims)


def codes(*containers: Container, guaranteed: bool = True) -> list[Code]:
    pod = Pod(Meta("p"), containers, guaranteed=guaranteed)
    return [code for _, code, _ in pod_faults(pod, PROFILES)]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (codes(container(fast=2)), []),
        (codes(container()), []),
        (codes(container(fast=3)), [Code.POD_COUNT]),
        (codes(container(fast=2), guaranteed=False), [Code.POD_NOT_GUARANTEED]),
        (codes(Container("c", (None, None), resources=(("power.openshift.io/fast", 1),))),
         [Code.POD_COUNT]),
        (codes(Container("c", (None, None), resources=(("power.openshift.io/fast", 1),),
                         claims=True)), []),
        (codes(container(fast=2, slow=2)), [Code.POD_TWO_PROFILES]),
        (codes(container(slow=2)), [Code.POD_PROFILE]),
        (codes(container(fats=2)), [Code.PROFILE_MISSING]),
        (codes(container(zzz=2)), [Code.PROFILE_MISSING]),
    ],
)  # fmt: skip
def test_what_a_pod_asks_is_judged(found: list[Code], wanted: list[Code]) -> None:
    assert found == wanted


def test_without_profiles_names_are_not_judged() -> None:
    pod = Pod(Meta("p"), (container(fats=2),), guaranteed=True)
    assert list(pod_faults(pod, None)) == []
