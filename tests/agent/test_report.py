"""What the agent sends to the API server: each thing once, again only after a failure, later and
later.
"""

from collections.abc import Mapping
from itertools import pairwise

import pytest
from attrs import define, field

from kpm.agent.cluster import NodeView, node_view
from kpm.agent.report import Reporter
from kpm.kube.api import Resource
from kpm.kube.events import About, Recorder
from kpm.kube.kinds import NODES, power
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.report.types import Condition, PoolSizes, PowerNodeStateStatus, PowerNodeStatus
from tests.agent.memory_api import DOWN, Clock, MemoryApi
from tests.captured import CapturingLog

GROUP, NAMESPACE, NODE = "power.openshift.io", "power-manager", "n"
FAST, SLOW = f"{GROUP}/fast", f"{GROUP}/slow"
LONG_AGO = "2020-02-20T20:20:20Z"
STATES: Resource = power(GROUP, "powernodestates", NAMESPACE)


def state(*conditions: tuple[str, str], shared: int = 4, message: str = "") -> PowerNodeStateStatus:
    """A status with these conditions."""
    return PowerNodeStateStatus(
        PoolSizes(shared=shared),
        conditions=tuple(Condition(kind, status, "Reason", message) for kind, status in conditions),
    )


@define(slots=False)
class Rig:
    """A reporter, its clock and its server, on which the node and its objects exist."""

    api: MemoryApi = field(factory=MemoryApi)
    clock: Clock = field(factory=Clock)
    log: CapturingLog = field(factory=CapturingLog)

    def __attrs_post_init__(self) -> None:
        for plural, name in (("powernodestates", "n-power-state"), ("powernodes", "n")):
            self.api.put(power(GROUP, plural, NAMESPACE), {"metadata": {"name": name}})
        self.api.put(
            NODES,
            {
                "metadata": {"name": "n", "uid": "u"},
                "status": {"capacity": {"cpu": "8", "power.intel.com/old": "2"}},
            },
        )
        self.restart()

    def restart(self) -> None:
        """A new process."""
        events = Recorder(self.api, "agent", "host", NAMESPACE, self.log, self.clock)
        self.reporter = Reporter(self.api, GROUP, NAMESPACE, NODE, events, self.log, self.clock)

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Status and time of each condition that the server has."""
        found = self.api.objects["powernodestates", NAMESPACE, "n-power-state"]["status"][
            "conditions"
        ]
        return {item["type"]: (item["status"], item["lastTransitionTime"]) for item in found}

    def node(self) -> NodeView:
        """The node as the agent's watch shows it."""
        return node_view(self.api.objects["nodes", None, "n"], GROUP)

    def resources(self, wanted: Mapping[str, int]) -> None:
        """Ask for these extended resources."""
        self.reporter.resources(self.node(), wanted)

    @property
    def sent(self) -> int:
        """How many statuses were sent."""
        return len([1 for verb, *_ in self.api.calls if verb == "apply"])


@pytest.fixture
def rig() -> Rig:
    return Rig()


# --- statuses ---


def test_a_status_is_sent_when_it_changes_and_only_then(rig: Rig) -> None:
    """By server-side apply, whole, to the status; objects of PowerNode and PowerNodeState by
    themselves.
    """
    for shared in (4, 4, 5, 5, 4):
        rig.reporter.state(state(("Ready", "True"), shared=shared))
        rig.reporter.lines(PowerNodeStatus(shared_pool="fast"))
    assert [
        body["status"]["sizes"]["shared"] for body in rig.api.written("apply", "powernodestates")
    ] == [4, 5, 4]
    (body,) = rig.api.written("apply", "powernodes")
    assert body == {
        "apiVersion": f"{GROUP}/v1",
        "kind": "PowerNode",
        "metadata": {"name": "n", "namespace": NAMESPACE},
        "status": {"sharedPool": "fast"},
    }


