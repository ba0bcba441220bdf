"""The operator's decisions: what agents may do, what is made for whom, in which order it goes, and
what is never touched.
"""

import ast
import copy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from attrs import evolve, fields

from kpm.kube.kinds import AGENT_NAME, FINALIZER, state_name, workload_name
from kpm.operator.daemonset import HASH, Image, daemon_set, image_problems
from kpm.operator.endings import Lost
from kpm.operator.mounts import mounts
from kpm.operator.operator import Operator, Place
from kpm.operator.reconcile import Action, Apply, Delete, Finalize, Tell, reconcile
from kpm_planner.model.agent_settings import AgentSettings, IdleStates, MetricSettings, Toleration
from kpm_planner.model.cluster import GENERATED, Meta
from kpm_planner.model.objects import PowerConfig
from tests.agent.clusters import IMAGE, NAMESPACE, Released, World, kept_by_operator, running

# --- the agents' DaemonSet ---

SETTINGS = AgentSettings(
    image="other:2",
    image_pull_policy="Always",
    tolerations=(Toleration("a", "Exists", None, "NoExecute", 0),),
    resync_period="30s",
    repair="report",
    log_level="debug",
    claim_socket="/var/lib/kubelet/plugins/cpu/pod-resources.sock",
    measure_only=True,
    metrics_port=9999,
    power_caps=("rapl",),
    idle_states="byLatency",
    source="podresources",
    metrics=MetricSettings(
        ("node", "process"), ("kepler",), "node", "5s", estimate=True, max_series=500
    ),
    metrics_access="certificate",
)
CONFIGS = {
    "others hand out CPUs": PowerConfig(Meta("c"), agent=AgentSettings(source="nri")),
    "default": PowerConfig(Meta("c")),
    "all settings": PowerConfig(Meta("c"), power_node_selector={"power": "yes"}, agent=SETTINGS),
    "both caps": PowerConfig(
        Meta("c"), agent=AgentSettings(power_caps=("amd", "rapl", "../../etc"))
    ),
    "claims beside": PowerConfig(
        Meta("c"), agent=AgentSettings(claim_socket="/var/lib/kubelet/pod-resources/claims.sock")
    ),
}


def mark(config: PowerConfig, image: Image = IMAGE) -> str:
    """The hash that says whether the DaemonSet has changed."""
    found: str = daemon_set(config, NAMESPACE, image)["metadata"]["annotations"][HASH]
    return found


def everything(value: Any) -> list[tuple[Any, Any]]:
    """All keys and values at every depth."""
    pairs = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [*pairs, *(found for _, item in pairs for found in everything(item))]


AGENT_WRITES, HELPER_WRITES = {"/var/lib/kpm"}, {"/run/kpm", "/host/sys/devices/system/cpu"}
CAPS = {"rapl": "/host/sys/devices/virtual", "amd": "/host/sys/devices/platform"}


def containers(config: PowerConfig, image: Image = IMAGE) -> tuple[Any, Any]:
    """The agent and its helper."""
    pod = daemon_set(config, NAMESPACE, image)["spec"]["template"]["spec"]
    (agent,), (helper,) = pod["containers"], pod["initContainers"]
    assert (agent["name"], helper["name"], helper["restartPolicy"]) == ("agent", "helper", "Always")
    return agent, helper


