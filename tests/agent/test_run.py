"""The agent's loop, pass by pass: what is known, what is done, what is said; with stand-ins for the
outside and the real planner between.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, evolve, field
from prometheus_client import generate_latest

from kpm.agent.agent import Agent, still_wanted
from kpm.agent.cluster import ClusterView, NodeView
from kpm.agent.hotplug import cpus_of
from kpm.agent.reports import Reports
from kpm.formats.published import packed, unpacked_machine
from kpm.kube.api import ApiError
from kpm.process.memory import Memory
from kpm.process.threads import Threads
from kpm.request.machines import MachineSpec, build_machine
from kpm.scaler.words import News
from kpm_planner.caps.schedule import Signals
from kpm_planner.caps.zones import CapTarget
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.changes import Pass
from kpm_planner.model.cluster import Container, Meta, Node, Pod
from kpm_planner.model.machine import Machine, PowerLimit, PowerZone
from kpm_planner.model.objects import Intent, PowerProfile, PowerWorkload, PStates
from kpm_planner.plan import NodePlan
from kpm_planner.report.types import Condition, PowerNodeStateStatus
from tests.captured import CapturingLog

MACHINE = build_machine(MachineSpec(cores=4))
SHARED = PowerProfile(Meta("shared"), shared=True, pstates=PStates(max="30%"))
WORKLOAD = PowerWorkload(
    Meta("w"), all_cores=True, power_node_selector={"a": "b"}, power_profile="shared"
)
OWN = NodeView(Node("n", {"a": "b"}), "u")
VIEW = ClusterView(Intent((SHARED,), (WORKLOAD,)), (), OWN, (), ())


@define(slots=False)
class Rig:
    """An agent whose outside does what a test says."""

    view: ClusterView = VIEW
    unsynced: tuple[str, ...] = ()
    opens: bool = True
    went: Pass = Pass()
    seen: object = "first"
    applied: list[NodePlan] = field(factory=list)
    said: list[str] = field(factory=list)
    states: list[PowerNodeStateStatus] = field(factory=list)
    left: list[Any] = field(factory=list)
    told: list[tuple[str, str, str]] = field(factory=list)
    scaled: list[Any] = field(factory=list)
    news: list[Any] = field(factory=list)
    speeds: dict[int, Any] = field(factory=dict)
    looked: list[Any] = field(factory=list)
    log: CapturingLog = field(factory=CapturingLog)

    def __attrs_post_init__(self) -> None:
        rig = self

        class Outside(SimpleNamespace):
            """A stand-in whose attributes are looked up when they are used."""

        class Cluster:
            informers = ()
            threads = Threads(rig.log)
            unsynced = property(lambda _: rig.unsynced)

            def view(self) -> ClusterView:
                return rig.view

            def pod(self, uid: str) -> Pod | None:
                return next((pod for pod in rig.view.pods if pod.meta.uid == uid), None)

        class Tuner:
            applier: Any = object()
            writes = 0
            measure_only = False
            new_drift = staticmethod(lambda: 0)
            refused = "somebody else has the lock"
            seen = property(lambda _: rig.seen)
            memory = Memory()

            def ready(self) -> bool:
                return rig.opens

            def prove(self) -> None:
                """Nothing is refused."""

            def apply(
                self,
                plan: NodePlan,
                _: Callable[[Machine], NodePlan],
                accepted: frozenset[tuple[str, str]],
            ) -> tuple[NodePlan, Pass]:
                rig.applied.append(plan)
                return plan, rig.went

            machine = shown = staticmethod(lambda: MACHINE)
            look_anew = staticmethod(lambda plugged=(): rig.looked.append(plugged))

        def saying(name: str) -> Callable[..., bool]:
            def say(*args: Any, **_words: object) -> bool:
                rig.said.append(name)
                rig.states += args if name == "state" else ()
                return True

            return say

        says = {
            name: saying(name)
            for name in ("state", "lines", "resources", "problems", "event", "hurry", "begin_anew")
        }
        events = Outside(
            say=lambda about, reason, message: self.told.append((about.name, reason, message))
        )
        reports = Reports(Outside(**says, retry_at=lambda: None, events=events))  # type: ignore[arg-type]
        cluster: Any = Cluster()
        tuner: Any = Tuner()
        kubelet: Any = Outside(
            look=lambda pods, _custom, _runtime: Allocation(pods),
            error="",
            waiting=False,
            accepted=frozenset(),
            recall=lambda _: None,
        )
        scaler: Any = Outside(
            leave=self.left.append,
            scale=self.scaled.append,
            stop=lambda: None,
            retry_at=lambda: None,
            news=lambda: rig.news,
            speeds=lambda: rig.speeds,
        )
        caps: Any = Outside(
            signals=lambda *_: Signals(),
            planned=lambda _plan, _instant: None,
            due=lambda _plan: False,
            wait=lambda _plan: None,
            stop=lambda: None,
        )
        guard: Any = Outside(
            look=lambda: None,
            condition=lambda: Condition("TelemetryAuthenticated", "False", "PolicyMissing"),
        )
        self.agent = Agent(
            "n",
            60.0,
            cluster,
            kubelet,
            tuner,
            reports,
            self.log,
            scaler,
            caps,
            guard,
            lambda: None,
        )


def test_cpus_that_were_plugged_are_named_to_the_applier_once() -> None:
    """Those of all events since the last pass; an event without CPUs makes it look all the same."""
    rig = Rig()
    for cpus in ({3}, (), frozenset({3, 4})):
        rig.agent.plugged(cpus)
    rig.agent.tick()
    rig.agent.tick()
    assert rig.looked == [{3, 4}]


def test_the_machine_is_published_with_the_state_and_packed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others plan for it; while it is the same nothing is compressed anew."""
    packings = []

    def counted(machine: Machine | Allocation) -> str | None:
        packings.append(type(machine))
        return packed(machine)

    monkeypatch.setattr("kpm.formats.published.packed", counted)
    rig = Rig()
    rig.agent.tick()
    rig.seen = "second"
    rig.agent.tick()
    assert [unpacked_machine(item.machine, "n") for item in rig.states] == [MACHINE, MACHINE]
    assert packings == [Machine, Allocation]


