"""kubectl power plan and explain: what objects would change on the nodes of a running cluster."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from kpm.__main__ import main
from kpm.cli import cluster_plan, power
from kpm.cluster.gathering import Gathered, gather, overlaid
from kpm.cluster.planning import changes
from kpm.formats.published import packed
from kpm.kube.kinds import NODES, PODS
from kpm.kube.kinds import power as kind_of
from kpm.request.machines import MODELS, build_machine
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent
from kpm_planner.plan import NodeInput, plan_node
from tests.kpm.cli_rig import SCHEMAS
from tests.kpm.test_cluster_verbs import GROUP, PLACE, STATES, Server
from tests.planner.build import (
    NODE,
    allocation,
    asking,
    intent,
    machine,
    owns,
    plan,
    pod,
    profile,
    workload,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
XEON = build_machine(evolve(MODELS["xeon"], packages=1, cores=8, threads=2))
LABELS = {"kubernetes.io/hostname": "n1", "role": "worker"}
REQUEST = {"cpu": "2", "memory": "1Gi", f"{GROUP}/fast": "2"}


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "uid": name, **more}


def profile_of(name: str, **spec: Any) -> dict[str, Any]:
    kind = {"apiVersion": f"{GROUP}/v1", "kind": "PowerProfile"}
    return {**kind, "metadata": meta(name, namespace=PLACE), "spec": spec}


SHARED = profile_of("slow", shared=True, pstates={"max": "30%"})
FAST = profile_of("fast", pstates={"min": "90%", "max": "100%"})
WORKLOAD = {
    "apiVersion": f"{GROUP}/v1",
    "kind": "PowerWorkload",
    "metadata": meta("shared", namespace=PLACE),
    "spec": {
        "allCores": True,
        "powerNodeSelector": {"role": "worker"},
        "powerProfile": "slow",
        "reservedCPUs": [{"cores": [0, 8]}],
    },
}
WEB = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": meta("web", namespace="team"),
    "spec": {
        "nodeName": "n1",
        "containers": [{"name": "app", "resources": {"requests": REQUEST, "limits": REQUEST}}],
    },
    "status": {"phase": "Running", "qosClass": "Guaranteed"},
}
SAID = Allocation(
    reported=(ContainerCpus("team", "web", "app", frozenset({2, 10})),),
    allocatable=XEON.online - {0, 8},
)


def cluster(
    names: tuple[str, ...] = ("n1", "n2"), *, on: Machine = XEON, without: tuple[str, ...] = ()
) -> Server:
    """Nodes with what their agents publish; a pod on the first one."""
    api = Server()
    for item in (SHARED, FAST):
        api.put(kind_of(GROUP, "powerprofiles", PLACE), item)
    api.put(kind_of(GROUP, "powerworkloads", PLACE), WORKLOAD)
    for name in names:
        said = SAID if name == "n1" else evolve(SAID, reported=())
        status = {"machine": packed(on), "allocation": packed(said)}
        status = {key: text for key, text in status.items() if key not in without}
        state = {"metadata": meta(f"{name}-power-state"), "spec": {"nodeName": name}}
        api.put(STATES, {**state, "status": status})
        api.put(NODES, {"metadata": meta(name, labels={**LABELS, "kubernetes.io/hostname": name})})
    api.put(PODS, WEB)
    return api


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Runs a verb of `kubectl power` against a cluster in memory, with objects as a file."""

    def ran(api: Server, *words: str, objects: Any = ()) -> Result:
        monkeypatch.setattr("kpm.kube.api.connect", lambda *_: api)
        if objects:
            path = tmp_path / "objects.json"
            path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
            words = (words[0], "-f", str(path), *words[1:])
        return CliRunner().invoke(power, list(words), prog_name="kubectl power")

    return ran


def test_objects_that_are_there_already_change_nothing(run: Any) -> None:
    ran = run(cluster(), "plan", objects=[SHARED, FAST])
    assert ran.exit_code == 0
    assert ran.stdout == "0 writes on 0 of 2 nodes, 0 pods faster, 0 slower, 0 new errors\n"


