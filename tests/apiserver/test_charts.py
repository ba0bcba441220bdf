"""The charts on a real API server: they make what kustomize makes, in any namespace; and the life
of a release from install to the end, after which machine and server are as they were.

Helm's hooks are run as a kubelet would: Kubernetes' own controllers make the pods.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kpm.request.machines import MachineSpec
from tests.apiserver.envtest import controllers, go_tool
from tests.apiserver.nodes import LABEL, NAMESPACE, SimNode
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.world import IMAGES, World, helm_install, on_server
from tests.charts import helm
from tests.charts.helm import CHARTS, CRDS, MAIN, REPO, Object, is_hook, key, options, rendered

pytestmark = pytest.mark.apiserver
SMALL = MachineSpec(cores=4, epp="balance_performance")
_HOOKS = ("leave", "status")
#: The newer one, beside that of the development environment.
HELM_4 = ("helm.sh/helm/v4", "cmd/helm", "v4.3.2")


@pytest.fixture(params=["Helm 3", "Helm 4"])
def either_helm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called is one of the two that people have."""
    if request.param == "Helm 4":
        monkeypatch.setattr(helm, "HELM", go_tool(*HELM_4))


# --- the same objects as kustomize ---

#: What a chart is told for what an overlay makes.
OVERLAYS: dict[str, tuple[tuple[str, ...], Object, str]] = {
    "default": (("overlays/default",), {}, "power-manager"),
    "privileged": (("overlays/privileged",), {"agents.privileged": True}, "power-manager"),
    "hsmp": (("overlays/hsmp",), {"agents.hsmp": True}, "power-manager"),
    "openshift": (("overlays/openshift",), {"openshift": True}, "power-manager"),
    "intel": (("overlays/intel",), {"group": "power.intel.com"}, "intel-power"),
    "readers": (("overlays/default", "metrics-token"), {"metrics.tokens": True}, "power-manager"),
    "monitoring": (
        ("overlays/default", "monitoring"),
        {"monitoring.enabled": True},
        "power-manager",
    ),
}
#: Labels that Helm's objects have beside ours.
_HELMS = {
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
_PART_OF = "app.kubernetes.io/part-of"


def plain(items: list[Object]) -> dict[tuple[str, str, str], Object]:
    """Objects by their keys, without the labels that say who made them."""
    found = {}
    for item in items:
        if item["kind"].startswith("ValidatingAdmissionPolicy"):  # kustomize knows no better
            item["metadata"].pop("namespace", None)
        labels = item["metadata"].pop("labels", None) or {}
        rest = {name: text for name, text in labels.items() if name not in {*_HELMS, _PART_OF}}
        found[key(item)] = {**item, "metadata": {**item["metadata"], "labels": rest}}
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_chart_and_kustomize_make_the_same(server: ApiServer, name: str) -> None:
    """Field by field; the namespace itself is Helm's business."""
    folders, values, namespace = OVERLAYS[name]
    texts = [
        server.kubectl("kustomize", str(REPO / "deploy" / folder)).stdout for folder in folders
    ]
    wanted = [item for text in texts for item in yaml.safe_load_all(text)]
    assert all(_PART_OF in item["metadata"]["labels"] for item in wanted[:5])
    made = rendered({**IMAGES, **values, "powerConfig.create": False}, namespace)
    assert all(_PART_OF in item["metadata"]["labels"] for item in made)
    chart = plain([item for item in made if not is_hook(item)])
    kustomize = plain([item for item in wanted if item["kind"] != "Namespace"])
    assert chart.keys() == kustomize.keys()
    assert {name: (chart[name], kustomize[name]) for name in chart
            if chart[name] != kustomize[name]} == {}  # fmt: skip


def test_both_helms_make_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last field, hooks among them."""
    values = {"sharedProfile.create": True, "monitoring.enabled": True, "openshift": True}
    of_3 = [rendered(values), rendered(chart=CRDS)]
    monkeypatch.setattr(helm, "HELM", go_tool(*HELM_4))
    assert helm.helm("version", "--short").stdout.startswith("v4.")
    assert [rendered(values), rendered(chart=CRDS)] == of_3


# --- a release's life ---


class Hooks:
    """What kubelets do about the pods of Helm's hooks: run the program, as the operator."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server, self.folder, self._stop = server, folder, threading.Event()
        self.said: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            found = self.server.get("pods", "-n", NAMESPACE) or {"items": []}
            for pod in found["items"]:
                words = pod["spec"]["containers"][0].get("args") or [""]
                phase = (pod.get("status") or {}).get("phase")
                if words[0] in _HOOKS and phase == "Pending":
                    with contextlib.suppress(AssertionError):
                        self._carry_out(pod["metadata"]["name"], words)

    def _carry_out(self, name: str, words: list[str]) -> None:
        token = self.server.token("power-manager-operator", NAMESPACE)
        config = self.server.kubeconfig(f"hook-{name}", token)
        self._report(name, "Running", {"running": {}})
        done = subprocess.run(
            [sys.executable, "-m", "kpm", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=REPO,
            env={**os.environ, "KUBECONFIG": str(config), "KPM_NAMESPACE": NAMESPACE},
        )
        self.said[words[0]] = done.stdout + done.stderr
        phase = "Failed" if done.returncode else "Succeeded"
        self._report(name, phase, {"terminated": {"exitCode": done.returncode}})

    def _report(self, name: str, phase: str, state: Object) -> None:
        status = {"name": "leave", "image": "x", "imageID": "x", "ready": False}
        statuses = [{**status, "restartCount": 0, "state": state}]
        self.server.status("pod", name, {"phase": phase, "containerStatuses": statuses}, NAMESPACE)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server without anything of this system, and the controllers that Helm's hooks need."""
    server = ApiServer(tmp_path_factory.mktemp("bare"))
    try:
        server.start()
        names = "job-controller,garbage-collector-controller,namespace-controller"
        command = [str(controllers()), f"--controllers={names}", "--leader-elect=false"]
        config = ["--secure-port=0", "--kubeconfig", str(server.folder / "admin.kubeconfig")]
        with (server.folder / "controllers.log").open("wb") as log:
            process = subprocess.Popen([*command, *config], stdout=log, stderr=log)
            yield server
            process.terminate()
            process.wait(30)
    finally:
        server.close()


@pytest.fixture
def hooks(bare: ApiServer, tmp_path: Path) -> Iterator[Hooks]:
    found = Hooks(bare, tmp_path)
    yield found
    found.close()


@pytest.fixture
def cluster(bare: ApiServer, tmp_path: Path) -> Iterator[World]:
    found = World(bare, tmp_path)
    yield found
    found.close()


#: Kinds whose objects come and go by themselves.
_PASSING = {"events", "leases", "endpointslices"}


def everything(server: ApiServer) -> set[str]:
    """Every object of every kind, but what Kubernetes makes by itself."""
    kinds = server.kubectl("api-resources", "--verbs=list", "-o", "name").stdout.split()
    asked = ",".join(kind for kind in kinds if kind.partition(".")[0] not in _PASSING)
    listed = server.kubectl("get", asked, "-A", "--ignore-not-found", "-o", "name").stdout
    return set(listed.split())


def tuned(node: SimNode) -> set[tuple[int, int, str, str]]:
    """What the shared CPUs have."""
    return node.cpufreqs("2-3")


def shared(most: str) -> list[str]:
    """Values of a release with a shared profile."""
    pstates = {"min": "0%", "max": most, "governor": "powersave", "epp": "power"}
    values: dict[str, Any] = {"sharedProfile.create": True, "sharedProfile.pstates": pstates}
    return options({**IMAGES, **values})


@pytest.mark.usefixtures("either_helm")
def test_the_life_of_a_release(bare: ApiServer, cluster: World, hooks: Hooks) -> None:
    """Installed, tested, upgraded, rolled back, and gone without a trace on server and machine."""
    before = everything(bare)
    helm_install(bare, CRDS)
    helm_install(bare, MAIN, *options(IMAGES))
    node = cluster.node("one", SMALL)
    cluster.start()
    bare.kubectl("label", "node", "one", f"{LABEL}=true")
    where = ("-n", NAMESPACE)
    on_server(bare, "test", MAIN, *where, "--timeout", "120s")
    assert "1  Ready" in hooks.said["status"]
    assert node.shown() == node.before

    helm_install(bare, MAIN, *shared("30%"))
    slow = {(800000, 1670000, "powersave", "power")}
    wait_for("the shared pool is slow", lambda: tuned(node) == slow)
    helm_install(bare, MAIN, *shared("50%"))
    wait_for("the upgrade is in force", lambda: tuned(node) not in (slow, baseline(node)))
    on_server(bare, "rollback", MAIN, "2", *where)
    wait_for("the rollback is in force", lambda: tuned(node) == slow)

    on_server(bare, "uninstall", MAIN, *where, "--wait", "--timeout", "120s")
    assert "released" in hooks.said["leave"]
    assert node.shown() == node.before
    assert not bare.get("powerconfigs", "-A")["items"]

    cluster.operator.end()
    definitions = {name for name in everything(bare) if name.startswith("customresource")}
    on_server(bare, "uninstall", CRDS, *where)
    assert {name for name in everything(bare) if name.startswith("customresource")} == definitions
    helm_install(bare, CRDS, "--set", "keep=false")
    on_server(bare, "uninstall", CRDS, *where)
    bare.kubectl("delete", "node", "one")
    bare.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
    wait_for("nothing is left", lambda: everything(bare) - before == set(), 30)


def baseline(node: SimNode) -> set[tuple[int, int, str, str]]:
    """What the CPUs had before anybody came."""
    low, high = (int(node.before[f"cpufreq/policy2/scaling_{end}_freq"]) for end in ("min", "max"))
    return {(low, high, "powersave", "balance_performance")}


@pytest.mark.usefixtures("either_helm")
def test_a_release_stays_where_a_node_does_not_answer(
    bare: ApiServer, cluster: World, hooks: Hooks
) -> None:
    """Uninstalling fails in time, says which node is waited for, and takes nothing away."""
    helm_install(bare, CRDS)
    helm_install(bare, MAIN, *shared("30%"), "--set", "uninstall.timeoutSeconds=30")
    node = cluster.node("one", SMALL)
    cluster.start()
    bare.kubectl("label", "node", "one", f"{LABEL}=true")
    wait_for("the shared pool is tuned", lambda: tuned(node) != baseline(node))
    state = ("powernodestate", "one-power-state", "-n", NAMESPACE)
    wait_for("it is reported", lambda: "shared" in (bare.get(*state).get("status") or {}).get(
        "sizes", {}))  # fmt: skip
    assert cluster.daemon_sets is not None
    cluster.daemon_sets.pause()
    node.end_agent(9)
    where = ("-n", NAMESPACE)
    done = on_server(bare, "uninstall", MAIN, *where, "--timeout", "90s", check=False)
    assert done.returncode != 0
    wait_for("the hook has spoken", lambda: "not in time" in hooks.said.get("leave", ""), 60)
    assert "one" in hooks.said["leave"]
    assert bare.get("deployment", "controller-manager", *where)
    assert tuned(node) != baseline(node)
    cluster.daemon_sets.resume()
    wait_for("the node is released", lambda: node.shown() == node.before, 60)
    on_server(bare, "uninstall", MAIN, *where, "--timeout", "120s")


@pytest.mark.usefixtures("either_helm")
def test_definitions_that_kubectl_installed_are_adopted(bare: ApiServer) -> None:
    """With --take-ownership, as `make helm-install` has it; without, Helm says why not."""
    bare.kubectl("apply", "--server-side", "-k", str(REPO / "crds"))
    bare.kubectl("create", "namespace", NAMESPACE, check=False)
    chart = str(CHARTS / CRDS)
    refused = on_server(bare, "install", "adopted", chart, "-n", NAMESPACE, check=False)
    assert "--take-ownership" in refused.stderr or "invalid ownership" in refused.stderr
    on_server(bare, "install", "adopted", chart, "-n", NAMESPACE, "--take-ownership")
    on_server(bare, "uninstall", "adopted", "-n", NAMESPACE)
    bare.kubectl("delete", "-k", str(REPO / "crds"))


@pytest.mark.usefixtures("either_helm")
def test_a_namespace_that_refuses_agents_is_refused(bare: ApiServer) -> None:
    """With the command that allows them."""
    bare.kubectl("create", "namespace", "strict")
    bare.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=baseline")
    done = on_server(bare, "install", "kpm", str(CHARTS / MAIN), "-n", "strict", check=False)
    assert "kubectl label --overwrite namespace strict" in done.stderr
    bare.kubectl("delete", "namespace", "strict")


# --- by a tool that cluster owners use ---

_SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
_FOREIGN = "PodMonitor,ServiceMonitor,PrometheusRule,SecurityContextConstraints"
_OURS = "PowerConfig,PowerProfile,PowerWorkload"


def standalone(version: str, kinds: set[str], folder: Path) -> Path:
    """The schemas of some kinds, each whole in one file, as kubeconform reads them."""
    source = _SCHEMAS / f"v{version}-local-strict"
    shared = json.loads((source / "_definitions.json").read_text())["$defs"]
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.name.partition("-")[0] in kinds:
            schema = {**json.loads(path.read_text()), "$defs": shared}
            text = json.dumps(schema).replace("/api/_definitions.json#/", "#/")
            (folder / path.name).write_text(text)
    return folder


@pytest.mark.parametrize("version", ["1.30.0", "1.37.0"])
def test_kubeconform_finds_nothing(server: ApiServer, version: str, tmp_path: Path) -> None:
    """Every manifest of chart and overlays, strictly, by the oldest and the newest Kubernetes."""
    values = {"monitoring.enabled": True, "openshift": True, "metrics.tokens": True}
    items = rendered(values)
    for overlay in ("default", "openshift", "hsmp", "privileged", "intel"):
        text = server.kubectl("kustomize", str(REPO / f"deploy/overlays/{overlay}")).stdout
        items += yaml.safe_load_all(text)
    folder = standalone(version, {item["kind"].lower() for item in items}, tmp_path / "schemas")
    location = f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    conform = str(go_tool("github.com/yannh/kubeconform", "cmd/kubeconform", "v0.8.0"))
    skipped = f"{_FOREIGN},{_OURS}"
    options = ["-strict", "-summary", "-schema-location", location, "-skip", skipped]
    done = subprocess.run(
        [conform, *options],
        input=yaml.safe_dump_all(items),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Invalid: 0, Errors: 0" in done.stdout
