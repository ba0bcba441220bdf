"""The model of the static CPU manager: whole physical cores first, packed, never a reserved CPU,
never two owners.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import ceil

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from kpm.request.cpu_manager import Refusal, assign_cpus, take
from kpm.request.machines import CoreSpec, MachineSpec, build_machine
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import Container, Meta, Pod
from kpm_planner.model.machine import Machine
from tests.kpm.cli_rig import examples
from tests.strategies.machines import machines as found_machines


@st.composite
def uniform(draw: st.DrawFn) -> Machine:
    """Machines whose cores have all the same number of threads, all online."""
    spec = MachineSpec(
        packages=draw(st.integers(1, 3)),
        dies=draw(st.integers(1, 2)),
        cores=draw(st.integers(1, 5)),
        threads=draw(st.integers(1, 3)),
        numbering=draw(st.sampled_from(["split", "adjacent"])),
    )
    return build_machine(spec)


MIXED = build_machine(MachineSpec(kinds=(CoreSpec(3, "P", 2), CoreSpec(4, "E", 1))))
#: Any machine: unlike cores, offline CPUs, gaps in the numbering, no topology.
ANY = st.one_of(
    uniform(),
    found_machines(),
    st.just(MIXED),
    found_machines().map(
        lambda machine: evolve(
            machine, cpus=tuple(evolve(cpu, siblings=(), package=None) for cpu in machine.cpus)
        )
    ),
)


def pod(
    name: str,
    *counts: int | Fraction | None,
    namespace: str | None = None,
    phase: str = "Running",
    guaranteed: bool = True,
) -> Pod:
    """A pod with one container for each CPU count."""
    containers = tuple(
        Container(f"c{index}", (count, count), (1, 1)) for index, count in enumerate(counts)
    )
    return Pod(Meta(name, namespace), containers, "n", phase, None, guaranteed)


def owned(allocation: Allocation) -> dict[tuple[str, str], frozenset[int]]:
    return {(item.pod, item.container): item.cpus for item in allocation.reported}


def cores_of(machine: Machine, cpus: Iterable[int]) -> dict[tuple[int, ...], set[int]]:
    """Online siblings of each core → those of them that are among these CPUs."""
    found: dict[tuple[int, ...], set[int]] = {}
    for cpu in cpus:
        siblings = machine.by_id[cpu].siblings or (cpu,)
        found.setdefault(tuple(sorted(machine.online.intersection(siblings))), set()).add(cpu)
    return found


@st.composite
def workloads(draw: st.DrawFn) -> tuple[Machine, list[Pod], frozenset[int]]:
    """A machine, pods of many kinds, and reserved CPUs."""
    machine = draw(ANY)
    reserved = draw(st.frozensets(st.sampled_from(sorted(machine.online)), max_size=3))
    counts = st.lists(st.sampled_from([1, 1, 2, 2, 3, 4, 8, None]), min_size=1, max_size=3)
    names = draw(
        st.lists(
            st.tuples(st.sampled_from("abcdef"), st.sampled_from([None, "x"])),
            unique=True,
            max_size=5,
        )
    )
    pods = [
        pod(
            name,
            *draw(counts),
            namespace=namespace,
            phase=draw(st.sampled_from(["Running", "Running", "Pending", "Failed"])),
            guaranteed=draw(st.sampled_from([True, True, False])),
        )
        for name, namespace in names
    ]
    return machine, pods, reserved


# --- ownership ---


@given(workloads())
@examples(100)
def test_nobody_owns_what_is_not_his(given_all: tuple[Machine, list[Pod], frozenset[int]]) -> None:
    """Exactly as many CPUs as asked for, online, not reserved, each with one owner; or a refusal
    that says the truth.
    """
    machine, pods, reserved = given_all
    allocation, refused = assign_cpus(machine, pods, reserved)
    taken = [cpu for item in allocation.reported for cpu in item.cpus]
    assert len(taken) == len(set(taken))
    assert set(taken) <= machine.online - reserved
    wanted = {
        (item.meta.namespace or "default", item.meta.name, container.name): container.cpu[0]
        for item in pods
        if item.live and item.guaranteed
        for container in item.containers
        if container.cpu[0] is not None
    }
    served = {
        (item.namespace, item.pod, item.container): len(item.cpus) for item in allocation.reported
    }
    left = {(item.namespace, item.pod, item.container): item for item in refused}
    assert served.keys() | left.keys() == wanted.keys()
    assert not served.keys() & left.keys()
    assert all(wanted[key] == count for key, count in served.items())
    for key, item in left.items():
        assert item.wanted == wanted[key] > item.free >= len(machine.online - reserved) - len(taken)
    assert allocation.allocatable == machine.online - reserved
    assert allocation.answered
    assert set(allocation.pods) == {item for item in pods if item.live}


@given(workloads(), st.randoms(use_true_random=False))
@examples(50)
def test_the_order_of_pods_changes_nothing(
    given_all: tuple[Machine, list[Pod], frozenset[int]], chance: object
) -> None:
    machine, pods, reserved = given_all
    shuffled = list(pods)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = assign_cpus(machine, pods, reserved), assign_cpus(machine, shuffled, reserved)
    assert owned(first[0]) == owned(second[0])
    assert first[1] == second[1]


@given(workloads(), st.data())
@examples(80)
def test_those_that_have_cpus_keep_them(
    given_all: tuple[Machine, list[Pod], frozenset[int]], data: st.DataObject
) -> None:
    """Pods that come and go never move the CPUs of another; what they leave is free again."""
    machine, pods, reserved = given_all
    if not pods:
        return
    some = data.draw(
        st.lists(
            st.sampled_from(pods), unique_by=lambda item: (item.meta.name, item.meta.namespace)
        )
    )
    before, _ = assign_cpus(machine, some, reserved)
    after, _ = assign_cpus(machine, pods, reserved, before)
    had, has = (
        {(item.namespace, item.pod, item.container): item.cpus for item in allocation.reported}
        for allocation in (before, after)
    )
    assert had.items() <= has.items()
    assert assign_cpus(machine, pods, reserved, after)[0] == after
    empty, _ = assign_cpus(machine, [], reserved, after)
    assert empty.reported == ()
    again, _ = assign_cpus(machine, pods, reserved, empty)
    assert again == assign_cpus(machine, pods, reserved)[0]


def test_who_gets_none() -> None:
    """Fractions, Burstable, no request, a finished container, a finished pod: the shared pool, as
    the kubelet does it.
    """
    machine = build_machine(MachineSpec(cores=8))
    fraction = pod("fraction", Fraction(3, 2))
    done = evolve(pod("done", 1), containers=(Container("c", (1, 1), finished=True),))
    unequal = evolve(pod("unequal"), containers=(Container("c", (1, 2)),))
    nothing = evolve(pod("nothing"), containers=(Container("c", (0, 0)),))
    others = [
        fraction,
        done,
        unequal,
        nothing,
        pod("burstable", 1, guaranteed=False),
        pod("ended", 1, phase="Succeeded"),
        pod("evicted", 1, phase="Failed"),
    ]
    allocation, refused = assign_cpus(machine, [*others, pod("owner", 1)], frozenset())
    assert owned(allocation) == {("owner", "c0"): frozenset({0})}
    assert refused == ()


def test_pods_of_one_name_in_two_namespaces() -> None:
    machine = build_machine(MachineSpec(cores=4))
    allocation, _ = assign_cpus(
        machine, [pod("web", 2, namespace="a"), pod("web", 2, namespace="b")], frozenset()
    )
    assert [(item.namespace, item.cpus) for item in allocation.reported] == [
        ("a", frozenset({0, 1})),
        ("b", frozenset({2, 3})),
    ]


def test_a_refusal_does_not_stop_the_rest() -> None:
    machine = build_machine(MachineSpec(cores=4))
    allocation, refused = assign_cpus(machine, [pod("a", 3), pod("b", 4), pod("c", 1)], frozenset())
    assert owned(allocation) == {("a", "c0"): frozenset({0, 1, 2}), ("c", "c0"): frozenset({3})}
    assert refused == (Refusal("default", "b", "c0", 4, 1),)


def test_a_reserved_cpu_breaks_its_core() -> None:
    """With CPU 0 reserved, its sibling is the last one to be handed out in a whole core's stead."""
    machine = build_machine(MachineSpec(cores=4, threads=2))
    assert machine.by_id[0].siblings == (0, 4)
    allocation, _ = assign_cpus(machine, [pod("a", 2), pod("b", 1), pod("c", 2)], frozenset({0}))
    assert owned(allocation) == {
        ("a", "c0"): frozenset({1, 5}),
        ("b", "c0"): frozenset({4}),
        ("c", "c0"): frozenset({2, 6}),
    }


