"""What the agent takes from the kubelet's answers, and what it keeps when there are none (R7)."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.agent.kubelet import Kubelet, Sockets
from kpm.agent.podresources import KubeletError
from kpm.formats.pods import structure_pod
from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.cluster import Container, Meta, Pod
from kpm_planner.model.problems import Code, Severity
from kpm_planner.ownership import Owner, resolve_ownership

KUBELET, CLAIMS = "/kubelet.sock", "/claims.sock"
FAST = "power.openshift.io/fast"
CPUS = frozenset(range(8))


def pod(name: str = "web", cpus: int = 2, phase: str = "Running", **container: Any) -> Pod:
    """A pod with one container that asks for CPUs and as many of a profile."""
    app = Container(
        "app",
        **{
            "cpu": (cpus, cpus),
            "memory": (1, 1),
            "resources": ((FAST, cpus),),
            "id": "containerd://1",
            **container,
        },
    )
    return Pod(Meta(name, "default", uid=f"uid-{name}"), (app,), "n", phase, guaranteed=True)


def has(name: str, *cpus: int) -> ContainerCpus:
    """An entry of an answer."""
    return ContainerCpus("default", name, "app", frozenset(cpus))


class Node:
    """A node whose sockets answer what is written here. Sockets that have no answer fail."""

    def __init__(self, claims: str | None = None) -> None:
        self.answers: dict[str, tuple[ContainerCpus, ...]] = {}
        self.allocatable: frozenset[int] | None = CPUS
        self.now = 0.0
        self.kubelet = Kubelet(
            Sockets(KUBELET, claims), self._list, self._allocatable, lambda: self.now
        )

    def _list(self, path: str) -> tuple[ContainerCpus, ...]:
        if path not in self.answers:
            raise KubeletError(f"{path}: List: Connection refused")
        return self.answers[path]

    def _allocatable(self, path: str) -> frozenset[int]:
        assert path == KUBELET
        if self.allocatable is None:
            raise KubeletError(f"{path}: GetAllocatableResources: timed out")
        return self.allocatable

    def owners(self, *pods: Pod, devices: tuple[str, ...] = ()) -> Mapping[str, Owner]:
        """Who owns what after the next look, by pod."""
        found = resolve_ownership(self.kubelet.look(pods, devices), devices)
        self.unknown, self.problems = found.unknown, found.problems
        return {owner.ref.pod: owner for owner in found.owners}

    def is_unknown(self) -> bool:
        """Whether somebody's CPUs were, at the last look."""
        return self.unknown

    def cpus(self, *pods: Pod) -> dict[str, set[int]]:
        """Only the CPUs of it."""
        return {name: set(owner.cpus) for name, owner in self.owners(*pods).items()}


@pytest.fixture
def node() -> Node:
    """A node on which web has two CPUs."""
    found = Node()
    found.answers[KUBELET] = (has("web", 2, 3),)
    return found


def test_what_the_kubelet_says_is_what_is_known(node: Node) -> None:
    """An answer that differs only in its order is the same allocation, so that nothing is planned
    again.
    """
    node.answers[KUBELET] = (has("web", 2, 3), has("db", 4, 5))
    first = node.kubelet.look((pod(), pod("db")), ())
    node.answers[KUBELET] = tuple(reversed(node.answers[KUBELET]))
    assert node.kubelet.look((pod(), pod("db")), ()).reported == first.reported
    assert first.answered
    assert first.allocatable == CPUS
    assert node.cpus(pod(), pod("db")) == {"web": {2, 3}, "db": {4, 5}}
    assert (node.unknown, node.kubelet.error, node.kubelet.waiting) == (False, "", False)


