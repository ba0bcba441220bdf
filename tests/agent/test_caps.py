"""What the agent's plans follow beside the objects: answers from outside, measured power, the time,
the cap that is in force.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve

from kpm.agent.caps import CapFollower
from kpm.agent.cluster import cap_view
from kpm.agent.external import External
from kpm.agent.machine import Tuner
from kpm.kube.api import Resource
from kpm.process.threads import Threads
from kpm.request.machines import MachineSpec, PowerSpec, build_machine
from kpm.request.readings import readings_of, time_zone, watts_of
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.store import StateStore
from kpm_planner.caps.schedule import CapState, Reading, Signals
from kpm_planner.model.cap_objects import CapSource, ConfigMapKey, ExternalCap, PowerCap, StaticCap
from kpm_planner.model.changes import Pass
from kpm_planner.model.cluster import LabelSelector, Meta, Node, NodeSelector
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent
from kpm_planner.model.quantities import UW
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.agent.http_server import Server, serving
from tests.agent.memory_api import DOWN, MemoryApi
from tests.captured import CapturingLog

NAMESPACE = "power-manager"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVERY = NodeSelector(LabelSelector())
MAPS = Resource("", "v1", "configmaps", NAMESPACE)
MACHINE = build_machine(
    MachineSpec(packages=2, cores=2, power=PowerSpec(max_watts=165, short_watts=198))
)


def cap(source: CapSource, **fields: Any) -> PowerCap:
    return PowerCap(Meta("budget"), node_selector=EVERY, source=source, **fields)


def of_map(key: str = "watts") -> PowerCap:
    return cap(CapSource(external=ExternalCap(ConfigMapKey("meter", key))), period="5s")


def of_address(url: str) -> PowerCap:
    return cap(CapSource(external=ExternalCap(url=url)), period="5s")


@pytest.fixture
def external() -> Iterator[Callable[[Any], External]]:
    made: list[External] = []

    def make(api: Any) -> External:
        made.append(
            External(
                api,
                NAMESPACE,
                CapturingLog(),
                lambda: changes.append(time.monotonic()),
                Threads(CapturingLog()),
            )
        )
        return made[-1]

    changes: list[float] = []
    yield make
    for item in made:
        item.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def wait_for(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """What a condition gives as soon as it is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.01)
    return found


def answer(made: External, wanted: PowerCap) -> float | None:
    """What one question gives, without the thread."""
    made._wanted = wanted
    made._ask(wanted)
    reading = made.readings().get(wanted.meta.name)
    return None if reading is None else reading.watts


# --- sources that name a number ---


def test_a_key_of_a_config_map_is_read(external: Callable[[Any], External]) -> None:
    """In the system's own namespace; the answer is as old as the question."""
    api = MemoryApi()
    api.put(MAPS, {"metadata": {"name": "meter"}, "data": {"watts": " 240.5\n"}})
    made = external(api)
    before = datetime.now(UTC)
    assert answer(made, of_map()) == 240.5
    assert before <= made.readings()["budget"].at <= datetime.now(UTC)
    assert {(verb, plural) for verb, plural, _, _ in api.calls} == {("get", "configmaps")}


@pytest.mark.parametrize(
    "text", ["", "many", "-5", "nan", "inf", "1e400", "2 40", "0x10", "१२", "9" * 50, None, 7]
)
def test_what_is_no_number_of_watts_is_no_answer(
    external: Callable[[Any], External], text: Any
) -> None:
    """And what was read before stays, until it is too old."""
    api = MemoryApi()
    made = external(api)
    api.put(MAPS, {"metadata": {"name": "meter"}, "data": {"watts": "100"}})
    assert answer(made, of_map()) == 100
    at = made.readings()["budget"].at
    api.put(MAPS, {"metadata": {"name": "meter"}, "data": {"watts": text}})
    assert answer(made, of_map()) == 100
    assert made.readings()["budget"].at == at


def test_a_source_that_fails_is_said_once(external: Callable[[Any], External]) -> None:
    api = MemoryApi()
    made = external(api)
    with api.failing(DOWN):
        for _ in range(3):
            assert answer(made, of_map()) is None
    api.put(MAPS, {"metadata": {"name": "meter"}, "data": {"watts": "100"}})
    assert answer(made, of_map("other")) is None
    assert answer(made, of_map()) == 100
    assert [event for _, event, _ in cast(CapturingLog, made.log).calls] == [
        "external source",
        "external source",
        "external source answers again",
    ]


@pytest.mark.parametrize("name", ["../secrets/x", "..", "a/b", "meter?x=y"])
def test_a_name_from_an_object_never_becomes_a_path(
    external: Callable[[Any], External], server: Server, name: str
) -> None:
    made = external(server.api())
    wanted = cap(CapSource(external=ExternalCap(ConfigMapKey(name, "watts"))))
    assert answer(made, wanted) is None
    assert [
        item.target
        for item in server.requests
        if "/configmaps/" not in item.target or item.target.rpartition("/configmaps/")[2].count("/")
    ] == []
    assert not [item.target for item in server.requests if "?" in item.target]


