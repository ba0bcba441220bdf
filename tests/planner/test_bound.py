"""CPUs of containers that the kubelet names none for: out of cgroups and of claims (rule S31).

A cpuset counts for a container that is entitled, of as many CPUs as it asks for, which nobody else
is bound to. Nothing else about a cpuset does.
"""

from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.bound import lacking
from kpm_planner.model.allocation import Allocation, ContainerCpus, RuntimeCpus
from kpm_planner.model.assignment import Pool
from kpm_planner.model.cluster import Pod
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.problems import Code, Problem
from kpm_planner.ownership import resolve_ownership
from kpm_planner.ownership_memory import awaited
from tests.planner.build import (
    allocation,
    asking,
    container,
    machine,
    on_cpu,
    owns,
    plan,
    pod,
    profile,
    workload,
)
from tests.planner.reading import with_code

PROFILES = (
    profile(),
    profile("shared", shared=True, governor="powersave"),
    workload(uses="shared"),
)
CLAIM = pod(asking(2, claims=True), uid="u1")
PLAIN = pod(asking(2), uid="u1")
#: The same claim, but no profile.
UNTUNED = pod(container(cpu=2, claims=True), uid="u1")


def bound(*entries: tuple[str, str], pods: Iterable[Pod] = (CLAIM,), **fields: Any) -> Allocation:
    """What cgroups say: (pod uid, CPUs) of containers named app. The kubelet hands out no CPUs."""
    cpusets = tuple(
        RuntimeCpus(uid, "app", tuple(sorted(parse_cpulist(cpus)))) for uid, cpus in entries
    )
    return allocation(pods, allocatable=frozenset({1, 2, 3}), cpusets=cpusets, **fields)


def claim(cpus: str) -> dict[str, Any]:
    """What CDI says of the claim."""
    return {"claimed": (ContainerCpus("ns1", "web", "app", parse_cpulist(cpus)),)}


def exclusive(given: Allocation) -> set[int]:
    """The CPUs that are somebody's own."""
    found = plan(*PROFILES, on=machine("0-3"), with_=given)
    return {cpu for cpu in range(4) if on_cpu(found, cpu).pool is Pool.EXCLUSIVE}


OTHER = pod(container(), name="other", uid="u2")


@pytest.mark.parametrize(
    ("given", "own"),
    [
        (bound(("u1", "2-3")), {2, 3}),
        (bound(("u1", "2-3"), ("u2", "0-1"), pods=(CLAIM, OTHER)), {2, 3}),
        (bound(("u1", "2-3"), **claim("2-3")), {2, 3}),
        (bound(**claim("1,3")), {1, 3}),
        (bound(("u1", "2-3"), pods=(PLAIN,)), {2, 3}),
        (bound(("u1", "2-3"), pods=(UNTUNED,)), {2, 3}),
        (bound(("u1", "1-3"), pods=(UNTUNED,), **claim("1-3")), {1, 2, 3}),
        (bound(("u1", "1-3")), set()),
        (bound(("u1", "2-3"), ("u2", "0-3"), pods=(CLAIM, OTHER)), set()),
        (bound(("u1", "2-3"), **claim("1-2")), set()),
        (bound(**claim("1-3")), set()),
        (bound(("u1", "2-3"), pods=(pod(container(cpu=2), uid="u1"),)), set()),
        (bound(("u1", "2-3"), pods=(pod(container(claims=True), uid="u1"),)), set()),
    ],
    ids=[
        "a cpuset",
        "beside another",
        "both agree",
        "the claim alone",
        "no claim, a profile",
        "a claim, no profile",
        "as CDI counts",
        "more CPUs than asked for",
        "shared with another",
        "they differ",
        "a claim of another number",
        "neither claim nor profile",
        "a claim of something else",
    ],
)
def test_a_cpuset_counts_for_who_is_entitled_and_alone(given: Allocation, own: set[int]) -> None:
    assert exclusive(given) == own


