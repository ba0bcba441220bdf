"""Whatever the API server, the kubelet, other agents and careless or hostile users do, it costs
only itself.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from kubernetes.client import Configuration

from kpm.agent.agent import Agent
from kpm.agent.podresources import KubeletError, list_cpus
from kpm.agent.reports import Reports
from kpm.kube.access import from_configuration
from kpm.kube.api import Api, ApiError, Resource
from kpm.kube.informer import Informer
from kpm.kube.kinds import AGENT_NAME, state_name
from kpm.kube.lease import Lease
from kpm.operator.daemonset import daemon_set
from kpm.operator.reconcile import Delete
from kpm.process.threads import Threads
from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.cluster import Meta
from kpm_planner.model.objects import PowerConfig
from tests.agent.clusters import IMAGE, running
from tests.agent.grpc_kubelet import http2, listener
from tests.agent.http_server import serving
from tests.agent.memory_api import DOWN, Clock, MemoryApi
from tests.agent.scripted_source import Script, page
from tests.agent.test_report import Rig
from tests.captured import CapturingLog

NODES = Resource("", "v1", "nodes")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "power-manager")


def test_a_header_that_is_no_utf8_is_a_kubelet_error(tmp_path: Path) -> None:
    """h2 decodes headers lazily and raises UnicodeDecodeError, which is neither OSError nor
    ProtocolError.
    """
    path = tmp_path / "kubelet.sock"
    answer = http2(
        lambda http: http.send_headers(
            1,
            [(b":status", b"200"), (b"grpc-status", b"13"), (b"grpc-message", b"\xff")],
            end_stream=True,
        )
    )
    with listener(path, answer), pytest.raises(KubeletError):
        list_cpus(str(path))


def test_watches_that_end_at_once_with_nothing_are_not_opened_without_end() -> None:
    """A proxy that ends each watch normally and at once: `follow_once` returns, and `run` goes
    round without any wait.
    """
    script = Script([page(version=5)], [[] for _ in range(50)])
    Informer("things", script, lambda: None, stop=script.waits).run()
    assert sum(script.waits.seconds) > 10


class SlowList:
    """A list that is on its way when `stop` is called; `close` ends only a watch that is open, as
    ApiListWatch does.
    """

    def __init__(self) -> None:
        self.listing, self.go_on, self.ended = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self.open = False

    def list(self, token: str | None) -> Any:
        self.listing.set()
        self.go_on.wait(5)
        return page(version=1)

    def watch(self, version: str) -> Iterator[Any]:
        self.open = True
        self.ended.wait(3)
        yield from ()

    def close(self) -> None:
        if self.open:
            self.ended.set()


def test_stop_during_a_list_opens_no_watch() -> None:
    """stop() came while the list was under way: `follow_once` does not look at _stop between list
    and watch.
    """
    source = SlowList()
    informer = Informer("things", source, lambda: None)
    thread = informer.start(Threads(CapturingLog()))
    assert source.listing.wait(5)
    informer.stop()
    source.go_on.set()
    thread.join(1)
    assert not thread.is_alive()


@pytest.mark.parametrize("name", [".", "..", ""])
def test_a_name_of_dots_stays_in_its_segment_on_the_wire(name: str) -> None:
    """urllib3 removes dot segments, and an empty name is left out of the path: both reach another
    resource (delete: a whole collection).
    """
    with serving() as server:
        api = server.api()
        try:
            api.get(NODES, name)
        except (ApiError, ValueError):
            return  # refusing is fine
        finally:
            api.close()
        assert unquote(server.requests[-1].target) == f"/api/v1/nodes/{name}"


def test_a_failed_tls_handshake_is_an_api_error() -> None:
    """rest.py turns urllib3's SSLError into kubernetes' ApiException, which is neither HTTPError
    nor OSError: informers and lease threads die of it.
    """
    with serving() as server:
        configuration = Configuration(host=f"https://127.0.0.1:{server.port}")
        configuration.proxy = None
        api = Api(from_configuration(configuration))
        try:
            with pytest.raises(ApiError):
                api.get(NODES, "n")
        finally:
            api.close()


def test_a_retry_after_of_odd_digits_is_passed_over() -> None:
    """'²'.isdigit() is true and float('²') is a ValueError."""
    with serving() as server:
        server.say(429, {"reason": "TooManyRequests"}, Retry_After="²")
        api = server.api()
        try:
            with pytest.raises(ApiError):
                api.get(NODES, "n")
        finally:
            api.close()


@pytest.mark.parametrize("verb", ["get", "replace"])
def test_a_leader_whose_renewal_hangs_does_not_lead_for_longer(verb: str) -> None:
    """A request may take 5 + 30 s (api.py) while `leading` stays true: nothing but the end of
    step() clears it, and the operator's loop reads it meanwhile.
    """
    api, clock = MemoryApi(), Clock()
    first, second = (Lease(api, LEASES, "operator", name, clock) for name in ("first", "second"))
    first.step()
    second.step()

    def hang(said: str) -> None:
        if said == verb:
            api.before = lambda _verb: None
            for _ in range(10):
                clock.now += 2
                second.step()
                assert not (first.leading and second.leading)

    api.before = hang
    first.step()


class SlowAnswers(MemoryApi):
    """The first replacement is done at once, and answered 14 s later."""

    def __init__(self, clock: Clock, objects: Any, version: int, then: Any) -> None:
        super().__init__(objects, version=version)
        self.clock, self.then = clock, then

    def replace(self, *words: Any) -> Any:
        answer = super().replace(*words)
        if self.then is not None:
            then, self.then = self.then, None
            then()
            self.clock.now += 14
        return answer


def test_the_time_of_a_renewal_is_that_of_the_question_not_of_the_answer() -> None:
    """The server took the renewal at once, its answer came 14 s later: the others count from the
    record's change, the leader from the answer.
    """
    api, clock = MemoryApi(), Clock()
    first, second = (Lease(api, LEASES, "operator", name, clock) for name in ("first", "second"))
    first.step()
    slow = SlowAnswers(clock, api.objects, version=api.version, then=second.step)
    first.api, second.api = slow, slow
    first.step()
    for _ in range(6):
        clock.now += 1
        slow.failure = DOWN
        first.step()
        slow.failure = None
        second.step()
        assert not (first.leading and second.leading)


# --- operator ---


@pytest.mark.parametrize("rule", ["delete", "reject"])
def test_a_duplicate_that_has_the_finalizer_does_not_tear_everything_down_when_it_goes(
    rule: str,
) -> None:
    """Created in the same second, but sorted later by name (kubectl apply of two): it got the
    finalizer first. It goes, and the DaemonSet with it.
    """
    world = running("a")
    config = world.objects["powerconfigs", "config"]
    config["spec"]["duplicatePowerConfig"] = rule
    world.put("powerconfigs", "a-first", {**config["spec"]})
    world.objects["powerconfigs", "a-first"]["metadata"]["creationTimestamp"] = config["metadata"][
        "creationTimestamp"
    ]
    if rule == "reject":
        world.settle()
        world.delete("powerconfigs", "config")
    actions = world.settle()
    assert not [
        action
        for action in actions
        if isinstance(action, Delete) and action.plural != "powerconfigs"
    ]
    assert world.names("daemonsets") == [AGENT_NAME]
    assert world.names("powerconfigs") == ["a-first"]


def test_an_older_power_config_that_cannot_be_read_is_not_deleted_for_a_younger_one() -> None:
    """`_age` puts what cannot be read last, and `_duplicates` then deletes it: a user's object that
    is no later duplicate.
    """
    world = running("a")
    world.objects["powerconfigs", "config"]["spec"] = {"agent": {"metricsPort": "many"}}
    world.put("powerconfigs", "younger", {"powerNodeSelector": {"power": "yes"}}, age=1)
    world.settle()
    assert "deletionTimestamp" not in world.objects["powerconfigs", "config"]["metadata"]


def test_a_power_config_that_cannot_be_read_takes_nothing_away() -> None:
    """Unreadable is unknown, not empty (R7): the selected nodes become none, so all generated
    workloads are deleted and the nodes are waited for.
    """
    world = running("a", profiles=("fast",))
    world.objects["powerconfigs", "config"]["spec"]["agent"] = {"metricsPort": "many"}
    actions = world.settle()
    assert [action for action in actions if isinstance(action, Delete)] == []
    assert world.status("powerconfigs", "config")["nodes"] == ["a"]


@pytest.mark.parametrize("cpus", ["x", "3-1", "0-99999999"])
def test_a_state_with_garbage_in_it_costs_only_itself(cpus: str) -> None:
    """parse_cpulist raises ValueError in reconcile: one agent (of another version, or broken into)
    ends the operator's loop for all nodes.
    """
    world = running("a")
    world.report("a", sharedPool=[{"cpus": cpus}])
    world.settle()


@pytest.mark.parametrize("plural", ["powernodes", "powernodestates"])
def test_a_power_node_that_a_user_made_is_not_deleted(plural: str) -> None:
    """`_endings` does not look at the label that generated objects have; S10: a duplicate
    PowerConfig is the only user object that is ever deleted.
    """
    world = running("a")
    world.put(plural, "mine", {"nodeName": "elsewhere"})
    world.settle()
    assert "mine" in world.names(plural)


def test_a_state_that_a_finalizer_of_others_keeps_is_deleted_once() -> None:
    """PowerNodes and workloads that are being deleted are not deleted again; PowerNodeStates are,
    on every pass (and the Event is said again).
    """
    world = running("a")
    world.objects["powernodestates", state_name("a")]["metadata"]["finalizers"] = [
        "example.com/slow"
    ]
    world.objects["nodes", "a"]["metadata"]["labels"]["power"] = "no"
    world.release("a")
    world.settle()


def test_two_profiles_whose_workloads_would_have_one_name_are_told_apart_or_reported() -> None:
    """Profile a on node b-c and profile a-b on node c are both a-b-c-workload: one silently has
    none.
    """
    world = running("b-c", "c", profiles=("a", "a-b"))
    world.report("b-c", "a")
    world.report("c", "a-b")
    world.settle()
    assert len(world.names("powerworkloads")) == 2 or any(
        world.status("powerprofiles", name)["errors"] for name in ("a", "a-b")
    )


@pytest.mark.parametrize(
    "socket",
    [
        "/sys/kernel/x.sock",
        "/proc/1/x.sock",
        "/var/lib/kubelet/x.sock",
        "/var/lib/kubelet/pods/uid/x.sock",
        "/var/lib/kpm/x.sock",
    ],
)
def test_a_claim_socket_opens_no_more_of_the_host(socket: str) -> None:
    """The CRD's rule allows anything below /var/lib/kubelet: its whole folder is mounted, with
    every pod's secrets; daemon_set itself guards nothing.
    """
    pod = daemon_set(
        PowerConfig(Meta("c"), agent=AgentSettings(claim_socket=socket)), "power-manager", IMAGE
    )["spec"]["template"]["spec"]
    sources = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]
    assert not [
        path
        for path in sources
        if path in ("/var/lib/kubelet",)
        or path.startswith(("/sys/kernel", "/proc", "/var/lib/kubelet/pods/"))
    ]
    targets = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    assert len(set(targets)) == len(targets)


def leaving(rig: Rig) -> Agent:
    """An agent that has what it needs to leave its node, and nothing else."""
    cluster: Any = SimpleNamespace(informers=(), own_node=lambda: None)
    tuner: Any = SimpleNamespace(ready=lambda: True, restore=lambda: True, close=lambda: None)
    process: Any = SimpleNamespace(stop=lambda: None)
    nothing: Any = None
    return Agent(
        "n",
        60.0,
        cluster,
        nothing,
        tuner,
        Reports(rig.reporter),
        rig.log,
        process,
        process,
        nothing,
        lambda: False,
    )


def test_a_node_that_is_left_says_so_even_if_the_first_try_fails() -> None:
    """Agent.leave() tries to report Released once, and not at all within a back-off; then the
    process is gone, and the operator waits for ever (the node is Ready).
    """
    rig = Rig()
    agent = leaving(rig)
    failures = [1]

    def once(_verb: str) -> None:
        if failures:
            failures.pop()
            raise ApiError(503, "Unavailable", "for a moment")

    rig.api.before = once
    agent.leave()
    assert rig.conditions()["Released"][0] == "True"


def test_a_node_whose_objects_are_gone_is_left_at_once() -> None:
    """The Node was deleted and the operator has cleared up: there is nobody to tell, and half a
    minute of trying would outlast the process.
    """
    rig = Rig()
    agent = leaving(rig)
    asked = []

    def gone(verb: str) -> None:
        asked.append(verb)
        raise ApiError(404, "NotFound", "no such object")

    rig.api.before = gone
    agent.leave()
    assert len(asked) == 1