def test_held_cpus_of_a_pod_that_has_gone_are_free() -> None:
    machine = build_machine(MachineSpec(cores=2))
    held = Allocation(reported=(ContainerCpus("default", "old", "c0", frozenset({0, 1})),))
    allocation, refused = assign_cpus(machine, [pod("new", 2)], frozenset(), held)
    assert owned(allocation) == {("new", "c0"): frozenset({0, 1})}
    assert not refused


# --- packing ---


@given(ANY, st.data())
@examples(100)
def test_take_takes_that_many_or_nothing(machine: Machine, data: st.DataObject) -> None:
    free = data.draw(st.frozensets(st.sampled_from(sorted(machine.online))))
    count = data.draw(st.integers(0, len(machine.online) + 1))
    taken = take(machine, free, count)
    if count > len(free):
        assert taken is None
    else:
        assert taken is not None
        assert len(taken) == count
        assert taken <= free
        assert take(machine, free, count) == taken


@given(uniform(), st.data())
@examples(100)
def test_whole_physical_cores_come_first(machine: Machine, data: st.DataObject) -> None:
    """As many whole cores as are free and asked for; at most one core more is broken than what is
    left over needs.
    """
    free = data.draw(st.frozensets(st.sampled_from(sorted(machine.online))))
    count = data.draw(st.integers(0, len(free)))
    taken = take(machine, free, count)
    assert taken is not None
    threads = len(machine.cpus[0].siblings)
    whole = [core for core, cpus in cores_of(machine, free).items() if len(cpus) == threads]
    got = [
        core
        for core, cpus in cores_of(machine, taken).items()
        if len(cpus) == threads and core in whole
    ]
    assert len(got) == min(len(whole), count // threads)
    broken = [
        core
        for core, cpus in cores_of(machine, taken).items()
        if core in whole and len(cpus) < threads
    ]
    assert len(broken) <= 1 if count // threads <= len(whole) else not broken


@given(uniform(), st.data())
@examples(100)
def test_an_empty_machine_is_filled_socket_by_socket(machine: Machine, data: st.DataObject) -> None:
    """No more sockets, and in the last one no more cores, than are needed."""
    count = data.draw(st.integers(1, len(machine.cpus)))
    taken = take(machine, machine.online, count)
    assert taken is not None
    sockets: dict[object, set[int]] = {}
    for cpu in taken:
        sockets.setdefault(machine.by_id[cpu].package, set()).add(cpu)
    size = len(machine.cpus) // len({cpu.package for cpu in machine.cpus})
    assert len(sockets) == ceil(count / size)
    assert sorted(map(len, sockets.values()))[1:] == [size] * (len(sockets) - 1)
    assert len(cores_of(machine, taken)) == ceil(count / len(machine.cpus[0].siblings))


@given(uniform(), st.data())
@examples(100)
def test_a_single_cpu_comes_from_where_fewest_are_free(
    machine: Machine, data: st.DataObject
) -> None:
    """So that whole sockets and cores stay whole for those who ask for them: the socket first, of
    equal ones the first, and in it the core.
    """
    free = data.draw(st.frozensets(st.sampled_from(sorted(machine.online)), min_size=1))
    assume(len(machine.cpus[0].siblings) > 1)
    (cpu,) = take(machine, free, 1) or (None,)
    assert cpu is not None

    def free_of(number: int) -> tuple[int, int, int]:
        package = machine.by_id[number].package or 0
        siblings = machine.by_id[number].siblings
        in_package = [item for item in free if (machine.by_id[item].package or 0) == package]
        return len(in_package), package, len(free.intersection(siblings))

    assert free_of(cpu) == min(map(free_of, free))


def as_the_kubelet(machine: Machine, free: frozenset[int], count: int) -> frozenset[int]:
    """Its algorithm for machines of equal cores (takeByTopologyNUMAPacked, one NUMA node a socket),
    step by step.
    """
    left, taken = set(free), set[int]()
    by_id = machine.by_id

    def size(key: str, cpu: int) -> int:
        return len([other for other in left if place(key, other) == place(key, cpu)])

    def place(key: str, cpu: int) -> int:
        return int(by_id[cpu].package or 0) if key == "socket" else min(by_id[cpu].siblings)

    def in_order() -> list[int]:
        return sorted(
            left,
            key=lambda cpu: (
                size("socket", cpu),
                place("socket", cpu),
                size("core", cpu),
                place("core", cpu),
                cpu,
            ),
        )

    for key in ("socket", "core"):
        for first in in_order():
            members = {cpu for cpu in by_id if place(key, cpu) == place(key, first)}
            if first in left and members <= left and len(members) <= count - len(taken):
                taken |= members
                left -= members
    for cpu in in_order()[: count - len(taken)]:
        taken.add(cpu)
    return frozenset(taken)


@given(uniform(), st.data())
@examples(120)
def test_the_choice_is_the_kubelets(machine: Machine, data: st.DataObject) -> None:
    free = data.draw(st.frozensets(st.sampled_from(sorted(machine.online))))
    count = data.draw(st.integers(0, len(free)))
    assert take(machine, free, count) == as_the_kubelet(machine, free, count)


def test_hybrid_cores() -> None:
    """Cores with two threads and with one: a pair is a core or two cores, never half of two."""
    assert [tuple(cpu.siblings) for cpu in MIXED.cpus] == [
        (0, 1),
        (0, 1),
        (2, 3),
        (2, 3),
        (4, 5),
        (4, 5),
        (6,),
        (7,),
        (8,),
        (9,),
    ]
    for count in range(11):
        taken = take(MIXED, MIXED.online, count)
        assert taken is not None
        split = [core for core, cpus in cores_of(MIXED, taken).items() if len(cpus) < len(core)]
        assert not split, (count, taken)


def test_examples_of_the_kubelet() -> None:
    """Cases of its own table of tests (cpu_assignment_test.go), where
    one NUMA node is one socket.
    """
    two_sockets = build_machine(MachineSpec(packages=2, cores=3, threads=2))
    assert [(cpu.id, cpu.package, cpu.siblings) for cpu in two_sockets.cpus][:4] == [
        (0, 0, (0, 6)),
        (1, 0, (1, 7)),
        (2, 0, (2, 8)),
        (3, 1, (3, 9)),
    ]
    assert take(two_sockets, two_sockets.online, 6) == frozenset({0, 1, 2, 6, 7, 8})
    assert take(two_sockets, two_sockets.online, 1) == frozenset({0})
    assert take(two_sockets, two_sockets.online, 2) == frozenset({0, 6})
    assert take(two_sockets, two_sockets.online - {0}, 1) == frozenset({6})
    assert take(two_sockets, two_sockets.online - {0}, 6) == frozenset({3, 4, 5, 9, 10, 11})
    assert take(two_sockets, two_sockets.online - {0}, 2) == frozenset({1, 7})
    assert take(two_sockets, frozenset({6, 3}), 2) == frozenset({6, 3})
    assert take(two_sockets, frozenset({0, 7, 3, 10}), 2) == frozenset({0, 7})
    assert take(two_sockets, frozenset(), 1) is None
    four_threads = build_machine(MachineSpec(cores=2, threads=4))
    assert take(four_threads, four_threads.online, 2) == frozenset({0, 2})