@pytest.mark.parametrize("part", ["list", "allocatable", "both"])
def test_without_an_answer_the_last_known_stays(node: Node, part: str) -> None:
    """However long it takes; the error says why, and the next answer ends it."""
    assert node.cpus(pod()) == {"web": {2, 3}}
    if part != "allocatable":
        del node.answers[KUBELET]
    if part != "list":
        node.allocatable = None
    for _ in range(5):
        assert node.cpus(pod()) == {"web": {2, 3}}
        assert not node.unknown
        assert node.kubelet.error.startswith(KUBELET)
        assert node.kubelet.look((pod(),), ()).allocatable == CPUS
    node.answers[KUBELET], node.allocatable = (has("web", 4, 5),), CPUS
    assert node.cpus(pod()) == {"web": {4, 5}}
    assert node.kubelet.error == ""


def test_before_the_first_answer_nothing_is_known(node: Node) -> None:
    """Unknown is not empty: it is said so, and the first answer ends it."""
    answer = node.answers.pop(KUBELET)
    allocation = node.kubelet.look((pod(),), ())
    assert (allocation.answered, allocation.last_known, allocation.allocatable) == (
        False,
        None,
        None,
    )
    assert node.cpus(pod()) == {}
    assert node.unknown
    node.answers[KUBELET] = answer
    assert node.cpus(pod()) == {"web": {2, 3}}
    assert not node.unknown


@pytest.mark.parametrize(
    "answer", [(), (has("web"),), (has("db", 6, 7),)], ids=["empty", "without CPUs", "of others"]
)
def test_a_running_container_that_an_answer_leaves_out_keeps_its_cpus(
    node: Node, answer: tuple[ContainerCpus, ...]
) -> None:
    """As after a restart of the kubelet, which answers before it knows its pods; it is asked again
    soon.
    """
    assert node.cpus(pod(), pod("db")) == {"web": {2, 3}}
    node.answers[KUBELET] = answer
    for _ in range(3):
        assert node.cpus(pod(), pod("db"))["web"] == {2, 3}
    assert node.kubelet.waiting
    assert node.kubelet.error == ""


@pytest.mark.parametrize("ended", ["pod gone", "pod ended", "container ended"])
def test_what_has_ended_owns_nothing_any_more(node: Node, ended: str) -> None:
    """Neither by the last answer nor while there is none; also if it comes back with another
    answer.
    """
    node.owners(pod())
    now = {
        "pod gone": (),
        "pod ended": (pod(phase="Succeeded"),),
        "container ended": (pod(finished=True),),
    }[ended]
    node.answers[KUBELET] = ()
    assert node.cpus(*now) == {}
    del node.answers[KUBELET]
    assert node.cpus(*now) == {}


# --- waiting ---


def with_init_container(restart: str | None) -> Pod:
    """A pod of the API whose init container asks for the profile, and nothing else of it does."""
    amounts = {"cpu": "2", "memory": "1Gi", FAST: "2"}
    plain = {"cpu": "1", "memory": "1Gi"}
    first = {
        "name": "setup",
        "resources": {"requests": amounts, "limits": amounts},
        **({"restartPolicy": restart} if restart else {}),
    }
    main = {"name": "app", "resources": {"requests": plain, "limits": plain}}
    spec = {"nodeName": "n", "initContainers": [first], "containers": [main]}
    return structure_pod(
        {
            "metadata": {"name": "new", "namespace": "default"},
            "spec": spec,
            "status": {"phase": "Pending", "qosClass": "Guaranteed"},
        }
    )


@pytest.mark.parametrize("restart", [None, "Always"])
def test_an_ordinary_init_container_is_never_waited_for(node: Node, restart: str | None) -> None:
    """The kubelet never lists it; one that restarts is a sidecar and is listed (field report
    26).
    """
    node.owners(with_init_container(restart))
    assert node.kubelet.waiting is (restart == "Always")