def test_a_condition_keeps_its_time_until_its_status_changes(rig: Rig) -> None:
    """Another message is sent with the old time; another condition's change is not its own."""
    rig.api.put(
        STATES,
        {
            "metadata": {"name": "n-power-state"},
            "status": {
                "conditions": [
                    {"type": kind, "status": "True", "lastTransitionTime": LONG_AGO}
                    for kind in "AB"
                ]
            },
        },
    )
    rig.reporter.state(state(("A", "True"), ("B", "True"), message="new"))
    assert rig.conditions() == {"A": ("True", LONG_AGO), "B": ("True", LONG_AGO)}
    rig.reporter.state(state(("A", "False"), ("B", "True"), ("C", "True")))
    now = rig.conditions()
    assert now["B"] == ("True", LONG_AGO)
    assert now["A"][1] == now["C"][1] > LONG_AGO
    rig.reporter.state(state(("A", "True"), ("B", "True")))
    assert rig.conditions()["A"][1] > LONG_AGO  # back again is a change too


def test_a_restart_keeps_the_times_and_sends_what_differs(rig: Rig) -> None:
    """The times come from the server, read once a process."""
    rig.reporter.state(state(("A", "True")))
    document = rig.api.objects["powernodestates", NAMESPACE, "n-power-state"]
    document["status"]["conditions"][0]["lastTransitionTime"] = LONG_AGO
    rig.restart()
    rig.reporter.state(state(("A", "True"), shared=7))
    rig.reporter.state(state(("A", "True"), shared=8))
    assert rig.conditions() == {"A": ("True", LONG_AGO)}
    assert len([1 for verb, *_ in rig.api.calls if verb == "get"]) == 2


def test_before_the_conditions_can_be_read_no_state_is_sent(rig: Rig) -> None:
    """Else every condition would seem to have changed now; the object may also not be there yet."""
    with rig.api.failing():
        rig.reporter.state(state(("A", "True")))
    assert rig.sent == 0
    rig.clock.now += 2
    rig.reporter.state(state(("A", "True")))
    assert rig.sent == 1


# --- failures ---