def test_a_slower_shared_profile_is_one_block_for_nodes_that_are_alike(run: Any) -> None:
    """Node n2 has two CPUs more in the shared pool: another block."""
    slower = profile_of("slow", shared=True, pstates={"max": "10%"})
    ran = run(cluster(("n1", "n2", "n3")), "plan", objects=[slower])
    assert ran.exit_code == 1
    assert ran.stdout.splitlines() == [
        "2 nodes, 14 writes each: n2, n3",
        "  ▼ CPUs 1-7,9-15  max 1.67 → 1.09 GHz  (PowerWorkload/shared, PowerProfile/slow)",
        "1 node, 12 writes: n1",
        "  ▼ CPUs 1,3-7,9,11-15  max 1.67 → 1.09 GHz  (PowerWorkload/shared, PowerProfile/slow)",
        "40 writes on 3 of 3 nodes, 0 pods faster, 0 slower, 40 shared CPUs slower, 0 new errors",
    ]


def test_pods_that_become_slower_are_named(run: Any) -> None:
    slower = profile_of("fast", pstates={"min": "10%", "max": "50%"})
    ran = run(cluster(), "plan", objects=[slower])
    assert "  ▼ team/web/app (CPUs 2,10 of n1)  min 3.41 → 1.09 GHz" in ran.stdout
    assert ran.stdout.endswith("0 pods faster, 1 slower, 0 new errors\n")
    found = json.loads(run(cluster(), "plan", "-o", "json", objects=[slower]).stdout)
    Draft202012Validator(json.loads((SCHEMAS / "power-plan.schema.json").read_text())).validate(
        found
    )
    assert found["pods"][0]["direction"] == "slower"
    assert found["sharedCpus"] == {"faster": 0, "slower": 0}


def test_what_would_be_deleted_is_planned_without(run: Any) -> None:
    """The pod that asks for it gets baseline, and its node advertises no more than is held."""
    ran = run(cluster(), "plan", "--without", "PowerProfile/fast")
    assert ran.exit_code == 2
    assert "error: Pod/team/web: spec.containers[app].resources" in ran.stdout
    assert "offers power.openshift.io/fast" in ran.stdout


def test_a_mistake_costs_what_it_costs(run: Any) -> None:
    """R8: the version that is valid now stays in force; no CPU changes, and the error is told."""
    broken = profile_of("fast", pstates={"min": "90%", "max": "10%"})
    ran = run(cluster(), "plan", objects=[broken])
    assert ran.exit_code == 2
    assert "0 writes on 0 of 2 nodes" in ran.stdout
    assert "stays in force" in ran.stdout


def test_one_node_alone(run: Any) -> None:
    slower = profile_of("slow", shared=True, pstates={"max": "10%"})
    ran = run(cluster(), "plan", "--node", "n2", objects=[slower])
    closing = ran.stdout.splitlines()[-1]
    assert closing.startswith("14 writes on 1 of 1 node, 0 pods faster, 0 slower, 14 shared CPUs")
    assert run(cluster(), "plan", "--node", "n9", objects=[slower]).exit_code == 2


def test_nodes_whose_machine_nobody_publishes_are_told(run: Any) -> None:
    ran = run(cluster(without=("machine",)), "plan", objects=[FAST])
    assert "not known for 2 nodes: status.machine: is not published" in ran.stdout
    ran = run(cluster(without=("allocation",)), "plan", "-o", "json", objects=[FAST])
    assert json.loads(ran.stdout)["nodes"] == 2


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({"machine": "no base64"}, "expected JSON as xz in base64"),
        ({"machine": "A" * 20_000}, "at most 12288 characters"),
        ({"machine": {"a": 1}}, "is not published"),
        ("text", "is not published"),
    ],
)
def test_a_node_that_publishes_nonsense_costs_itself(status: Any, why: str, run: Any) -> None:
    api = cluster()
    state = {"metadata": meta("n2-power-state"), "spec": {"nodeName": "n2"}, "status": status}
    api.put(STATES, state)
    ran = run(api, "plan", objects=[profile_of("slow", shared=True, pstates={"max": "10%"})])
    assert why in ran.stdout
    assert "12 writes on 1 of 1 node" in ran.stdout