@pytest.mark.parametrize(
    ("item", "waits"),
    [
        (pod("new", phase="Pending"), True),
        (pod("new"), True),
        (pod("new", resources=()), False),
        (pod("new", cpu=(None, None)), False),
        (pod("new", phase="Failed"), False),
        (pod("new", finished=True), False),
    ],
    ids=["pending", "running", "no profile", "no whole CPUs", "ended", "container ended"],
)
def test_a_container_that_will_get_cpus_is_waited_for(
    node: Node, item: Pod, *, waits: bool
) -> None:
    """Until it is reported; nothing else makes the agent ask each few milliseconds."""
    node.owners(pod(), item)
    assert node.kubelet.waiting is waits
    node.answers[KUBELET] += (has("new", 4, 5),)
    node.owners(pod(), item)
    assert not node.kubelet.waiting


def test_a_container_that_gets_its_cpus_from_a_custom_device_is_waited_for(node: Node) -> None:
    """Only where the PowerConfig names the device."""
    item = pod("new", cpu=(None, None), resources=(("example.com/cpus", 2), (FAST, 2)))
    for devices, waits in (((), False), (("example.com/cpus",), True)):
        node.owners(item, devices=devices)
        assert node.kubelet.waiting is waits


# --- resource claims ---


def test_a_second_socket_is_asked_as_well() -> None:
    """A driver that hands out CPUs through resource claims; CPUs of one
    container are put together.
    """
    node = Node(CLAIMS)
    node.answers = {KUBELET: (has("web", 2), has("db", 6, 7)), CLAIMS: (has("web", 3),)}
    assert node.cpus(pod(claims=True), pod("db")) == {"web": {2, 3}, "db": {6, 7}}


@pytest.mark.parametrize("missing", [KUBELET, CLAIMS])
def test_half_an_answer_is_none(missing: str) -> None:
    """Where one of two sockets fails, all that was known stays; the error names the socket."""
    node = Node(CLAIMS)
    node.answers = {KUBELET: (has("db", 6, 7),), CLAIMS: (has("web", 2, 3),)}
    before = node.cpus(pod(claims=True), pod("db"))
    del node.answers[missing]
    assert node.cpus(pod(claims=True), pod("db")) == before == {"web": {2, 3}, "db": {6, 7}}
    assert node.kubelet.error.startswith(missing)


# --- accepted ---


def test_a_container_that_was_right_once_stays_in_force(node: Node) -> None:
    """Its CPUs may change in number later: a warning, also after answers that failed.

    Seen first so, it is refused.
    """
    web = pod(claims=True)
    assert not node.owners(web)["web"].refused
    del node.answers[KUBELET]
    node.owners(web)
    node.answers[KUBELET] = (has("web", 2, 3, 4),)
    owner = node.owners(web)["web"]
    assert (owner.refused, owner.cpus) == (False, frozenset({2, 3, 4}))
    assert [(problem.code, problem.severity) for problem in node.problems] == [
        (Code.POD_COUNT_CHANGED, Severity.WARNING)
    ]
    late = Node()
    late.answers[KUBELET] = (has("web", 2, 3, 4),)
    assert late.owners(web)["web"].refused


def test_another_pod_of_the_name_is_judged_anew(node: Node) -> None:
    """A StatefulSet's pod that was replaced has another uid."""
    web = pod(claims=True)
    node.owners(web)
    node.answers[KUBELET] = (has("web", 2, 3, 4),)
    new = Pod(
        Meta("web", "default", uid="uid-new"), web.containers, "n", "Running", guaranteed=True
    )
    assert node.owners(new)["web"].refused


# --- any answers ---

ANSWERS = st.lists(
    st.sampled_from(
        [
            None,
            "no allocatable",
            (),
            (has("web"),),
            (has("web", 2, 3),),
            (has("web", 4, 5),),
            (has("db", 6, 7),),
        ]
    ),
    max_size=8,
)


