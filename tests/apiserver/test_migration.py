"""A cluster of the earlier operators becomes one of this system, by the steps of the guide.

The theory: what was stored before is stored afterwards, field by field, whoever wrote it, until
this system has something newer to say in its place; what was asked of the CPUs is what they get;
what is not taken over is named, never passed over; and nothing that was left behind keeps this
system from reporting. The backup holds all that users wrote, and brings it back.

The definitions and objects of the earlier operators are in migration/, and where they come from.
The commands are read out of docs/user/migrating.md.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpm.request.machines import IdleStateSpec, MachineSpec, UncoreSpec
from tests.apiserver import nodes
from tests.apiserver.migration import earlier
from tests.apiserver.nodes import LABEL, DaemonSets, OperatorProcess, SimNode, pod
from tests.apiserver.server import ApiServer, wait_for

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
GUIDE = REPO / "docs/user/migrating.md"
IDLE = tuple(IdleStateSpec(*state) for state in (("POLL", 0), ("C1", 2), ("C6", 133)))
EIGHT = MachineSpec(
    cores=8,
    epp="balance_performance",
    idle_driver="intel_idle",
    idle_states=IDLE,
    uncore=UncoreSpec(),
)
#: What the objects ask: minimum, maximum, governor, EPP.
SHARED = (1000000, 1500000, "powersave", "power")
FAST = (3300000, 3600000, "powersave", "performance")
UNCORE = ("1200000", "1800000")
#: What users write, of the kinds that the earlier operators have; the other kinds are made by them.
WRITTEN = {
    "PowerConfig",
    "PowerProfile",
    "PowerWorkload",
    "PowerNodeConfig",
    "Uncore",
    "CStates",
    "TimeOfDay",
}
NOT_HERE = {"CStates", "TimeOfDay"}
#: A workload that their operator made.
MADE = "performance-one-workload"
Document = dict[str, Any]
Key = tuple[str, str]
Request = pytest.FixtureRequest


@dataclass(frozen=True)
class Case:
    """An earlier operator, and what replaces it."""

    file: str
    group: str
    namespace: str
    definitions: str
    overlay: str

    @property
    def kinds(self) -> dict[str, str]:
        return earlier.kinds(self.group)

    @property
    def target(self) -> str:
        """The group of what replaces it."""
        return OPENSHIFT.group if self is AMD else self.group


INTEL = Case("intel", "power.intel.com", "intel-power", "crds/intel", "deploy/overlays/intel")
DEPLOY = "deploy/overlays/default"
OPENSHIFT = Case("openshift", "power.openshift.io", "power-manager", "crds", DEPLOY)
AMD = Case("amd", "power.amdepyc.com", "power-manager", "crds", DEPLOY)
CASES = {"intel": INTEL, "openshift": OPENSHIFT}


# --- what the guide says ---


def guide(pattern: str) -> str:
    """A command of the guide. AssertionError where it names none such."""
    found = re.search(pattern, GUIDE.read_text(), re.MULTILINE)
    assert found, f"no {pattern} in {GUIDE}"
    return found[1].strip()


def backup_command(case: Case) -> str:
    return guide(r"^    (kubectl get .*> before\.yaml)$").replace(OPENSHIFT.group, case.group)


def check_command() -> str:
    return guide(r"^    (kpm validate -f before\.yaml)$")


def install_command(case: Case) -> str:
    command = guide(r"`(kubectl apply --server-side --force-conflicts -k crds)`")
    return command.replace("-k crds", f"-k {case.definitions}")


# --- the cluster ---


@dataclass
class Cluster:
    """A server on which a person types commands, in a folder like the repository's."""

    server: ApiServer
    case: Case
    folder: Path

    def prepare(self) -> None:
        """The commands of the guide, found on the path."""
        python = f'PYTHONPATH={REPO} exec {sys.executable} -m kpm "$@"'
        config = f"{self.server.folder}/admin.kubeconfig"
        kubectl = f'exec {self.server.bin}/kubectl --kubeconfig {config} "$@"'
        self.folder.joinpath("bin").mkdir()
        for name, line in (("kpm", python), ("kubectl", kubectl)):
            command = self.folder / "bin" / name
            command.write_text(f"#!/bin/sh\n{line}\n")
            command.chmod(0o755)
        for name in ("crds", "deploy"):
            (self.folder / name).symlink_to(REPO / name)

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        """What a person types, in a shell."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        home = str(self.folder)
        around: Any = {"env": {**os.environ, "PATH": path, "HOME": home}, "cwd": home}
        words = ["bash", "-c", command]
        return subprocess.run(words, check=False, capture_output=True, text=True, **around)

    def must(self, command: str) -> str:
        """The same, and it has to work."""
        done = self.types(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def define(self, verb: str = "create") -> None:
        """The earlier operator's definitions, by kubectl create or kubectl apply."""
        text = yaml.safe_dump_all(earlier.definitions(self.case.group))
        self.server.kubectl("create", "namespace", self.case.namespace, check=False)
        self.server.kubectl(verb, "-f", "-", given=text)
        self.server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")

    def fill(self) -> None:
        """Its objects, each with the status that its operator or agent wrote."""
        for item in earlier.objects(self.case.file):
            status = item.pop("status", None)
            self.server.apply(item)
            if status is not None:
                self._report(item, status)

    def _report(self, item: Document, status: Document) -> None:
        meta, plural = item["metadata"], self.case.kinds[item["kind"]]
        if item["kind"] != "PowerNodeState":
            self.server.status(plural, meta["name"], status, meta["namespace"])
            return
        for name, value in status.items():
            document = {key: item[key] for key in ("apiVersion", "kind", "metadata")}
            writer = f"--field-manager={earlier.WRITERS[name]}"
            options = ["--server-side", "--subresource=status", writer]
            text = yaml.safe_dump({**document, "status": {name: value}})
            self.server.kubectl("apply", *options, "-f", "-", given=text)

    def operate(self) -> None:
        """Its Deployment and DaemonSet; nothing runs them here."""
        container = {"name": "old", "image": "old"}
        for kind, name in (("Deployment", "controller-manager"), ("DaemonSet", "power-node-agent")):
            labels = {"name": f"{name}-pod"}
            template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
            spec = {"selector": {"matchLabels": labels}, "template": template}
            meta = {"name": name, "namespace": self.case.namespace}
            document = {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": spec}
            self.server.apply(document)

    def stored(self, without: Collection[str] = ()) -> dict[Key, Document]:
        """Every object of a kind that the earlier operator has: kind and name → the object.

        without: kinds that the server does not have any more.
        """
        found: dict[Key, Document] = {}
        for kind, plural in self.case.kinds.items():
            if kind in without:
                continue
            listed = self.server.get(f"{plural}.{self.case.group}", "-n", self.case.namespace) or {
                "items": []
            }
            found |= {(kind, item["metadata"]["name"]): item for item in listed["items"]}
        return found

    def one(self, kind: str, name: str) -> Document:
        """An object; empty where there is none."""
        resource = f"{kind.lower()}.{self.case.group}"
        return dict(self.server.get(resource, name, "-n", self.case.namespace) or {})


@contextlib.contextmanager
def cluster(case: Case, folder: Path) -> Iterator[Cluster]:
    """A server without anything of this system."""
    server = ApiServer(folder / "server")
    server.folder.mkdir()
    typing = folder / "typing"
    typing.mkdir()
    try:
        server.start()
        found = Cluster(server, case, typing)
        found.prepare()
        yield found
    finally:
        server.close()


def lost(was: Any, now: Any, place: str) -> Iterator[str]:
    """Each place at which what was there is not there any more, or is something else."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key, value in was.items():
            if key in now:
                yield from lost(value, now[key], f"{place}.{key}")
            else:
                yield f"{place}.{key} is gone"
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for number, pair in enumerate(zip(was, now, strict=True)):
            yield from lost(*pair, f"{place}[{number}]")
    elif was != now:
        yield f"{place} was {was!r}, is {now!r}"


Stored = dict[Key, Document]


def losses(before: Stored, after: Stored, kind: str, *parts: str) -> list[str]:
    """The same, of the named parts of every object of a kind."""
    found: list[str] = []
    for key, item in before.items():
        if key[0] == kind:
            assert key in after, f"{key} is gone"
            for part in parts:
                found += lost(item.get(part, {}), after[key].get(part, {}), f"{key[1]}: {part}")
    return found


# --- the walk ---


@dataclass
class Walk:
    """A cluster that was led through the guide, and what was seen on the way."""

    cluster: Cluster
    node: SimNode
    before: dict[Key, Document]
    checked: subprocess.CompletedProcess[str]
    plain: subprocess.CompletedProcess[str]
    after: dict[Key, Document]
    operator: OperatorProcess
    again: subprocess.CompletedProcess[str]
    close: Callable[[], None] = field(repr=False)

    @property
    def case(self) -> Case:
        return self.cluster.case

    def backup(self) -> set[Key]:
        """What is in the backup."""
        text = (self.cluster.folder / "before.yaml").read_text()
        return {(item["kind"], item["metadata"]["name"]) for item in yaml.safe_load(text)["items"]}

    def errors(self, kind: str, name: str) -> list[str] | None:
        """What the operator says of an object; None while it has said nothing."""
        return (self.cluster.one(kind, name).get("status") or {}).get("errors")

    def shared(self) -> bool:
        """Whether the shared pool has the limits that were asked."""
        return self.node.cpufreqs("2-3,6-7") == {SHARED}

    def until(self, what: str, check: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait for something, and tell what operator and agent said where it does not come."""
        try:
            wait_for(what, check, seconds, 0.2)
        except AssertionError as failure:
            said = f"operator: {self.operator.log[-2000:]}\nagent: {self.node.log[-3000:]}"
            raise AssertionError(f"{failure}\n{said}") from None


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def walk(request: Request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """All steps of the guide, up to an operator and an agent that run."""
    case: Case = request.param
    folder = tmp_path_factory.mktemp(case.file)
    with pytest.MonkeyPatch.context() as patch, cluster(case, folder) as found:
        patch.setattr(nodes, "NAMESPACE", case.namespace)
        patch.setenv("KPM_GROUP", case.group)
        patch.setenv("KPM_NAMESPACE", case.namespace)
        walked = _walk(found, folder)
        try:
            yield walked
        finally:
            walked.close()


def _walk(found: Cluster, folder: Path) -> Walk:
    server, case = found.server, found.case
    found.define("create")
    found.fill()
    found.operate()
    before = found.stored()
    found.must(backup_command(case))
    checked = found.types(check_command())
    deletion = "kubectl delete deployment/controller-manager daemonset/power-node-agent"
    found.must(f"{deletion} -n {case.namespace}")
    plain = found.types(f"kubectl apply --dry-run=server -k {case.definitions}")
    found.must(install_command(case))
    again = found.types(f"kubectl apply --server-side -k {case.definitions}")
    found.must(f"kubectl apply -k {case.overlay}")
    after = found.stored()
    node = SimNode(server, "one", folder / "one", EIGHT)
    node.create()
    node.kubelet.cpus["default", "web", "app"] = {4, 5}
    server.kubectl("label", "node", "one", f"{LABEL}=true")
    server.apply(pod("web", "one", 2, "performance", group=case.group))
    server.status("pod", "web", nodes.running("web"), "default")
    operator, agents = OperatorProcess(server, folder), DaemonSets(server, [node])
    operator.start()
    agents.start()

    def close() -> None:
        agents.stop()
        operator.end()
        node.close()

    return Walk(found, node, before, checked, plain, after, operator, again, close)


# --- the backup ---


def test_the_backup_holds_all_that_users_wrote(walk: Walk) -> None:
    """Objects of every kind, also of those that are not here: theirs is the only copy."""
    wanted = {key for key in walk.before if key[0] in WRITTEN}
    assert wanted - walk.backup() == set()


def test_the_check_of_the_backup_names_what_is_not_taken_over(walk: Walk) -> None:
    """Each object of a kind that is not here, and each profile that only a PowerConfig names."""
    said = walk.checked.stdout + walk.checked.stderr
    assert walk.checked.returncode in (0, 1), f"it cannot be read: {said}"
    not_here = {f"{kind}/{name}" for kind, name in walk.before if kind in NOT_HERE}
    assert {name for name in not_here if name not in said} == set()
    if walk.case is INTEL:
        assert "'balance-power' is not made by this system" in said


# --- the definitions ---


def test_definitions_go_over_created_ones(walk: Walk) -> None:
    """Plain kubectl apply takes them as well; after the guide's command none needs force."""
    assert walk.plain.returncode == 0, walk.plain.stderr
    assert walk.again.returncode == 0, walk.again.stderr


def test_definitions_go_over_applied_ones(tmp_path: Path) -> None:
    """Those of `make install` of the earlier repositories: `make install` here is enough."""
    with cluster(OPENSHIFT, tmp_path) as found:
        found.define("apply")
        found.must(f"kubectl apply --server-side -k {OPENSHIFT.definitions}")


def test_the_definitions_are_the_new_ones_and_nothing_else(walk: Walk) -> None:
    """No field, rule or name of the old ones is left in them."""
    left: list[str] = []
    for file in sorted((REPO / walk.case.definitions).glob("power.*.yaml")):
        wanted = yaml.safe_load(file.read_text())
        shown = walk.cluster.server.get("crd", wanted["metadata"]["name"])
        was, now = (item["spec"]["versions"][0]["schema"] for item in (shown, wanted))
        left += lost(was, now, file.stem)
        conditions = {item["type"]: item["status"] for item in shown["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert conditions.get("NonStructuralSchema", "False") == "False"
    assert left == []


# --- what is stored ---


def test_no_stored_field_of_what_users_wrote_is_lost(walk: Walk) -> None:
    """Between the old definitions and the new ones the server returns every field that it had."""
    kinds = [kind for kind in walk.case.kinds if kind in WRITTEN]
    assert [line for kind in kinds for line in losses(walk.before, walk.after, kind, "spec")] == []


def test_no_stored_field_of_what_their_operator_wrote_is_lost(walk: Walk) -> None:
    """Statuses, and the objects that it made: somebody may read them, and a backup has them."""
    found = []
    for kind in walk.case.kinds:
        parts = ("status",) if kind in WRITTEN else ("spec", "status")
        found += losses(walk.before, walk.after, kind, *parts)
    assert found == [], "\n".join(found)


def test_nothing_that_users_wrote_is_changed_later(walk: Walk) -> None:
    """Operator and agent run, and every spec is as it was."""
    walk.until("the shared pool is tuned", walk.shared)
    now = walk.cluster.stored()
    kinds = [kind for kind in walk.case.kinds if kind in WRITTEN]
    found = [line for kind in kinds for line in losses(walk.before, now, kind, "spec")]
    assert [line for line in found if not line.startswith(f"{MADE}: ")] == []


def test_kinds_that_are_not_here_are_left_alone(walk: Walk) -> None:
    """Definition and objects, byte for byte."""
    now = walk.cluster.stored()
    kept = [key for key in walk.before if key[0] in NOT_HERE]
    assert {key: now.get(key) for key in kept} == {key: walk.before[key] for key in kept}


def test_workloads_that_the_old_operator_made_are_left_alone(walk: Walk) -> None:
    """They have no label of this system, whatever their names are: only a person deletes them."""
    walk.until("the shared pool is tuned", walk.shared)
    found, was = walk.cluster.one("PowerWorkload", MADE), walk.before["PowerWorkload", MADE]
    assert found["metadata"]["uid"] == was["metadata"]["uid"]


# --- what is in force ---


def test_the_shared_pool_has_the_limits_that_were_asked(walk: Walk) -> None:
    """Flat or below pstates, kilohertz by kilohertz."""
    walk.until("the shared pool is tuned", walk.shared)


def test_the_pods_cpus_have_the_limits_that_were_asked(walk: Walk) -> None:
    """The pod that ran before runs on, under its profile."""
    walk.until("the pod's CPUs are tuned", lambda: walk.node.cpufreqs("4-5") == {FAST})


def test_reserved_cpus_are_as_asked(walk: Walk) -> None:
    """At what was there before, or under the profile that is named for them."""
    walk.until("the shared pool is tuned", walk.shared)
    files = [f"cpufreq/policy0/scaling_{name}_freq" for name in ("min", "max")]
    low, high = (int(walk.node.before[file]) for file in files)
    wanted = FAST if walk.case is OPENSHIFT else (low, high, "powersave", "balance_performance")
    walk.until("the reserved CPUs are as asked", lambda: walk.node.cpufreqs("0-1") == {wanted})


def test_uncore_limits_are_as_asked(walk: Walk) -> None:
    """By the node's name; without a selector, which meant all nodes, they hold or say why not."""
    ends, kind = ("min_freq_khz", "max_freq_khz"), "Uncore"
    name = next(name for what, name in walk.before if what == kind)

    def shown() -> set[tuple[str, ...]]:
        files = {path: text for path, text in walk.node.shown().items() if path.endswith(ends)}
        places = {path.rpartition("/")[0] for path in files}
        return {tuple(files[f"{place}/{end}"] for end in ends) for place in places}

    def said() -> list[str]:
        return [] if walk.case is INTEL else walk.errors(kind, name) or []

    what = "uncore limits hold, or it is said that they do not"
    walk.until(what, lambda: shown() == {UNCORE} or said())


def test_the_node_offers_the_profiles(walk: Walk) -> None:
    """As the extended resource that pods of the old manifests ask for."""

    def offered() -> dict[str, str]:
        return dict(walk.cluster.server.get("node", "one")["status"].get("allocatable") or {})

    walk.until("the profile is offered", lambda: f"{walk.case.group}/performance" in offered())


# --- what is reported ---


def test_the_nodes_state_is_filled(walk: Walk) -> None:
    """Also where an object of its name was left behind: Ready, pool sizes, the pod's container."""

    def status() -> Document:
        return dict(walk.cluster.one("PowerNodeState", "one-power-state").get("status") or {})

    def ready() -> bool:
        said = {item["type"]: item["status"] for item in status().get("conditions", ())}
        return said.get("Ready") == "True"

    walk.until("the node is Ready", ready)
    walk.until("the shared pool is counted", lambda: status().get("sizes", {}).get("shared") == 4)
    assert walk.cluster.one("PowerNodeState", "one-power-state")["spec"] == {"nodeName": "one"}


def test_nothing_of_the_nodes_state_is_what_the_old_agents_said(walk: Walk) -> None:
    """A field of theirs that is kept is written anew: none belongs to a component that is gone."""
    walk.until("the shared pool is tuned", walk.shared)

    def owners() -> set[str]:
        where = ("pns", "one-power-state", "-n", walk.case.namespace, "--show-managed-fields")
        found = walk.cluster.server.get(*where)
        return {item["manager"] for item in found["metadata"].get("managedFields", ())}

    walk.until("no field belongs to the old", lambda: not owners() & set(earlier.WRITERS.values()))


def test_the_nodes_lines_are_filled(walk: Walk) -> None:
    """PowerNode, which both earlier operators leave behind."""

    def lines() -> Document:
        return dict(walk.cluster.one("PowerNode", "one").get("status") or {})

    pool = "shared || 1500000 || 1000000 || 2-3,6-7"
    walk.until("the shared pool is told", lambda: lines().get("sharedPool") == pool)
    assert walk.cluster.one("PowerNode", "one")["spec"]["nodeName"] == "one"


def test_every_object_says_what_is_wrong_with_it(walk: Walk) -> None:
    """The operator has looked at each; those in force have no errors."""
    for kind, name in walk.before:
        if kind in WRITTEN - NOT_HERE and name not in ("dpdk", "everywhere"):
            check = lambda kind=kind, name=name: walk.errors(kind, name) == []  # noqa: E731
            walk.until(f"{kind}/{name} has no errors", check)


def test_the_powerconfig_names_its_nodes(walk: Walk) -> None:
    """It is taken over: the finalizer, the nodes."""

    def config() -> Document:
        return walk.cluster.one("PowerConfig", "power-config")

    walk.until("the nodes are named", lambda: config()["status"].get("nodes") == ["one"])
    held = "power.kpm.dev/restore"
    walk.until("it is held", lambda: held in config()["metadata"].get("finalizers", ()))


# --- the backup comes back ---


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_backup_brings_back_what_was_deleted(case: Case, tmp_path: Path) -> None:
    """`make undeploy` of the old repository took the definitions, and every object with them.

    Of kinds that are not here kubectl says that the server has none such, and goes on.
    """
    with cluster(case, tmp_path) as found:
        found.define("apply")
        found.fill()
        before = found.stored()
        found.must(backup_command(case))
        text = yaml.safe_dump_all(earlier.definitions(case.group))
        found.server.kubectl("delete", "-f", "-", given=text)
        found.must(install_command(case))
        found.must("kubectl wait --for=condition=Established crd --all --timeout=30s")
        done = found.types("kubectl apply -f before.yaml")
        refused = re.findall(r"\(post (\w+)\.", done.stderr)
        assert set(refused) == {case.kinds[kind] for kind in NOT_HERE & case.kinds.keys()}, (
            done.stderr
        )
        assert len(done.stderr.splitlines()) == len(refused), done.stderr
        backup = yaml.safe_load((found.folder / "before.yaml").read_text())["items"]
        keys = {
            (item["kind"], item["metadata"]["name"])
            for item in backup
            if item["kind"] not in NOT_HERE
        }
        now = {key: item for key, item in found.stored(NOT_HERE).items() if key in keys}
        kept = {key: item for key, item in before.items() if key in keys}
        kinds = case.kinds.keys() - NOT_HERE
        assert [line for kind in sorted(kinds) for line in losses(kept, now, kind, "spec")] == []


def test_a_backup_of_amds_operator_is_read_and_moves_to_another_group(tmp_path: Path) -> None:
    """`kpm` reads it as it is; under the other group's name the server takes every field."""
    with cluster(AMD, tmp_path) as found:
        found.define("create")
        found.fill()
        before = found.stored()
        found.must("kubectl get powerprofiles -A -o yaml > before.yaml")
        said = found.must(check_command())
        assert "PowerProfile/shared" in said
        found.must("kubectl delete crd powerprofiles.power.amdepyc.com")
        found.must(install_command(AMD))
        found.must("kubectl wait --for=condition=Established crd --all --timeout=30s")
        found.must("sed -i s/power.amdepyc.com/power.openshift.io/ before.yaml")
        found.must("kubectl apply -f before.yaml")
        after = Cluster(found.server, OPENSHIFT, found.folder).stored()
        assert losses(before, after, "PowerProfile", "spec") == []