@pytest.mark.parametrize(
    ("messages", "cpus"),
    [
        ([{"SUBSYSTEM": "cpu", "DEVPATH": "/devices/system/cpu/cpu3", "ACTION": "online"}], {3}),
        (
            [
                {"SUBSYSTEM": "net", "DEVPATH": "/devices/virtual/net/lo"},
                {"SUBSYSTEM": "cpu", "DEVPATH": "/devices/system/cpu/cpu12"},
            ],
            {12},
        ),
        ([{"SUBSYSTEM": "cpu", "DEVPATH": "/devices/system/cpu"}], set()),
        (
            [{"SUBSYSTEM": "cpu", "DEVPATH": "/devices/system/cpu/cpu1x"}, {"SUBSYSTEM": "cpu"}],
            set(),
        ),
        ([{"SUBSYSTEM": "net", "DEVPATH": "/devices/system/cpu/cpu3"}], None),
        ([], None),
    ],
)
def test_which_cpus_an_event_is_about(
    messages: list[dict[str, str]], cpus: set[int] | None
) -> None:
    """As the kernel names them; one that is about CPUs and names none is an event all the same."""
    assert cpus_of(messages) == cpus


def test_a_pass_applies_the_plan_and_says_so() -> None:
    """All four CPUs in the shared pool."""
    rig = Rig()
    rig.agent.tick()
    assert {group.profile for group in rig.applied[0].groups} == {"shared"}
    assert rig.said == ["state", "lines", "resources", "problems"]
    assert rig.agent.ready()


def test_while_nothing_is_new_the_plan_is_the_same_value_and_no_status_is_made() -> None:
    """Equal input is not planned again."""
    rig = Rig()
    for _ in range(5):
        rig.agent.tick()
    assert len(rig.applied) == 5
    assert all(plan is rig.applied[0] for plan in rig.applied)
    assert rig.said == ["state", "lines", "resources", "problems"]