def test_only_the_sources_of_now_are_asked(external: Callable[[Any], External]) -> None:
    """A cap that goes takes its number along; there is no thread before
    the first external source.
    """
    api = MemoryApi()
    api.put(MAPS, {"metadata": {"name": "meter"}, "data": {"watts": "100", "other": "200"}})
    made = external(api)
    made.follow(cap(CapSource(static=StaticCap(100))))
    assert made._thread is None
    made.follow(of_map())
    assert wait_for(made.readings)["budget"].watts == 100
    made.follow(of_map("other"))
    assert wait_for(
        lambda: made.readings().get("budget") and made.readings()["budget"].watts == 200
    )
    made.follow(None)
    assert made.readings() == {}


def test_a_number_that_is_young_again_is_news(external: Callable[[Any], External]) -> None:
    """The fall-back held meanwhile, and nothing else would wake the loop."""
    api, heard = MemoryApi(), []
    api.put(MAPS, {"metadata": {"name": "meter"}, "data": {"watts": "100"}})
    made = external(api)
    made.changed = lambda: heard.append(1)
    for _ in range(3):
        answer(made, of_map())
    assert len(heard) == 1
    made._reading = Reading(100.0, datetime.now(UTC) - timedelta(hours=1))
    answer(made, of_map())
    assert len(heard) == 2


def test_an_agent_asks_no_server(external: Callable[[Any], External], server: Server) -> None:
    """The operator does; an address in an object makes no node ask anybody."""
    made = external(MemoryApi())
    made.follow(of_address(f"http://127.0.0.1:{server.port}/watts"))
    assert (made._thread, made.readings(), server.requests) == (None, {}, [])


PUBLISHED = {
    "a number": (
        {"watts": "240.5", "at": "2026-01-01T11:59:00Z"},
        Reading(240.5, datetime(2026, 1, 1, 11, 59, tzinfo=UTC)),
    ),
    "no number": ({"watts": "many", "at": "2026-01-01T11:59:00Z"}, None),
    "a number that is too long": ({"watts": "9" * 50, "at": "2026-01-01T11:59:00Z"}, None),
    "no time": ({"watts": "240", "at": "noon"}, None),
    "nothing": ({}, None),
    "no object": ("240", None),
    "a number that is none of JSON's": ({"watts": ["240"], "at": None}, None),
}


@pytest.mark.parametrize("what", PUBLISHED)
def test_what_the_operator_published_is_read_of_the_status(what: str) -> None:
    status, reading = PUBLISHED[what]
    spec = {
        "nodeSelector": {"labelSelector": {}},
        "source": {"external": {"url": "http://meter/watts"}},
    }
    document = {
        "apiVersion": "power.openshift.io/v1",
        "kind": "PowerCap",
        "metadata": {"name": "budget"},
        "spec": spec,
        "status": {"external": status},
    }
    view = cap_view(document, "power.openshift.io")
    assert (view.cap.meta.name, view.reading) == ("budget", reading)


def test_a_published_number_counts_for_the_cap_that_holds(
    tuner: tuple[Tuner, KernelModel], external: Callable[[Any], External]
) -> None:
    """And for no other; a ConfigMap's is the agent's own to read."""
    made = CapFollower(tuner[0], external(MemoryApi()))
    told = {"budget": Reading(240.0, NOON), "other": Reading(1.0, NOON)}
    assert made.signals(of_address("http://meter/watts"), told).external == {
        "budget": told["budget"]
    }
    assert made.signals(of_map(), told).external == {}


def test_numbers_as_people_write_them() -> None:
    assert [watts_of(text) for text in ("240", "240.5", ".5", "1e3", " 7 ")] == [
        240,
        240.5,
        0.5,
        1000,
        7,
    ]
    assert readings_of(["a=240"], datetime(2026, 1, 1, tzinfo=UTC))["a"].watts == 240


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/localtime",
        "Europe",
        "Europe/Nowhere",
        "",
        "UTC\0",
        "a" * 300,
        "posixrules/../UTC",
    ],
)
def test_a_time_zone_is_a_name_of_the_database(name: str) -> None:
    """Anything else is none, and reaches no path (field report 57)."""
    assert time_zone(name) is None


# --- the agent's side ---


@pytest.fixture
def tuner(tmp_path: Path) -> Iterator[tuple[Tuner, KernelModel]]:
    model = KernelModel(MACHINE)
    made = Tuner(
        lambda: Applier(model, StateStore(str(tmp_path / "state"), "/model", live=False)),
        CapturingLog(),
    )
    assert made.ready()
    yield made, model
    made.close()