def test_a_status_that_failed_is_sent_again_later_and_later(rig: Rig) -> None:
    """After 1, 2, 4 … seconds and at most a minute; not before, whatever changes; at once when it
    has worked again.
    """
    rig.reporter.state(state(("A", "True")))
    tries: list[float] = []
    with rig.api.failing():
        for tick in range(4000):
            before = len(rig.api.calls)
            rig.reporter.state(state(("A", "True"), shared=100 + tick))
            tries += [rig.clock.now] * (len(rig.api.calls) - before)
            rig.clock.now += 0.1
            again = rig.reporter.retry_at()
            assert again is not None
            assert again <= rig.clock.now + 60
    gaps = [round(after - before) for before, after in pairwise(tries)]
    assert gaps[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert max(gaps) == 60
    rig.clock.now += 60
    for shared in (1, 2, 3):
        rig.reporter.state(state(("A", "True"), shared=shared))
    assert (
        rig.api.objects["powernodestates", NAMESPACE, "n-power-state"]["status"]["sizes"]["shared"]
        == 3
    )
    assert rig.reporter.retry_at() is None


def test_one_report_that_fails_does_not_hold_up_the_others(rig: Rig) -> None:
    """Each has its own time; the next is that of the first that is due."""
    del rig.api.objects["powernodes", NAMESPACE, "n"]
    rig.reporter.lines(PowerNodeStatus(shared_pool="a"))
    rig.clock.now += 0.5
    with rig.api.failing():
        rig.reporter.state(state())
    assert rig.reporter.retry_at() == rig.clock.now + 0.5
    rig.clock.now += 1
    rig.reporter.state(state())
    rig.reporter.lines(PowerNodeStatus(shared_pool="a"))
    assert "status" in rig.api.objects["powernodestates", NAMESPACE, "n-power-state"]
    assert rig.reporter.retry_at() == rig.clock.now + 2


@pytest.mark.parametrize("what", ["sent resources", "failed resources", "failed status"])
def test_nothing_is_due_when_nothing_is_left_to_say(rig: Rig, what: str) -> None:
    """Else the agent would go round without a pause: what had to be said has been, or is not true
    any more.
    """
    rig.reporter.lines(PowerNodeStatus(shared_pool="a"))
    wanted = {FAST: 8} if what == "sent resources" else {}
    with rig.api.failing():
        rig.reporter.lines(PowerNodeStatus(shared_pool="b" if what == "failed status" else "a"))
        rig.resources({FAST: 8} if what == "failed resources" else {})
    for _ in range(3):
        rig.resources(wanted)
        rig.reporter.lines(PowerNodeStatus(shared_pool="a"))
        due = rig.reporter.retry_at()
        assert due is None or due > rig.clock.now
        rig.clock.now += 5


def test_a_failure_is_logged_with_the_server_words(rig: Rig) -> None:
    """And with when it is tried again."""
    with rig.api.failing():
        rig.reporter.lines(PowerNodeStatus())
    (call,) = [call for call in rig.log.calls if call[0] == "warning"]
    assert call[2] == {"what": "PowerNode", "error": str(DOWN), "again_in": 1.0}


# --- extended resources ---


def test_only_what_differs_is_patched_and_only_our_keys(rig: Rig) -> None:
    """Capacity and allocatable alike; a profile that has gone is removed by null; others' resources
    are not named.
    """
    rig.resources({FAST: 8, SLOW: 4})
    rig.clock.now += 5
    rig.resources({FAST: 8, SLOW: 3})
    rig.clock.now += 5
    rig.resources({SLOW: 3})
    changes = [{FAST: "8", SLOW: "4"}, {SLOW: "3"}, {FAST: None}]
    assert rig.api.written("patch", "nodes") == [
        {"status": {"capacity": item, "allocatable": item}} for item in changes
    ]
    assert rig.api.objects["nodes", None, "n"]["status"] == {
        "capacity": {"cpu": "8", "power.intel.com/old": "2", SLOW: "3"},
        "allocatable": {SLOW: "3"},
    }


def test_what_the_node_shows_is_not_patched(rig: Rig) -> None:
    """Also after a restart; the patch is not repeated before the watch can have shown it."""
    before = rig.node()
    rig.resources({FAST: 8})
    rig.clock.now += 0.5
    rig.reporter.resources(before, {FAST: 8})
    rig.restart()
    rig.resources({FAST: 8})
    assert len(rig.api.written("patch", "nodes")) == 1


def test_what_somebody_else_changed_is_put_right(rig: Rig) -> None:
    """The kubelet takes extended resources away when it registers its node anew; capacity alone is
    not enough.
    """
    rig.resources({FAST: 8})
    for part, value in (("capacity", None), ("allocatable", None), ("allocatable", "7")):
        rig.clock.now += 5
        rig.api.patch(NODES, "n", {"status": {part: {FAST: value}}}, subresource="status")
        rig.resources({FAST: 8})
        status = rig.api.objects["nodes", None, "n"]["status"]
        assert (status["capacity"][FAST], status["allocatable"][FAST]) == ("8", "8")


def test_resources_that_fail_wait_and_are_said_again(rig: Rig) -> None:
    """As statuses are."""
    with rig.api.failing():
        for _ in range(100):
            rig.resources({FAST: 8})
            rig.clock.now += 0.1
    assert len(rig.api.written("patch", "nodes")) == 4
    assert rig.reporter.retry_at() is not None
    rig.clock.now += 60
    rig.resources({FAST: 8})
    assert rig.node().resources == {FAST: ("8", "8")}


def test_a_node_that_does_not_keep_its_resources_is_patched_later_and_later(rig: Rig) -> None:
    """An admission webhook or a buggy kubelet may take them away each time; what is newly wanted
    goes at once all the same.
    """
    before = rig.node()
    for _ in range(1800):
        rig.reporter.resources(before, {FAST: 8})
        rig.clock.now += 0.1
    assert len(rig.api.written("patch", "nodes")) <= 9  # 1, 2, 4 ... 60 s
    rig.reporter.resources(before, {FAST: 7})
    assert rig.api.written("patch", "nodes")[-1]["status"]["capacity"] == {FAST: "7"}


# --- Events ---


def _wrong_pods(namespace: str, number: int) -> tuple[tuple[Problem, ...], dict[str, About]]:
    names = [f"Pod/{namespace}/p{index}" for index in range(number)]
    return tuple(error(Code.POD_PROFILE, name, "", "x") for name in names), {
        name: About("v1", "Pod", name.rpartition("/")[2], namespace) for name in names
    }


def test_one_tenants_mistakes_keep_nobody_else_from_being_told(rig: Rig) -> None:
    """Each namespace has a budget of its own."""
    rig.reporter.problems(*_wrong_pods("tenant", 100))
    assert len(rig.api.written("create", "events")) == 20
    many, few = _wrong_pods("tenant", 100), _wrong_pods("victim", 1)
    rig.reporter.problems((*many[0], *few[0]), many[1] | few[1])
    assert [body["metadata"]["namespace"] for body in rig.api.written("create", "events")[20:]] == [
        "victim"
    ]


def test_what_could_not_be_told_is_told_when_there_is_room(rig: Rig) -> None:
    """And it wakes the loop then; what has passed meanwhile is not told."""
    problems, pods = _wrong_pods("tenant", 23)
    rig.reporter.problems(problems, pods)
    due = rig.clock.now + 60
    for _ in range(7):
        assert rig.reporter.retry_at() == pytest.approx(due)
        rig.clock.now += 10
    stays = tuple(problem for problem in problems if problem.object != "Pod/tenant/p9")
    rig.reporter.problems(stays, pods)
    assert len(rig.api.written("create", "events")) == 21
    rig.clock.now += 600
    rig.reporter.problems(stays, pods)
    rig.reporter.problems(stays, pods)
    assert len(rig.api.written("create", "events")) == 22
    assert rig.reporter.retry_at() is None


WEB = About("v1", "Pod", "web", "default", "u")
REFUSED = error(Code.POD_COUNT, "Pod/default/web", "spec", "asks for 2")


def said(rig: Rig) -> list[tuple[str, str, str]]:
    """Object, reason and message of each Event."""
    return [
        (body["involvedObject"]["name"], body["reason"], body["message"])
        for body in rig.api.written("create", "events")
    ]


@pytest.mark.parametrize(
    "problem",
    [
        warning(Code.POD_OVERLAP, "Pod/default/web", "", "has"),
        error(Code.PROFILE_INVALID, "PowerProfile/fast", "", "no"),
    ],
)
def test_warnings_and_what_other_objects_say_themselves_make_no_event(
    rig: Rig, problem: Problem
) -> None:
    """They are logged."""
    rig.reporter.problems((problem,), {"Pod/default/web": WEB})
    assert said(rig) == []
    assert [call[2]["code"] for call in rig.log.calls] == [str(problem.code)]


def test_an_error_of_a_pod_is_one_event_and_one_line(rig: Rig) -> None:
    """However often it is found; in the pod's namespace; again only
    where it was gone for an hour.
    """
    for problems in ((REFUSED,), (REFUSED,), (), (REFUSED,)):
        rig.reporter.problems(problems, {"Pod/default/web": WEB})
    assert said(rig) == [("web", "PodCount", "spec: asks for 2")]
    assert rig.api.written("create", "events")[0]["metadata"]["namespace"] == "default"
    assert len(rig.log.calls) == 2
    rig.reporter.problems((), {})
    rig.clock.now += 3600
    rig.reporter.problems((REFUSED,), {"Pod/default/web": WEB})
    assert len(said(rig)) == 2


def test_events_are_few_whatever_happens(rig: Rig) -> None:
    """Twenty at once, then one a minute; a server that refuses them stops nothing."""
    for number in range(100):
        rig.reporter.event("Refused", f"reason {number}")
    assert len(said(rig)) == 20
    rig.clock.now += 180
    with rig.api.failing():
        rig.reporter.event("Refused", "again")
    for number in range(10):
        rig.reporter.event("Refused", f"later {number}")
    assert len(said(rig)) == 20 + 3
    assert said(rig)[0] == ("n-power-state", "Refused", "reason 0")