@pytest.mark.parametrize("what", ["objects", "machine", "outcome", "node"])
def test_what_is_new_is_said(what: str) -> None:
    """Whatever it is."""
    rig = Rig()
    rig.agent.tick()
    match what:
        case "objects":
            rig.view = evolve(VIEW, intent=Intent((SHARED,)))
        case "machine":
            rig.seen = "second"
        case "outcome":
            rig.went = Pass(settled=False)
        case _:
            own = evolve(OWN, resources={"power.openshift.io/x": ("1", "1")})
            rig.view = evolve(VIEW, node=own)
    rig.agent.tick()
    assert rig.said.count("state") == 2


def test_a_node_that_was_deleted_and_made_again_is_told_everything_again() -> None:
    """Its objects are new and empty, and the agent may have lived through it."""
    rig = Rig()
    rig.agent.tick()
    assert VIEW.node is not None
    rig.view = evolve(VIEW, node=evolve(VIEW.node, uid="another"))
    rig.agent.tick()
    assert rig.said == [
        "state",
        "lines",
        "resources",
        "problems",
        "begin_anew",
        "state",
        "lines",
        "resources",
        "problems",
    ]


def test_a_pod_whose_telemetry_is_of_no_use_is_told_so() -> None:
    """By an Event about it; one that works, and one that is gone, are no news."""
    pod = Pod(Meta("poller", "default", uid="u"), (), "n", "Running")
    rig = Rig(view=evolve(VIEW, pods=(pod,)))
    rig.news = [
        News("u", "rte", "no-usage-callback"),
        News("u", "other", "connected"),
        News("gone", "rte", "too-old"),
    ]
    rig.agent.tick()
    assert [item[:2] for item in rig.told] == [("poller", "NoTelemetry")]
    assert "no-usage-callback" in rig.told[0][2]


def test_nothing_is_done_before_every_kind_is_listed() -> None:
    """R7: unsynced is unknown; it is logged once."""
    rig = Rig(unsynced=("pods",))
    rig.agent.tick()
    rig.agent.tick()
    assert (rig.applied, rig.said, rig.agent.ready()) == ([], [], False)
    assert [event for _, event, _ in rig.log.calls] == ["waiting for the API server"]


def test_while_the_kinds_are_not_listed_the_loop_sleeps() -> None:
    """An informer wakes it; it does not go round and round at the start
    of a cluster that is down.
    """
    rig = Rig(unsynced=("pods",))
    rig.agent.tuner.applier = None
    rig.agent.tick()
    assert rig.agent._pause() == 60.0


def test_nothing_is_done_while_another_has_the_machine() -> None:
    """The lock of the state belongs to one writer."""
    rig = Rig(opens=False)
    rig.agent.tick()
    assert rig.applied == []


def test_a_machine_that_cannot_be_had_for_long_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged state, a lock that stays: the reason is in the status and in an Event (field
    reports 39, 60).
    """
    rig = Rig(opens=False)
    rig.agent.tick()
    assert rig.said == []
    monkeypatch.setattr("kpm.agent.agent.REFUSAL_LASTS", 0.0)
    rig.agent.tick()
    assert rig.said == ["state", "event"]
    rig.opens = True
    rig.agent.tick()
    assert rig.said[2:] == ["state", "lines", "resources", "problems"]


def test_a_pass_that_fails_unexpectedly_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged with where it happened, and the loop goes on."""
    rig = Rig()
    monkeypatch.setattr("kpm.agent.agent._CLOSED_RETRY", 0.0)
    rig.view = None  # type: ignore[assignment]
    rig.agent._tick_safely()
    rig.view = VIEW
    rig.agent._tick_safely()
    assert [event for _, event, _ in rig.log.calls if event == "pass failed"] == ["pass failed"]
    assert rig.said == ["state", "lines", "resources", "problems"]


def test_a_node_that_is_gone_is_left_as_it_is() -> None:
    """Nothing is known of what is wanted there."""
    rig = Rig(view=evolve(VIEW, node=None))
    rig.agent.tick()
    assert rig.applied == []


def test_a_node_that_is_gone_does_not_make_the_loop_spin() -> None:
    """Though a plan that time has ended was in force."""
    rig = Rig()
    asked: list[str] = []
    rig.agent.caps.wait = lambda plan: asked.append(plan.node)  # type: ignore[method-assign]
    rig.agent.tick()
    rig.agent._pause()
    rig.view = evolve(VIEW, node=None)
    rig.agent.tick()
    rig.agent._pause()
    assert asked == ["n", ""]