def test_what_a_claim_gave_without_a_profile_is_as_any_exclusive_cpu_without_one() -> None:
    with_claim = bound(("u1", "2-3"), pods=(UNTUNED,))
    with_kubelet = allocation([UNTUNED], [owns("2-3")], allocatable=frozenset({1, 2, 3}))
    found, as_ever = (
        plan(*PROFILES, on=machine("0-3"), with_=given) for given in (with_claim, with_kubelet)
    )
    assert found.groups == as_ever.groups


def told(given: Allocation, code: Code) -> list[Problem]:
    return with_code(plan(*PROFILES, on=machine("0-3"), with_=given).problems, code)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (bound(("u1", "0-3")), "bound to CPUs 0-3, which are not as many as the 2 it asks for"),
        (
            bound(("u1", "2-3"), ("u2", "0-3"), pods=(CLAIM, OTHER)),
            "bound to CPUs 2-3, and so is ns1/other/app",
        ),
        (bound(("u1", "2-3"), ("u9", "0-3")), "bound to CPUs 2-3, and so is a pod of uid u9"),
        (
            bound(("u1", "0-3"), **claim("2-3")),
            "its claims give it CPUs 2-3, but it is bound to 0-3",
        ),
    ],
)
def test_why_a_cpuset_does_not_count_is_said_of_the_pod(given: Allocation, reason: str) -> None:
    listed = evolve(given, reported=(owns(""),))
    (problem,) = told(listed, Code.POD_WITHOUT_CPUS)
    assert (problem.object, reason in problem.message) == ("Pod/ns1/web", True), problem.message


def test_a_claim_and_a_cpuset_that_differ_are_told_without_a_profile_too() -> None:
    (problem,) = told(
        bound(("u1", "0-3"), pods=(UNTUNED,), **claim("2-3")), Code.ALLOCATION_DIFFERS
    )
    assert problem.message == "container app: its claims give it CPUs 2-3, but it is bound to 0-3"


def test_who_has_cpus_of_elsewhere_is_not_waited_for() -> None:
    assert awaited(bound())
    assert not awaited(bound(("u1", "2-3")))


def test_it_is_worth_looking_only_for_who_may_own_cpus_and_has_none() -> None:
    key = ("ns1", "web", "app")
    assert (
        lacking([CLAIM], [], ())
        == lacking([CLAIM], [owns("")], ())
        == lacking([UNTUNED], [], ())
        == {key}
    )
    assert not lacking([CLAIM], [owns("2-3")], ())
    assert not lacking([pod(container(cpu=2), uid="u1")], [], ())
    assert not lacking([evolve(CLAIM, phase="Succeeded")], [], ())


UIDS = ("u1", "u2", "u3")
CPUSETS = st.dictionaries(st.sampled_from(UIDS), st.frozensets(st.integers(0, 7), min_size=1))
PODS = tuple(pod(asking(2, claims=True), name=f"web-{uid}", uid=uid) for uid in UIDS)


@given(
    CPUSETS, st.dictionaries(st.sampled_from(UIDS), st.frozensets(st.integers(0, 7), min_size=1))
)
def test_whoever_owns_cpus_by_files_is_alone_on_them(
    cpusets: dict[str, frozenset[int]], claims: dict[str, frozenset[int]]
) -> None:
    """Whatever the files say: owners have what they ask for, and nobody else is bound to it."""
    entries = tuple(RuntimeCpus(uid, "app", tuple(sorted(cpus))) for uid, cpus in cpusets.items())
    claimed = tuple(ContainerCpus("ns1", f"web-{uid}", "app", cpus) for uid, cpus in claims.items())
    found = resolve_ownership(allocation(PODS, cpusets=entries, claimed=claimed))
    for owner in found.owners:
        others = [cpus for uid, cpus in (*cpusets.items(), *claims.items()) if uid != owner.ref.uid]
        assert len(owner.cpus) == 2
        assert owner.cpus == cpusets.get(owner.ref.uid, claims.get(owner.ref.uid))
        assert all(owner.cpus.isdisjoint(cpus) for cpus in others)
