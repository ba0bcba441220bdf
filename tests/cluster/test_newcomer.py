"""From an empty cluster to a tuned pod and to joules in a graph, by the six commands of
docs/user/installing.md; then all of it is taken away again by Helm.

Image and pod's image are those of this cluster, which has no registry; Prometheus is Debian's.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.charts.helm import HELM
from tests.cluster import images, story
from tests.cluster.cluster import NAMESPACE, NODE, Cluster
from tests.cluster.steps import REPO, wait_for
from tests.cluster.story import BASELINE, FAST, OWNED, RESERVED, SHARED, pod, shows
from tests.monitoring.prometheus_server import prepare

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("no_pods_left")]
GUIDE = REPO / "docs/user/installing.md"
#: What this cluster is, beside what the guide says.
IMAGE = f"image.repository={images.PRODUCT},image.tag=test,image.pullPolicy=Never"
MORE = f"--set {IMAGE} --set-json sharedProfile.reservedCPUs=[{RESERVED}] --take-ownership"
PORT = 9390


def commands() -> list[str]:
    """The guide's commands for newcomers."""
    text = GUIDE.read_text()
    block = re.search(r"## From an empty cluster.*?```text\n(.*?)```", text, re.DOTALL)
    assert block
    return block[1].strip().splitlines()


def types(cluster: Cluster, line: str) -> str:
    """A person types a command, in the repository."""
    words = shlex.split(line.replace("NODE", NODE))
    if words[0] == "kubectl":
        return cluster.kubectl(*words[1:], seconds=180)
    config = f"{cluster.folder}/pki/admin.conf"
    command = [*cluster.network.words(), str(HELM), *words[1:], "--kubeconfig", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPO)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def prometheus_kinds(cluster: Cluster) -> Iterator[None]:
    """The kinds of the Prometheus operator, as far as the API server must know them."""
    found: list[dict[str, Any]] = []
    for kind in ("PodMonitor", "ServiceMonitor", "PrometheusRule"):
        plural = f"{kind.lower()}s"
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True}
        spec = {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        }
        meta = {"name": f"{plural}.monitoring.coreos.com"}
        version_of = "apiextensions.k8s.io/v1"
        kind_of = "CustomResourceDefinition"
        found.append({"apiVersion": version_of, "kind": kind_of, "metadata": meta, "spec": spec})
    cluster.apply(*found)
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    yield
    for item in found:
        cluster.kubectl("delete", "crd", item["metadata"]["name"], check=False)


class Prometheus:
    """A Prometheus that scrapes the agent as the PodMonitor says."""

    def __init__(self, cluster: Cluster, folder: Path, address: str) -> None:
        self.cluster = cluster
        target = {"targets": [f"{address}:10258"], "labels": {"node": NODE}}
        scrape = {
            "job_name": "power-node-agent",
            "honor_labels": True,
            "scrape_interval": "1s",
            "static_configs": [target],
        }
        config = folder / "prometheus.yaml"
        config.write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
        command = [*cluster.network.words(), prepare(), f"--config.file={config}"]
        command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{PORT}"]
        with (folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def query(self, text: str) -> list[dict[str, Any]]:
        """The series of a query, none while there is no answer."""
        url = f"http://127.0.0.1:{PORT}/api/v1/query?query={quote(text)}"
        command = [*self.cluster.network.words(), "curl", "-sf", "-m", "5", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return list(json.loads(done.stdout)["data"]["result"]) if done.returncode == 0 else []

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.mark.usefixtures("prometheus_kinds")
def test_six_commands_lead_to_a_tuned_pod_and_its_joules(cluster: Cluster, tmp_path: Path) -> None:
    """And Helm takes all of it away again: machine and cluster are as they were."""
    definitions, system, label, apply, tried, watched = commands()
    before = cluster.tree.content()
    types(cluster, f"{definitions} --take-ownership")
    types(cluster, f"{system} {MORE}")
    types(cluster, label)
    wait_for("the operator is ready", lambda: story.operator_ready(cluster), 90)
    file = tmp_path / "pod.json"
    file.write_text(json.dumps(pod("example-pod")))
    story.agent_ready(cluster)
    types(cluster, apply.replace("examples/example-pod.yaml", str(file)))
    wait_for("the pod runs", lambda: story.running(cluster, "example-pod"), 120)
    shows(cluster.tree, FAST, OWNED)
    assert "Succeeded" in types(cluster, f"{tried} --timeout 3m")
    types(cluster, f"{watched} --take-ownership")

    agent = cluster.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=power-node-agent")
    address = agent["items"][0]["status"]["podIP"]
    prometheus = Prometheus(cluster, tmp_path, address)
    try:
        graph = 'sum by (pod) (rate(kpm_pod_joules_total{pod="example-pod"}[20s]))'
        wait_for("the pod has watts", lambda: prometheus.query(graph), 90, 1.0)
    finally:
        prometheus.close()

    story.end(cluster, "example-pod")
    shows(cluster.tree, SHARED, OWNED)
    types(cluster, f"helm uninstall kpm -n {NAMESPACE} --wait --timeout 4m")
    assert cluster.tree.limits(OWNED) == BASELINE
    assert cluster.tree.content() == before
    types(cluster, "helm upgrade kpm-crds deploy/charts/kubernetes-power-manager-crds"
          f" -n {NAMESPACE} --set keep=false")  # fmt: skip
    types(cluster, f"helm uninstall kpm-crds -n {NAMESPACE} --wait")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", seconds=150)
    cluster.kubectl("label", "node", NODE, "feature.node.kubernetes.io/power-node-")
    left = "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy"
    assert "power" not in cluster.kubectl("get", left, "-o", "name").replace("powercap", "")