def targets(container: Any, *, read_only: bool) -> set[str]:
    return {
        mount["mountPath"] for mount in container["volumeMounts"] if mount["readOnly"] is read_only
    }


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_who_talks_to_the_network_has_no_privilege_and_writes_nothing_of_the_host(
    config: PowerConfig,
) -> None:
    """Whatever is set: the agent writes its state alone, the helper what the settings are about,
    and nobody sees /sys, /proc or /dev as a whole.
    """
    agent, helper = containers(config)
    pod = daemon_set(config, NAMESPACE, IMAGE)["spec"]["template"]["spec"]
    found = everything(pod)
    assert not {"hostPID", "hostNetwork", "hostIPC"} & {key for key, _ in found}
    assert ("privileged", True) not in found
    for container in (agent, helper):
        context = container["securityContext"]
        assert (
            context["readOnlyRootFilesystem"],
            context["allowPrivilegeEscalation"],
            context["capabilities"]["drop"],
        ) == (True, False, ["ALL"])
        places = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(set(places)) == len(places)
        assert not [
            place for place in places if f"{place}/".startswith(("/sys/", "/proc/", "/dev/"))
        ]
    assert "add" not in agent["securityContext"]["capabilities"]
    assert helper["securityContext"]["capabilities"].get("add") == (
        ["SYS_ADMIN"] if config.agent.idle_states in (None, "byName") else None
    )
    capping = {CAPS[word] for word in config.agent.power_caps if word in CAPS}
    assert targets(agent, read_only=False) == AGENT_WRITES
    assert targets(helper, read_only=False) == HELPER_WRITES | capping
    assert targets(helper, read_only=True) == (
        set() if config.agent.source == "podresources" else {"/var/run/nri"}
    )
    measuring = (
        {"/host/sys/devices", "/host/sys/class", "/host/sys/fs/cgroup"}
        if config.agent.metrics
        else capping
    )
    processes = (
        {"/host/proc", "/host/proc/sys"}
        if config.agent.metrics and "process" in config.agent.metrics.levels
        else set()
    )
    beside = {"/var/lib/kubelet/plugins/cpu"} if config is CONFIGS["all settings"] else set()
    usual = {
        "/run/kpm",
        "/host/sys/devices/system/cpu",
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "/var/lib/kubelet/pod-resources",
        "/var/lib/power-node-agent/pods",
    }
    usual |= {"/host/sys/fs/cgroup"} if config.agent.source == "nri" else set()
    usual |= {"/etc/kpm/metrics"} if config.agent.metrics_access else set()
    elsewhere = set() if config.agent.source == "podresources" else {"/var/run/cdi"}
    assert targets(agent, read_only=True) == usual | measuring | processes | beside | elsewhere


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_the_helper_has_no_token_and_the_volumes_are_those_that_are_mounted(
    config: PowerConfig,
) -> None:
    """The pod mounts no token by itself; what is read-only is so down to the last mount, where the
    runtime can.
    """
    agent, helper = containers(config)
    pod = daemon_set(config, NAMESPACE, IMAGE)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert not [mount for mount in helper["volumeMounts"] if "serviceaccount" in mount["mountPath"]]
    assert {volume["name"] for volume in pod["volumes"]} == {
        mount["name"] for container in (agent, helper) for mount in container["volumeMounts"]
    }
    hosts = {
        volume["name"]: volume["hostPath"] for volume in pod["volumes"] if "hostPath" in volume
    }
    for mount in (*agent["volumeMounts"], *helper["volumeMounts"]):
        assert ("recursiveReadOnly" in mount) is (
            mount["readOnly"]
            and (mount["name"] in hosts or mount["name"] in ("token", "metrics-tls"))
        )
    #: Folders that every node has, and those that are made: no mount keeps a pod from starting.
    always = (
        "/sys/devices/system/cpu",
        "/sys/devices/virtual",
        "/sys/devices/platform",
        "/sys/devices",
        "/sys/class",
        "/sys/fs/cgroup",
        "/proc",
    )
    assert all(
        item["type"] == "DirectoryOrCreate" or item["path"] in always for item in hosts.values()
    )


@pytest.mark.parametrize(
    ("asked", "allowed", "capability"),
    [
        (None, "byName", True),
        ("byName", "byName", True),
        ("byLatency", "byName", False),
        ("off", "byName", False),
        (None, "byLatency", False),
        ("byName", "off", False),
        ("of another version", "byName", False),
    ],
)
def test_a_capability_is_only_where_states_are_set_by_name_and_the_operator_allows_it(
    asked: str | None, allowed: str, capability: bool
) -> None:
    config = PowerConfig(Meta("c"), agent=AgentSettings(idle_states=asked))
    agent, helper = containers(config, evolve(IMAGE, idle_states=IdleStates(allowed)))
    assert ("add" in helper["securityContext"]["capabilities"]) is capability
    assert ("--idle-states" in agent["args"]) is (allowed != "byName")


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        (None, True),
        ("auto", True),
        ("nri", True),
        ("podresources", False),
        ("of another version", False),
    ],
)
def test_the_runtimes_socket_is_the_helpers_alone(source: str | None, asked: bool) -> None:
    """It is as good as root on the host: never where the network is, and nowhere where it is not
    wanted.
    """
    agent, helper = containers(PowerConfig(Meta("c"), agent=AgentSettings(source=source)))
    assert "nri" not in str(agent["volumeMounts"])
    assert ("/var/run/nri" in targets(helper, read_only=True)) is asked
    assert ("--nri" in helper["args"], "--containers" in agent["args"]) == (asked, asked)