@given(ANSWERS)
def test_a_running_containers_cpus_are_those_of_the_last_answer_that_named_any(
    answers: list[Any],
) -> None:
    """Whatever comes between: errors, empty answers, answers about others. Never none again."""
    node, listed = Node(), False
    last: set[int] = set()
    for answer in answers:
        node.allocatable = None if answer == "no allocatable" else CPUS
        node.answers = {KUBELET: answer} if isinstance(answer, tuple) else {}
        last = next(
            (
                set(entry.cpus)
                for entry in node.answers.get(KUBELET, ())
                if entry.pod == "web" and entry.cpus
            ),
            last,
        )
        assert node.cpus(pod()).get("web", set()) == last
        if isinstance(answer, tuple):
            # without CPUs it owns none, which stays known while nobody answers
            listed = any(entry.pod == "web" for entry in answer)
        assert node.unknown == (not last and not listed)
        assert bool(node.kubelet.error) == (not isinstance(answer, tuple))


@pytest.mark.parametrize("answer", [(), (has("web"),)], ids=["not listed", "listed without CPUs"])
def test_a_container_whose_cpus_the_kubelet_forgets_keeps_them_for_a_minute(
    node: Node, answer: tuple[ContainerCpus, ...]
) -> None:
    """Then they go, its pod is told, and nobody asks every second for it any more; when it is
    listed again, it has them.
    """
    assert node.cpus(pod()) == {"web": {2, 3}}
    full, node.answers[KUBELET] = node.answers[KUBELET], answer
    for node.now in (0.0, 30.0, 59.0):
        assert node.cpus(pod()) == {"web": {2, 3}}
        assert node.kubelet.waiting
    node.now = 61.0
    assert node.cpus(pod()) == {}
    assert (node.unknown, node.kubelet.waiting) == (False, False)
    assert [problem.code for problem in node.problems] == [Code.POD_WITHOUT_CPUS]
    node.answers[KUBELET] = full
    assert node.cpus(pod()) == {"web": {2, 3}}
    node.answers[KUBELET], node.now = answer, 100.0
    assert node.cpus(pod()) == {"web": {2, 3}}, "its minute begins anew"


def test_a_question_without_an_answer_is_no_minute(node: Node) -> None:
    """However long the kubelet is silent, nobody loses CPUs by it."""
    assert node.cpus(pod()) == {"web": {2, 3}}
    node.answers[KUBELET] = ()
    assert node.cpus(pod()) == {"web": {2, 3}}
    answer = node.answers.pop(KUBELET)
    for node.now in (50.0, 500.0):
        assert node.cpus(pod()) == {"web": {2, 3}}
    node.answers[KUBELET] = answer
    node.now = 501.0
    assert node.cpus(pod()) == {"web": {2, 3}}


def test_a_container_that_never_had_cpus_freezes_the_node_for_a_minute_at_most(node: Node) -> None:
    assert node.cpus(pod(), pod("new")) == {"web": {2, 3}}
    assert node.is_unknown()
    node.now = 61.0
    assert node.cpus(pod(), pod("new")) == {"web": {2, 3}}
    assert not node.is_unknown()
    assert [(problem.code, problem.object) for problem in node.problems] == [
        (Code.POD_WITHOUT_CPUS, "Pod/default/new")
    ]


def test_a_count_that_was_found_right_is_so_for_the_next_agent(node: Node) -> None:
    """A resize that was accepted leaves three CPUs and two of the profile; a new agent that recalls
    nothing refuses it.
    """
    node.owners(pod())
    accepted = node.kubelet.accepted
    assert accepted == {("uid-web", "app")}
    grown = pod(cpu=(3, 3))
    for recalled, refused in ((accepted, False), (frozenset(), True)):
        following = Node()
        following.answers[KUBELET] = (has("web", 2, 3, 4),)
        following.kubelet.recall(recalled)
        assert following.owners(grown)["web"].refused is refused
        following.kubelet.recall(accepted)  # only before the first look
        assert following.owners(grown)["web"].refused is refused


def test_a_kubelet_that_does_not_answer_at_first_makes_nobody_forget(node: Node) -> None:
    """What was found right stays so while the pod is there."""
    following = Node()
    following.kubelet.recall(frozenset({("uid-web", "app"), ("uid-gone", "app")}))
    following.owners(pod())
    assert following.kubelet.accepted == {("uid-web", "app")}
