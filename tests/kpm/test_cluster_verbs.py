"""kpm status and kpm leave: what is said of a cluster, and that leaving waits for every node."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kpm.cli.status_text import cluster_lines as lines
from kpm.cluster.leaving import leave
from kpm.cluster.status import ClusterStatus, document, status_of
from kpm.kube.api import ApiError, Object, Resource
from kpm.kube.kinds import power
from tests.agent.memory_api import DOWN, Clock, MemoryApi

GROUP, PLACE = "power.openshift.io", "power-manager"
CONFIGS = power(GROUP, "powerconfigs", PLACE)
STATES = power(GROUP, "powernodestates", PLACE)
LEASES = Resource("coordination.k8s.io", "v1", "leases", PLACE)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Server(MemoryApi):
    """Lists too."""

    def list(
        self, resource: Resource, query: Any, sized: Callable[[int], None] = lambda _: None
    ) -> Object:
        if self.failure is not None:
            raise self.failure
        where = (resource.plural, resource.namespace)
        found = [item for key, item in self.objects.items() if key[:2] == where]
        first = int(query.get("continue") or 0)
        page = found[first : first + int(query["limit"])]
        more = str(first + len(page)) if first + len(page) < len(found) else ""
        return {"items": page, "metadata": {"continue": more}}


def config(name: str = "power-config", **status: Any) -> Object:
    meta = {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "status": {"errors": [], **status}}


def state(node: str, ready: str = "True", reason: str = "Settled", message: str = "") -> Object:
    said = {"type": "Ready", "status": ready, "reason": reason, "message": message}
    return {
        "metadata": {"name": f"{node}-power-state"},
        "spec": {"nodeName": node},
        "status": {"conditions": [said]},
    }


def lease(seconds: float) -> Object:
    at = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "operator-1", "renewTime": at}
    return {"metadata": {"name": "power-manager-operator"}, "spec": spec}


def cluster(*objects: tuple[Resource, Object]) -> ClusterStatus:
    api = Server()
    for resource, item in objects:
        api.put(resource, item)
    return status_of(api, GROUP, PLACE, NOW)


def test_a_thousand_nodes_are_a_few_lines() -> None:
    """Equal ones together, those that are not ready first, over many pages."""
    names = [f"n{number:04}" for number in range(1000)]
    states = [state(name) for name in names[:-1]]
    states.append(state(names[-1], "False", "Unreadable", "no limits\x1b[2J"))
    found = cluster(
        (LEASES, lease(2)),
        (CONFIGS, config(nodes=names)),
        *((STATES, item) for item in states),
    )
    assert lines(found) == [
        "operator     operator-1",
        "PowerConfig  power-config, 1000 nodes",
        "    1  not Ready (Unreadable): no limits\\x1b[2J",
        "       n0999",
        "  999  Ready (Settled)",
    ]
    assert not found.well
    assert json.loads(json.dumps(document(found)))["nodes"][1]["ready"] == "True"


@pytest.mark.parametrize(
    ("objects", "well", "words"),
    [
        ([(LEASES, lease(2))], True, "nothing is managed"),
        ([(CONFIGS, config(nodes=[]))], False, "none works"),
        ([(LEASES, lease(3600)), (CONFIGS, config(nodes=[]))], False, "none works"),
        ([(LEASES, lease(2)), (CONFIGS, config(errors=["odd"]))], False, "error: odd"),
        ([(LEASES, lease(2)), (CONFIGS, config(nodes=["a"]))], False, "no agent has reported"),
        ([(LEASES, lease(2)), (CONFIGS, config(nodes=["a"])), (STATES, state("a"))], True, "Ready"),
    ],
)
def test_what_is_wrong_is_said(
    objects: list[tuple[Resource, Object]], well: bool, words: str
) -> None:
    found = cluster(*objects)
    assert found.well is well
    assert words in "\n".join(lines(found))


class Leaving(Server):
    """An operator that takes the finalizer off when its nodes are released, after so long."""

    releases_at: float = 0.0
    clock: Clock

    def delete(self, resource: Resource, name: str, *, uid: str | None = None) -> None:
        item = self.objects[resource.plural, resource.namespace, name]
        assert uid == item["metadata"]["uid"]
        item["metadata"]["deletionTimestamp"] = "now"
        item["status"]["errors"] = ["waiting for node one"]
        self.calls.append(("delete", resource.plural, name, None))

    def pause(self, seconds: float) -> None:
        self.clock.now += seconds
        if self.clock.now >= self.releases_at:
            self.objects = {}


def left(releases_at: float, within: float, names: tuple[str, ...] = ("a", "b")) -> Any:
    api, said = Leaving(), list[str]()
    api.clock, api.releases_at = Clock(0.0), releases_at
    for name in names:
        api.put(CONFIGS, config(name))
    done = leave(
        api, GROUP, PLACE, clock=api.clock, sleep=api.pause, within=within, say=said.append
    )
    return done, said, api


def test_leaving_deletes_each_once_and_waits() -> None:
    done, said, api = left(5.0, 60.0)
    assert done
    assert [name for verb, _, name, _ in api.calls if verb == "delete"] == ["a", "b"]
    assert said[-1] == "PowerConfig/a: waiting for node one; PowerConfig/b: waiting for node one"


def test_who_does_not_answer_in_time_is_named() -> None:
    done, said, api = left(1000.0, 10.0)
    assert not done
    assert "node one" in said[-1]
    assert api.clock.now <= 12


def test_nothing_to_leave_is_left_at_once() -> None:
    """Nor is a kind that nobody has defined."""
    assert left(0.0, 10.0, names=())[0]
    api = Server()
    with api.failing(ApiError(404, "NotFound", "no such kind")):
        clock = Clock()
        assert leave(api, GROUP, PLACE, clock, lambda _: None, 10.0, lambda _: None)


def test_a_server_that_does_not_answer_is_asked_again_until_the_time_is_over() -> None:
    api, clock, said = Server(), Clock(0.0), list[str]()

    def pause(seconds: float) -> None:
        clock.now += seconds

    with api.failing(DOWN):
        assert not leave(api, GROUP, PLACE, clock, pause, 10.0, said.append)
    assert len(said) == 1