def planned(
    intent: Intent, signals: Signals, instant: datetime = NOON
) -> Callable[[Machine], NodePlan]:
    return lambda machine: plan_node(
        intent, NodeInput(Node("n"), machine, signals=signals), instant
    )


def applied(tuner: Tuner, made: Callable[[Machine], NodePlan]) -> tuple[NodePlan, Pass]:
    return tuner.apply(made(tuner.machine()), made)


def limits(machine: Machine) -> list[int | None]:
    return [zone.limits[0].limit_uw for zone in machine.power_zones]


def test_without_caps_nothing_is_measured_or_asked(
    tuner: tuple[Tuner, KernelModel],
    external: Callable[[Any], External],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, _ = tuner
    reads: list[str] = []
    monkeypatch.setattr(KernelModel, "read", lambda _self, path: reads.append(path))
    follower = CapFollower(made, external(MemoryApi()))
    assert follower.signals(None) == Signals()
    assert follower.external._thread is None
    assert reads == []


def test_a_new_agent_goes_on_from_the_limits_in_force(
    tuner: tuple[Tuner, KernelModel], external: Callable[[Any], External]
) -> None:
    """The ramp neither begins anew nor jumps (field report 8)."""
    made, _ = tuner
    low, high = (
        Intent(caps=(cap(CapSource(static=StaticCap(watts)), max_step_watts=20),))
        for watts in (100, 300)
    )
    follower = CapFollower(made, external(MemoryApi()))
    plan, went = applied(made, planned(low, follower.signals(low.caps[0])))
    assert went.settled
    follower.planned(plan, NOON)
    assert limits(made.shown()) == [50 * UW, 50 * UW]
    again = CapFollower(made, external(MemoryApi()))
    signals = again.signals(high.caps[0])
    assert (signals.previous, signals.parts_uw) == (
        CapState("", 100 * UW),
        {0: 50 * UW, 1: 50 * UW},
    )
    plan, _ = applied(made, planned(high, signals))
    again.planned(plan, NOON)
    assert limits(made.shown()) == [60 * UW, 60 * UW]
    assert again.due(plan)  # the plan of January is over
    assert again.wait(plan) == pytest.approx(0.05)  # never at once, or the loop would spin


def test_a_plan_that_time_ends_is_waited_for() -> None:
    follower = CapFollower(None, None)  # type: ignore[arg-type]
    soon = datetime.now(UTC) + timedelta(seconds=30)
    plan = NodePlan("n", valid_until=soon)
    assert not follower.due(plan)
    assert 25 < (follower.wait(plan) or 0) <= 30
    assert follower.wait(NodePlan("n")) is None
    assert not follower.due(NodePlan("n"))
    follower.planned(plan, datetime.now(UTC) + timedelta(hours=1))
    assert follower.due(plan)  # the clock was set back: what was to come is not yet


def test_a_new_agent_divides_by_demand_as_it_was(
    tuner: tuple[Tuner, KernelModel],
    external: Callable[[Any], External],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it has measured: a restart writes nothing."""
    made, model = tuner
    dividing = cap(CapSource(static=StaticCap(200)), divide="demand")
    intent = Intent(caps=(dividing,))
    first = CapFollower(made, external(MemoryApi()))
    applied(
        made, planned(intent, evolve(first.signals(dividing), power_uw={0: 90 * UW, 1: 30 * UW}))
    )
    model.log.clear()
    monkeypatch.setattr(Tuner, "measure", lambda _self, _seconds: {})
    again = CapFollower(made, external(MemoryApi()))
    applied(made, planned(intent, again.signals(dividing)))
    assert model.log == []
    assert limits(made.shown()) == [150 * UW, 50 * UW]


def test_power_is_measured_only_to_be_divided_by(
    tuner: tuple[Tuner, KernelModel],
    external: Callable[[Any], External],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A1: reading the counter runs on a CPU of the package."""
    made, _ = tuner
    asked: list[float] = []

    def measure(_: Tuner, seconds: float) -> dict[int, int]:
        asked.append(seconds)
        return {0: 90 * UW, 1: 30 * UW}

    monkeypatch.setattr(Tuner, "measure", measure)
    static = cap(CapSource(static=StaticCap(200)))
    follower = CapFollower(made, external(MemoryApi()))
    assert follower.signals(static).power_uw == {}
    assert asked == []
    dividing = evolve(static, divide="demand", period="1h")
    for _ in range(5):
        assert follower.signals(dividing).power_uw == {0: 90 * UW, 1: 30 * UW}
    assert len(asked) == 1
    applied(made, planned(Intent(caps=(dividing,)), follower.signals(dividing)))
    assert limits(made.shown()) == [150 * UW, 50 * UW]
