"""The operator's clock: nothing that a user deleted hangs for longer than endings.py states."""

from typing import Any

import pytest
from attrs import define, field

from kpm.operator.endings import Wait
from kpm.operator.operator import Operator
from kpm.operator.reconcile import Tell, reconcile
from tests.agent.clusters import IMAGE, World, running

STEP, LONGEST = 10.0, 3600.0


@define
class Leaving:
    """A PowerConfig that is deleted, the operator that sees it through, and a clock."""

    world: World = field(factory=lambda: running("a", "b"))
    now: float = 0.0
    operator: Any = field(factory=lambda: Operator(*[None] * 11))  # type: ignore[arg-type]

    def monotonic(self) -> float:
        """Seconds, as the operator asks."""
        return self.now

    def look(self) -> None:
        """Passes until nothing changes."""
        for _ in range(4):
            seen = self.world.observed()
            for action in reconcile(seen, IMAGE, self.operator._lost_nodes(seen)):
                self.world.carry_out(action)

    def gone_after(self) -> float | None:
        """Seconds until the PowerConfig is gone; None where it stays."""
        while self.now < LONGEST:
            self.look()
            if not self.world.names("powerconfigs"):
                return self.now
            self.now += STEP
        return None


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> Leaving:
    found = Leaving()
    monkeypatch.setattr("kpm.operator.operator.time", found)
    return found


def unready(world: World, name: str) -> None:
    """The node's kubelet is not heard of."""
    world.objects["nodes", name]["status"]["conditions"][0]["status"] = "Unknown"


@pytest.mark.parametrize("why", Wait)
def test_a_deleted_power_config_goes_after_the_stated_time(leaving: Leaving, why: Wait) -> None:
    """Whatever became of the agent of one node; the other one has answered; an Event names both."""
    world = leaving.world
    if why is Wait.UNREADY:
        unready(world, "b")
    world.dead = frozenset({"b"} if why is Wait.NO_AGENT else ())
    world.delete("powerconfigs", "config")
    leaving.look()
    assert f"waiting for node b: {why.words}" in world.status("powerconfigs", "config")["errors"]
    world.release("a")
    assert leaving.gone_after() == why.seconds
    told = [action.message for action in world.actions if isinstance(action, Tell)]
    assert len(told) == 1
    assert f"node b: not waited for any more: {why.words}" in told[0]
    assert not world.names("powernodes")


def test_an_agent_that_answers_late_is_waited_for_no_longer(leaving: Leaving) -> None:
    """It has put everything back: nobody is told of a fault."""
    world = leaving.world
    world.delete("powerconfigs", "config")
    leaving.look()
    leaving.now = Wait.AGENT.seconds - STEP
    leaving.look()
    assert world.names("powerconfigs") == ["config"]
    world.release("a")
    world.release("b")
    assert leaving.gone_after() == Wait.AGENT.seconds - STEP
    assert not [action for action in world.actions if isinstance(action, Tell)]


def test_an_agent_that_runs_again_gets_the_time_of_one_that_runs(leaving: Leaving) -> None:
    """The time without an agent does not count against what it needs to put things back."""
    world = leaving.world
    world.dead = frozenset({"b"})
    world.delete("powerconfigs", "config")
    world.release("a")
    leaving.look()
    leaving.now = Wait.NO_AGENT.seconds - STEP
    world.dead = frozenset()
    leaving.look()
    leaving.now += Wait.AGENT.seconds - STEP
    leaving.look()
    assert world.names("powerconfigs") == ["config"]
    world.release("b")
    assert leaving.gone_after() is not None
    assert not [action for action in world.actions if isinstance(action, Tell)]


def test_an_operator_that_comes_next_knows_who_was_left_in_vain(leaving: Leaving) -> None:
    """Its pods restart and its leader changes: what stays set on a node is told of until the node
    is managed again.
    """
    world = leaving.world
    world.objects["nodes", "b"]["metadata"]["labels"]["power"] = "no"
    world.dead = frozenset({"b"})
    while world.names("powernodes") != ["a"]:
        leaving.look()
        leaving.now += STEP
    left = world.status("powerconfigs", "config")
    assert [entry["node"] for entry in left["notRestored"]] == ["b"]
    leaving.operator = Operator(*[None] * 11)  # type: ignore[arg-type]
    leaving.look()
    assert world.status("powerconfigs", "config") == left
    world.objects["nodes", "b"]["metadata"]["labels"]["power"] = "yes"
    leaving.look()
    assert "notRestored" not in world.status("powerconfigs", "config")


@pytest.mark.parametrize(
    "odd", [None, "b", [None, 7, "b", {"node": None}, {"node": {"a": 1}}], {"node": "b"}]
)
def test_an_odd_memory_of_it_is_none(leaving: Leaving, odd: object) -> None:
    """Whoever may write the status writes it."""
    leaving.look()
    leaving.world.objects["powerconfigs", "config"]["status"]["notRestored"] = odd
    leaving.operator = Operator(*[None] * 11)  # type: ignore[arg-type]
    leaving.look()
    assert leaving.world.status("powerconfigs", "config")["nodes"] == ["a", "b"]
    assert "notRestored" not in leaving.world.status("powerconfigs", "config")