def test_only_the_operators_own_setting_makes_the_helper_privileged_and_never_the_agent() -> None:
    """No PowerConfig can."""
    agent, helper = containers(CONFIGS["all settings"], evolve(IMAGE, privileged=True))
    assert (agent["securityContext"]["privileged"], helper["securityContext"]["privileged"]) == (
        False,
        True,
    )


def test_the_mailbox_of_amd_machines_comes_with_the_operators_setting_alone() -> None:
    """An unprivileged container may not open a device, so that setting makes the helper's
    privileged; no PowerConfig can.

    A privileged container has the devices that its node has, so a node without the mailbox starts
    its pod too.
    """
    agent, helper = containers(CONFIGS["both caps"], evolve(IMAGE, hsmp=True))
    for container in (agent, helper):
        assert container["args"][container["args"].index("--hsmp") + 1] == "/dev/hsmp"
    assert (agent["securityContext"]["privileged"], helper["securityContext"]["privileged"]) == (
        False,
        True,
    )
    plain = [
        daemon_set(config, NAMESPACE, IMAGE)["spec"]["template"]["spec"]
        for config in CONFIGS.values()
    ]
    assert "hsmp" not in str(plain)
    assert not any(
        container["securityContext"]["privileged"]
        for pod in plain
        for container in (*pod["containers"], *pod["initContainers"])
    )