def test_the_kubelet_is_asked_once_a_pass() -> None:
    """Its answers may differ, and what the scaler leaves must be what the applier takes."""
    rig, asked = Rig(), []
    kubelet: Any = rig.agent.kubelet
    look = kubelet.look

    def counted(*words: Any) -> Any:
        asked.append(1)
        return look(*words)

    kubelet.look = counted
    for _ in range(3):
        rig.agent.tick()
    assert len(asked) == 3


def test_caps_and_speeds_are_metrics() -> None:
    """What is asked of packages, and where telemetry has led each domain; what is gone is gone."""
    rig = Rig()
    rig.agent.registry()
    counters = rig.agent._metrics
    assert counters is not None
    zone = PowerZone(
        "z",
        "package-0",
        "intel-rapl",
        0,
        limits=(PowerLimit("long_term", "a"), PowerLimit("short_term", "b")),
    )
    counters.note_power(NodePlan("n", caps=(CapTarget(zone, (125_500_000, None)),)))
    counters.note_speeds({4: (1_500_000, 80.5), 5: (None, None)})
    text = generate_latest(rig.agent.registry()).decode()
    assert 'kpm_agent_power_cap_watts{limit="long_term",zone="package-0"} 125.5' in text
    assert 'kpm_agent_scaled_khz{domain="4"} 1.5e+06' in text
    assert 'kpm_agent_scaled_busy_percent{domain="4"} 80.5' in text
    assert 'domain="5"' not in text
    counters.note_power(NodePlan("n"))
    counters.note_speeds({})
    assert "zone=" not in generate_latest(rig.agent.registry()).decode()


# --- containers that are being created ---


@pytest.mark.parametrize(
    ("uid", "container", "waits"),
    [
        ("known", "asks", True),
        ("known", "asks not", False),
        ("known", "nobody", False),
        ("not seen yet", "asks not", True),
    ],
)
def test_a_container_waits_for_a_pass_where_it_may_ask_for_a_profile(
    uid: str, container: str, waits: bool
) -> None:
    asks = Container("asks", resources=(("power.openshift.io/performance", 1),))
    rig = Rig(view=evolve(VIEW, pods=(Pod(Meta("p", uid="known"), (asks, Container("asks not"))),)))
    assert rig.agent.worth_waiting(uid, container) is waits


@pytest.mark.parametrize(("unsynced", "measure_only"), [(("pods",), False), ((), True)])
def test_no_container_waits_for_an_agent_that_knows_nothing_or_sets_nothing(
    unsynced: tuple[str, ...], measure_only: bool
) -> None:
    rig = Rig(unsynced=unsynced)
    rig.agent.tuner.measure_only = measure_only
    assert not rig.agent.worth_waiting("not seen yet", "app")


def _down() -> Any:
    raise ApiError(0, "Down", "no answer")


_SELECTED: Any = lambda: [({"a": "b"}, False)]  # noqa: E731
_LABELS: Any = lambda: {"a": "b"}  # noqa: E731
_STAYS: Any = lambda: True  # noqa: E731


@pytest.mark.parametrize(
    ("configs", "labels", "stays", "wanted"),
    [
        (_SELECTED, _LABELS, _STAYS, True),
        (lambda: [({}, False)], dict, _STAYS, True),
        (_SELECTED, dict, _STAYS, False),
        (lambda: [({"a": "b"}, True)], _LABELS, _STAYS, False),
        (list, _LABELS, _STAYS, False),
        (_SELECTED, lambda: None, _STAYS, False),
        (_SELECTED, _LABELS, lambda: False, False),
        (_down, dict, _STAYS, None),
        (_SELECTED, _down, _STAYS, None),
        (_SELECTED, _LABELS, _down, None),
    ],
)
def test_whether_an_agent_is_still_wanted(
    configs: Any, labels: Any, stays: Any, wanted: bool | None
) -> None:
    """S4: a PowerConfig that is not being deleted selects the node; no answer means
    stay.
    """
    assert still_wanted(configs, labels, stays) is wanted
