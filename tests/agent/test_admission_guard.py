"""No agent is made where nothing keeps it to its own node; one that is there stays."""

import pytest

from kpm.kube.api import ApiError
from kpm.operator.admission import _BINDINGS, NAMES, POLICIES, Admission
from kpm.operator.daemonset import Image
from kpm.operator.observed import SeenCluster, held_object, held_plain
from kpm.operator.reconcile import Apply, reconcile
from tests.agent.memory_api import DOWN, Clock, MemoryApi

CONFIG = {"metadata": {"name": "config", "uid": "1"}, "spec": {}}
GROUP = "power.openshift.io"


def installed(api: MemoryApi, *names: str, actions: tuple[str, ...] = ("Deny",)) -> None:
    for name in names:
        api.put(POLICIES, {"metadata": {"name": name}})
        spec = {"policyName": name, "validationActions": list(actions)}
        api.put(_BINDINGS, {"metadata": {"name": name}, "spec": spec})


def test_all_policies_that_refuse_are_enough() -> None:
    api = MemoryApi()
    installed(api, *NAMES)
    assert Admission(api, Clock()).missing() == ()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["nothing", "no binding", "no policy", "audits"])
def test_one_that_does_not_refuse_is_missing(name: str, how: str) -> None:
    """A policy without its binding keeps nobody from anything, nor does one that only audits."""
    api = MemoryApi()
    installed(api, *(item for item in NAMES if item != name))
    if how != "nothing":
        installed(api, name, actions=("Audit",) if how == "audits" else ("Deny",))
    for resource in {"no binding": [_BINDINGS], "no policy": [POLICIES]}.get(how, []):
        del api.objects[resource.plural, None, name]
    assert Admission(api, Clock()).missing() == (name,)


@pytest.mark.parametrize("failure", [DOWN, ApiError(403, "Forbidden", "no")])
def test_what_cannot_be_asked_changes_nothing(failure: ApiError) -> None:
    """An operator whose rights are of an older release goes on (R7)."""
    api, clock = MemoryApi(), Clock()
    guard = Admission(api, clock)
    with api.failing(failure):
        assert guard.missing() == ()
    clock.now += 60
    assert guard.missing() == NAMES
    with api.failing(failure):
        clock.now += 60
        assert guard.missing() == NAMES


def test_it_is_asked_soon_while_something_is_missing_and_seldom_afterwards() -> None:
    api, clock = MemoryApi(), Clock()
    guard = Admission(api, clock)
    assert guard.missing() == NAMES
    installed(api, *NAMES)
    clock.now += 16
    assert guard.missing() == ()
    before = len(api.calls)
    for _ in range(100):
        clock.now += 8
        guard.missing()
    assert len(api.calls) == before


def seen(*, agents: bool, unguarded: tuple[str, ...]) -> SeenCluster:
    config = held_object(CONFIG, "PowerConfig", GROUP)
    there = held_plain({"metadata": {"name": "power-node-agent", "uid": "2"}, "spec": {}})
    return SeenCluster(
        "power-manager", GROUP, (config,), daemon_set=there if agents else None, unguarded=unguarded
    )


def applied(world: SeenCluster) -> list[str]:
    actions = reconcile(world, Image("kpm:1"))
    return [item.plural for item in actions if isinstance(item, Apply) and item.subresource is None]


def test_no_agents_are_made_and_the_powerconfig_says_why() -> None:
    world = seen(agents=False, unguarded=NAMES[:1])
    assert "daemonsets" not in applied(world)
    (status,) = [
        item.body["status"]
        for item in reconcile(world, Image("kpm:1"))
        if isinstance(item, Apply) and item.plural == "powerconfigs"
    ]
    assert "found no power-manager-node-agent" in status["errors"][0]
    assert "daemonsets" in applied(seen(agents=False, unguarded=()))


def test_agents_that_are_there_are_kept_up() -> None:
    """Taking them away would restore every node for the sake of a missing policy."""
    assert "daemonsets" in applied(seen(agents=True, unguarded=NAMES))