def test_a_start_is_waited_for_before_liveness_counts() -> None:
    agent, _ = containers(CONFIGS["default"])
    probe = agent["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 120


def test_every_setting_changes_the_hash() -> None:
    """So that the DaemonSet is rolled when it must be; the same settings give the same one."""
    base = PowerConfig(Meta("c"))
    # the agent reads it of the object itself
    names = [item.name for item in fields(AgentSettings) if item.name != "crio_annotations"]
    marks = [
        mark(evolve(base, agent=evolve(base.agent, **{name: getattr(SETTINGS, name)})))
        for name in names
    ]
    more = [
        mark(base),
        mark(evolve(base, power_node_selector={"a": "b"})),
        mark(base, Image("kpm:2")),
        mark(base, Image("kpm:1", privileged=True)),
    ]
    assert len({*marks, *more}) == len(names) + 4
    assert mark(
        evolve(
            base, meta=Meta("d", uid="u"), custom_devices=("x/y",), duplicate_power_config="reject"
        )
    ) == mark(base)


def test_arguments_and_ports_follow_the_settings() -> None:
    """Each is an option of the agent; tolerations go to the pod (field report 56)."""
    pod = daemon_set(CONFIGS["all settings"], NAMESPACE, IMAGE)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["tolerations"] == [
        {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}
    ]
    assert container["image"] == "other:2"
    words = container["args"]
    options = {
        "--port": "9999",
        "--resync": "30s",
        "--repair": "report",
        "--log-level": "debug",
        "--claim-socket": SETTINGS.claim_socket,
    }
    assert {key: words[words.index(key) + 1] for key in options} == options
    assert words[-1] == "--measure-only"
    assert {item["containerPort"] for item in container["ports"]} == {9999}
    health = {
        container[probe]["httpGet"]["port"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert health == {8081} == {int(words[words.index("--health-port") + 1])}


@pytest.mark.parametrize(
    ("access", "words"),
    [
        (None, []),
        ("open", []),
        (
            "token",
            [
                "--metrics-access",
                "token",
                "--metrics-cert",
                "/etc/kpm/metrics/tls.crt",
                "--metrics-key",
                "/etc/kpm/metrics/tls.key",
            ],
        ),
        (
            "certificate",
            [
                "--metrics-access",
                "certificate",
                "--metrics-cert",
                "/etc/kpm/metrics/tls.crt",
                "--metrics-key",
                "/etc/kpm/metrics/tls.key",
                "--metrics-client-ca",
                "/etc/kpm/metrics/ca.crt",
            ],
        ),
    ],
)
def test_metrics_by_tls_come_from_one_secret_that_may_come_later(
    access: str | None, words: list[str]
) -> None:
    config = PowerConfig(Meta("c"), agent=AgentSettings(metrics_access=access))
    agent, helper = containers(config)
    found = [
        word for word in agent["args"] if "metrics" in word or word in ("token", "certificate")
    ]
    assert found == words
    volumes = [
        volume
        for volume in daemon_set(config, NAMESPACE, IMAGE)["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    ]
    secret = {
        "name": "metrics-tls",
        "secret": {"secretName": "power-node-agent-metrics", "optional": True},
    }
    assert volumes == ([secret] if words else [])
    assert "metrics" not in str(helper["volumeMounts"])


def test_probes_have_a_port_of_their_own_whatever_that_of_the_metrics_is() -> None:
    """Whoever floods the one does not end the pod."""
    settings = evolve(SETTINGS, metrics_port=8081)
    (container,) = daemon_set(PowerConfig(Meta("c"), agent=settings), NAMESPACE, IMAGE)["spec"][
        "template"
    ]["spec"]["containers"]
    assert {item["containerPort"] for item in container["ports"]} == {8081}
    assert container["livenessProbe"]["httpGet"]["port"] == 8082


# --- what is made ---


def deletes(actions: list[Action]) -> list[str]:
    """Plurals and names of what was deleted, in order."""
    return [f"{action.plural}/{action.name}" for action in actions if isinstance(action, Delete)]


def test_what_an_older_definition_does_not_keep_is_written_once() -> None:
    """New operator, old definitions: its API server drops what these do not name, and is left in
    peace until there is something else to say, or somebody has written meanwhile.
    """
    world = running("a")
    operator = Operator(*[None] * 11)  # type: ignore[arg-type]
    operator.place = Place("power.openshift.io", NAMESPACE)

    def passes() -> Sequence[Action]:
        """What a pass of the operator writes to an API server that keeps no counts."""
        actions = reconcile(evolve(world.observed(), kept=operator._kept), IMAGE, Lost({}))
        for action in actions:
            world.carry_out(action)
            assert isinstance(action, Apply)
            world.objects[action.plural, action.name]["status"].pop("nodeCount", None)
            stored = copy.deepcopy(world.objects[action.plural, action.name])
            operator.api = cast("Any", SimpleNamespace(apply=lambda *_, **__: stored))  # noqa: B023
            operator._apply(action)
        return actions

    del world.objects["powerconfigs", "config"]["status"]["nodeCount"]
    assert len(passes()) == 1
    assert not passes()
    world.objects["powerconfigs", "config"]["status"]["errors"] = ["somebody's"]
    assert len(passes()) == 1
    assert not passes()
    assert operator._still_kept(world.observed())
    assert not operator._still_kept(World().observed()), "nothing is kept of what is gone"


def test_a_power_config_makes_agents_and_two_objects_a_selected_node() -> None:
    """And is held by the finalizer before anything else is done; then all is quiet."""
    world = World()
    for name, power in (("a", "yes"), ("b", "yes"), ("c", "no")):
        world.node(name, power=power)
    world.put("powerconfigs", "config", {"powerNodeSelector": {"power": "yes"}})
    actions = world.settle()
    assert actions[0] == Finalize("config", (FINALIZER,))
    assert world.names("daemonsets") == [AGENT_NAME]
    assert world.names("powernodes") == ["a", "b"]
    assert world.names("powernodestates") == [state_name("a"), state_name("b")]
    assert world.status("powerconfigs", "config") == {
        "nodes": ["a", "b"],
        "nodeCount": 2,
        "errors": [],
    }
    assert {
        item["metadata"]["labels"][GENERATED]
        for plural in ("powernodes", "powernodestates", "daemonsets")
        for item in world.of(plural)
    } == {"true"}


def test_a_workload_is_made_where_an_agent_found_the_profile_valid() -> None:
    """Not for shared profiles, not for ones that no object is behind; it goes with the profile, and
    is not deleted twice.
    """
    world = running("a", "b", profiles=("fast", "quick"))
    world.put("powerprofiles", "slow", {"shared": True})
    world.report("a", "fast", "slow", "ghost")
    world.status("powernodestates", state_name("a"))["profiles"].append(
        {"name": "quick", "valid": False, "errors": ["no"]}
    )
    world.settle()
    assert world.names("powerworkloads") == sorted(
        [workload_name("fast", "a"), workload_name("fast", "b"), workload_name("quick", "b")]
    )
    world.objects["powerworkloads", workload_name("fast", "b")]["metadata"]["finalizers"] = [
        "example.com/slow"
    ]
    world.delete("powerprofiles", "fast")
    assert sorted(deletes(world.settle())) == [
        f"powerworkloads/{workload_name('fast', node)}" for node in "ab"
    ]


def test_the_daemon_set_is_applied_when_it_differs_and_only_then() -> None:
    """A changed setting, a hash that somebody changed, and one that was deleted."""
    world = running("a")
    world.objects["powerconfigs", "config"]["spec"]["agent"] = {"logLevel": "debug"}
    assert [action.name for action in world.settle() if isinstance(action, Apply)] == [AGENT_NAME]
    world.objects["daemonsets", AGENT_NAME]["metadata"]["annotations"] = {}
    world.settle()
    world.delete("daemonsets", AGENT_NAME)
    world.settle()
    assert world.names("daemonsets") == [AGENT_NAME]
    assert len(world.actions) == 3


@pytest.mark.parametrize("rule", [None, "delete", "reject"])
def test_of_two_power_configs_the_older_one_holds(rule: str | None) -> None:
    """The later one is deleted with an Event, or only marked; the rule is the holder's."""
    world = running("a")
    if rule:
        world.objects["powerconfigs", "config"]["spec"]["duplicatePowerConfig"] = rule
    world.put("powerconfigs", "another", {"duplicatePowerConfig": "delete"}, age=4)
    actions = world.settle()
    if rule == "reject":
        assert deletes(actions) == []
        (line,) = world.status("powerconfigs", "another")["errors"]
        assert "PowerConfig/config is older" in line
        assert "nodes" not in world.status("powerconfigs", "another")
        assert world.status("powerconfigs", "config") == {
            "nodes": ["a"],
            "nodeCount": 1,
            "errors": [],
        }
    else:
        assert deletes(actions) == ["powerconfigs/another"]
        assert [(action.name, action.reason) for action in actions if isinstance(action, Tell)] == [
            ("another", "Duplicate")
        ]
    assert world.names("powernodes") == ["a"]
    assert kept_by_operator(world.objects["powerconfigs", "config"])


# --- the end of a node, and of all ---


def test_a_node_that_is_not_selected_any_more_is_waited_for() -> None:
    """Its objects go when its agent says that it has restored, and not before; other nodes are not
    touched.
    """
    world = running("a", "b", profiles=("fast",))
    world.objects["nodes", "a"]["metadata"]["labels"]["power"] = "no"
    assert deletes(world.settle()) == [f"powerworkloads/{workload_name('fast', 'a')}"]
    world.report("a", conditions=[{"type": "Ready", "status": "True", "reason": "Settled"}])
    assert deletes(world.settle()) == []
    world.release("a")
    assert deletes(world.settle()) == [f"powernodestates/{state_name('a')}", "powernodes/a"]
    assert world.names("powernodes") == ["b"]


@pytest.mark.parametrize("way", ["released", "gone", "lost", "not restored", "never reported"])
def test_a_deleted_power_config_goes_last(way: str) -> None:
    """After the agents, and after every node is released, gone, lost, or left with files that could
    not be put back; an Event says the last two.
    """
    world = running("a", "b", profiles=("fast",))
    world.delete("powerconfigs", "config")
    actions = world.settle()
    assert "daemonsets/power-node-agent" in deletes(actions)
    waiting = [
        "waiting for node a: its agent puts back what it has set",
        "waiting for node b: its agent puts back what it has set",
    ]
    assert [action.body["status"] for action in actions if isinstance(action, Apply)] == [
        {"errors": waiting}
    ]
    world.release("a")
    assert not any(isinstance(action, Finalize) for action in world.settle())
    assert world.names("powernodestates") == [state_name("b")]
    if way == "released":
        world.release("b")
    elif way == "gone":
        world.delete("nodes", "b")
    elif way == "lost":
        world.lost = frozenset({"b"})
    elif way == "not restored":
        world.report(
            "b",
            conditions=[
                {
                    "type": "Released",
                    "status": "False",
                    "reason": "NotRestored",
                    "message": "some files are busy",
                }
            ],
        )
    else:
        del world.objects["powernodestates", state_name("b")]["status"]
    actions = world.settle()
    assert actions[-1] == Finalize("config", ())
    told = [action.message for action in actions if isinstance(action, Tell)]
    assert len(told) == (1 if way in ("lost", "not restored") else 0)
    assert all("node b" in message and "kpm restore" in message for message in told)
    assert sorted({plural for plural, _ in world.objects}) == (["nodes", "powerprofiles"])


def test_the_admission_policy_knows_what_agents_may_see_and_no_more() -> None:
    """deploy/base/admission-operator.yaml lists the folders of mounts.py; the words that it
    compares are those of the code.
    """
    text = (Path(__file__).parents[2] / "deploy/base/admission-operator.yaml").read_text()
    policy, binding = yaml.safe_load_all(text)
    variables = {item["name"]: item["expression"] for item in policy["spec"]["variables"]}
    full = AgentSettings(
        power_caps=("rapl", "amd"), metrics=MetricSettings(("process",), ()), metrics_access="token"
    )
    sources = {
        mount.source
        for settings in (full, AgentSettings())
        for mount in mounts(settings)
        if mount.source.startswith("/")
    }
    assert set(ast.literal_eval(variables["seen"].replace("\n", ""))) == sources
    own = {mount.target for mount in mounts(full) if not mount.source.startswith("/")}
    assert set(ast.literal_eval(variables["own"])) == own
    written = {
        name: {
            mount.target
            for mount in mounts(full)
            if mount.container == name and not mount.read_only
        }
        for name in ("agent", "helper")
    }
    assert {
        name: set(paths) for name, paths in ast.literal_eval(variables["written"]).items()
    } == written
    assert GENERATED in text
    assert binding["spec"]["validationActions"] == ["Deny"]


def test_an_agent_that_died_is_given_one_more_round() -> None:
    """The DaemonSet stays until it has started the agent again; once it runs it is told to end, and
    puts everything back.
    """
    world = running("a", "b")
    world.dead = frozenset({"b"})
    world.delete("powerconfigs", "config")
    assert deletes(world.settle()) == []
    assert (
        world.status("powerconfigs", "config")["errors"][1]
        == "waiting for node b: no agent runs there"
    )
    world.dead = frozenset()
    assert deletes(world.settle()) == ["daemonsets/power-node-agent"]


def test_a_dead_agent_keeps_a_deleted_power_config_for_a_stated_time() -> None:
    """Then it is let go, with an Event that names the node and the remedy; the other nodes are not
    hurried.
    """
    world = running("a", "b")
    world.dead = frozenset({"b"})
    world.delete("powerconfigs", "config")
    world.settle()
    world.lost = frozenset({"b"})
    actions = world.settle()
    assert deletes(actions) == [
        "daemonsets/power-node-agent",
        f"powernodestates/{state_name('b')}",
        "powernodes/b",
    ]
    assert [action.message for action in actions if isinstance(action, Tell)] == [
        (
            "node b: did not answer; what was set there stays until an agent, or kpm restore, runs"
            " there again"
        )
    ]
    assert world.status("powerconfigs", "config")["errors"][0].startswith(
        "node b: did not answer; what was set there stays"
    )
    world.release("a")
    assert world.settle()[-1] == Finalize("config", ())


def test_a_node_that_was_left_in_vain_is_told_of_while_the_power_config_stands() -> None:
    """Who looks later still reads what stays set, and how to end it."""
    world = running("a", "b")
    world.objects["nodes", "b"]["metadata"]["labels"]["power"] = "no"
    world.dead, world.lost = frozenset({"b"}), frozenset({"b"})
    world.settle()
    assert world.names("powernodes") == ["a"]
    assert "kpm restore" in world.status("powerconfigs", "config")["errors"][0]


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        ("kpm:1", "kpm:1"),
        ("good:2", "good:2"),
        ("quay.io/us/kpm:9", "quay.io/us/kpm:9"),
        ("evil:1", "kpm:1"),
        ("good:22", "kpm:1"),
    ],
)
def test_agents_run_only_images_that_the_operator_allows(asked: str, run: str) -> None:
    """Who chooses the image chooses what runs as root on every node; the object's status says what
    was not done.
    """
    config = PowerConfig(Meta("c"), agent=AgentSettings(image=asked))
    image = Image("kpm:1", allowed=("good:2", "quay.io/us/*"))
    pod = daemon_set(config, NAMESPACE, image)["spec"]["template"]["spec"]
    assert {item["image"] for item in (*pod["containers"], *pod["initContainers"])} == {run}
    problems = image_problems(config, image)
    assert [problem.code for problem in problems] == ([] if asked == run else ["agent-image"])


def test_a_power_config_that_waited_takes_over_when_the_holder_has_gone() -> None:
    """At once: a plan leaves no residue, so nothing has to be put back between the two."""
    world = running("a")
    world.objects["powerconfigs", "config"]["spec"]["duplicatePowerConfig"] = "reject"
    world.put("powerconfigs", "another", age=4)
    world.settle()
    world.delete("powerconfigs", "config")
    world.settle()
    assert kept_by_operator(world.objects["powerconfigs", "another"])
    assert (world.names("powerconfigs"), world.names("daemonsets"), world.names("powernodes")) == (
        ["another"],
        [AGENT_NAME],
        ["a"],
    )
    assert world.status("powerconfigs", "another") == {"nodes": ["a"], "nodeCount": 1, "errors": []}


def test_finalizers_of_others_stay() -> None:
    """When ours comes and when it goes."""
    world = World()
    world.put("powerconfigs", "config", finalizers=["example.com/other"])
    world.settle()
    assert world.objects["powerconfigs", "config"]["metadata"]["finalizers"] == [
        "example.com/other",
        FINALIZER,
    ]
    world.delete("powerconfigs", "config")
    world.settle()
    assert world.objects["powerconfigs", "config"]["metadata"]["finalizers"] == [
        "example.com/other"
    ]


def test_a_node_that_comes_back_is_set_up_again() -> None:
    """Also where its Released state was still there."""
    world = running("a", profiles=("fast",))
    world.objects["nodes", "a"]["metadata"]["labels"]["power"] = "no"
    world.settle()
    world.report("a", conditions=[Released])
    world.objects["nodes", "a"]["metadata"]["labels"]["power"] = "yes"
    world.settle()
    world.report("a", "fast")
    world.settle()
    assert world.names("powerworkloads") == [workload_name("fast", "a")]


@pytest.mark.parametrize(
    "status",
    [{"cpuPools": {"shared": {"cpuIDs": "0-3"}}}, {"uncore": {"name": "n"}}, {}],
    ids=["pools", "uncore", "empty"],
)
def test_a_state_that_an_earlier_operator_left_is_replaced(status: dict[str, Any]) -> None:
    """It has the name and not the owner: what it says is of a system that has gone.

    Those of other nodes are left alone.
    """
    world = World()
    world.node("a", power="yes")
    for name in ("a", "b"):
        world.put("powernodes", name)
        world.put("powernodestates", state_name(name))["status"] = status
    world.put("powerconfigs", "config", {"powerNodeSelector": {"power": "yes"}})
    world.settle()
    for plural, name in (("powernodes", "a"), ("powernodestates", state_name("a"))):
        item = world.objects[plural, name]
        assert (item["spec"], item["metadata"]["labels"], item.get("status") or {}) == (
            {"nodeName": "a"},
            {GENERATED: "true"},
            {},
        )
    assert world.objects["powernodestates", state_name("b")]["status"] == status
    assert world.settle() == []


def test_a_state_of_an_older_form_that_the_server_takes_no_change_of_is_replaced() -> None:
    """Uncore entries were a list by themselves once."""
    world = running("a")
    world.report("a", uncore=[{"name": "package_00_die_00"}])
    assert deletes(world.settle()) == [f"powernodestates/{state_name('a')}"]
    world.report("a", uncore={"entries": [{"name": "package_00_die_00"}]})
    assert deletes(world.settle()) == []


# --- errors ---


@pytest.mark.parametrize(("plural", "name", "spec", "told"), [
    ("uncores", "a", {"sysMin": 1, "sysMax": 2}, False),
    ("uncores", "all", {"sysMin": 1, "sysMax": 2}, True),
    ("uncores", "all", {"nodeSelector": {"labelSelector": {}}}, False),
    ("powernodeconfigs", "a", {"sharedPowerProfile": "x"}, True),
    ("powercaps", "a", {"watts": 100}, True),
])  # fmt: skip
def test_an_object_that_is_about_no_node_says_so(
    plural: str, name: str, spec: dict[str, Any], *, told: bool
) -> None:
    """A selector that is left out meant all nodes to an earlier operator; here it is in force
    nowhere, which nobody would see.
    """
    world = running("a")
    world.put(plural, name, spec)
    world.settle()
    lines = [
        line
        for line in world.status(plural, name)["errors"]
        if line.startswith("spec.nodeSelector: is missing")
    ]
    assert bool(lines) == told, lines


def problem(name: str, message: str, severity: str = "error") -> dict[str, Any]:
    """What an agent reports of a profile."""
    return {
        "severity": severity,
        "code": "frequency-range",
        "object": f"PowerProfile/{name}",
        "message": message,
        "field": "spec.pstates.max",
    }


def test_a_fault_on_many_nodes_is_one_line_with_ten_names() -> None:
    """Another message is another line; warnings are the nodes' own business."""
    nodes = [f"n{number:02}" for number in range(13)]
    world = running(*nodes, profiles=("fast",))
    for node in nodes:
        own = (
            problem("fast", "too high here")
            if node == "n07"
            else problem("fast", "rounded", "warning")
        )
        world.report(node, problems=(problem("fast", "too high"), own))
    world.settle()
    assert world.status("powerprofiles", "fast")["errors"] == [
        (
            "spec.pstates.max: too high (on n00, n01, n02, n03, n04, n05, n06, n07, n08, n09 and 3"
            " more)"
        ),
        "spec.pstates.max: too high here (on n07)",
    ]
    for node in nodes[:-1]:
        world.objects["nodes", node]["metadata"]["labels"]["power"] = "no"
    world.settle()
    assert world.status("powerprofiles", "fast")["errors"] == [
        "spec.pstates.max: too high (on n12)"
    ]


def test_errors_are_empty_when_nothing_is_wrong_any_more() -> None:
    """The list stays, so that one can see that somebody has looked; faults that need no node are
    said without one.
    """
    world = running("a", profiles=("fast",))
    assert world.status("powerprofiles", "fast") == {"errors": []}
    world.objects["powerprofiles", "fast"]["spec"] = {"pstates": {"min": 3000, "max": 2000}}
    world.settle()
    (line,) = world.status("powerprofiles", "fast")["errors"]
    assert line.startswith("spec.pstates")
    assert "(on " not in line
    world.objects["powerprofiles", "fast"]["spec"] = {"pstates": {"max": 2000}}
    world.settle()
    assert world.status("powerprofiles", "fast") == {"errors": []}


def test_an_object_that_cannot_be_read_says_so_and_spoils_no_other() -> None:
    """As an older version's might be."""
    world = running("a", profiles=("fast",))
    world.put("powerprofiles", "odd", {"pstates": ["not", "a", "mapping"]})
    world.settle()
    (line,) = world.status("powerprofiles", "odd")["errors"]
    assert "spec.pstates" in line
    assert world.names("powerworkloads") == [workload_name("fast", "a")]