def test_objects_and_pods_that_cannot_be_read_cost_themselves(run: Any) -> None:
    api = cluster()
    api.put(kind_of(GROUP, "powerprofiles", PLACE), profile_of("odd", pstates=[1, 2]))
    api.put(PODS, {**WEB, "metadata": meta("odd", namespace="team"), "spec": 7})
    api.put(NODES, {"metadata": meta("<odd>")})
    ran = run(api, "plan", objects=[FAST])
    assert ran.exit_code == 0
    assert "warning: error: PowerProfile/odd" in ran.stderr


def test_without_anything_to_change_it_says_what_is_missing(run: Any) -> None:
    assert run(cluster(), "plan").exit_code == 2
    refused = run(cluster(), "plan", "--without", "Pod/a")
    assert "--without: expected KIND/NAME" in refused.stderr


def test_a_cpu_and_a_pod_of_a_node_are_explained(run: Any) -> None:
    api = cluster()
    told = run(api, "explain", "n1", "cpu", "2").stdout
    assert "team/web" in told
    assert "PowerProfile" in run(api, "explain", "n1", "pod", "team/web").stdout or told
    found = json.loads(run(api, "explain", "n1", "cpu", "2", "-o", "json").stdout)
    assert found["lines"]
    assert run(api, "explain", "n1", "cpu", "99").exit_code == 2
    assert run(api, "explain", "n9", "cpu", "2").exit_code == 2


def test_what_is_applied_keeps_the_age_of_what_it_replaces() -> None:
    """Precedence hangs on it: an object that is edited is not a newer one (R5)."""
    before, after = intent(profile("a", max="50%")), intent(profile("a", max="40%"))
    merged = overlaid(before, after)
    assert merged.profiles[0].meta.created == before.profiles[0].meta.created
    assert merged.profiles[0].pstates.max == "40%"
    assert overlaid(before, Intent(), [("PowerProfile", "a")]).profiles == ()


def test_what_is_gathered_plans_as_the_agent_does() -> None:
    """The same plan as the one from which the statuses came."""
    on = machine("0-7")
    given = allocation(
        [pod(asking(2, "fast"), name="db")], [owns("2-3", "db")], allocatable=frozenset(range(1, 8))
    )
    objects = (profile("fast", min="90%"), profile("slow", shared=True, max="30%"), workload())
    here = plan(*objects, on=on, with_=given)
    item = NodeInput(NODE, on, given)
    again = plan_node(intent(*objects), item, NOW)
    found = changes(Gathered(intent(*objects), (item,)), intent(*objects), NOW)
    assert again.groups == here.groups
    assert found.nodes[0].same
    assert cluster_plan.summarised(found).status == 0


def test_gathering_asks_for_one_node_alone() -> None:
    found = gather(cluster(), GROUP, PLACE, "n1")
    assert [item.node.name for item in found.inputs] == ["n1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pl"], ["plan", ":4"]),
        (["explain", "n1", "c"], ["cpu", "cap", ":4"]),
        (["plan", "--wi"], ["--without", ":4"]),
        ([], ["status", "plan", "explain"]),
    ],
)
def test_kubectl_is_told_what_may_come_next(
    words: list[str], said: list[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it asks its plugins: a line each, then what the shell is to do."""
    monkeypatch.setattr("sys.argv", ["/usr/bin/kubectl_complete-power", *words])
    main()
    found = capsys.readouterr().out.splitlines()
    assert found[-1].startswith(":")
    assert set(said) <= {*found, ":4"}


@pytest.mark.parametrize(("name", "program"), [("kubectl-power", "kubectl power"), ("kpm", "kpm")])
def test_one_file_has_several_names(
    name: str, program: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [f"/opt/{name}", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.startswith(f"{program}, version ")
