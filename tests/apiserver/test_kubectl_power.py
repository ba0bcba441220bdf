"""kubectl power on a real API server, by kubectl itself: what each verb says of nodes whose agents
are real processes, and that what it foretells is what then happens.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpm.request.machines import MODELS
from tests.apiserver.nodes import LABEL, NAMESPACE, SimNode, pod, running
from tests.apiserver.server import ADMIN_TOKEN, ApiServer, wait_for
from tests.apiserver.test_story import condition, example, state, until
from tests.apiserver.world import World
from tests.pages.browser import looked_at

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
SLOWER = """
apiVersion: power.openshift.io/v1
kind: PowerProfile
metadata: {{name: {name}, namespace: {namespace}}}
spec: {spec}
"""


class Plugin:
    """kubectl with this checkout's plugin on the path."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        names = {
            "kubectl-power": "kubectl_power",
            "kubectl_complete-power": "kubectl_complete_power",
        }
        for name, entry in names.items():
            program = f"#!{sys.executable}\nfrom kpm.__main__ import {entry}\n{entry}()\n"
            (folder / name).write_text(program)
            (folder / name).chmod(0o755)

    def __call__(self, *words: str, token: str = ADMIN_TOKEN) -> subprocess.CompletedProcess[str]:
        """Run `kubectl power WORDS`."""
        config = self.server.kubeconfig(f"plugin-{abs(hash(token))}", token)
        path = f"{self.folder}:{os.environ['PATH']}"
        return subprocess.run(
            [str(self.server.bin / "kubectl"), "power", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={
                **os.environ,
                "PATH": path,
                "PYTHONPATH": str(REPO),
                "KUBECONFIG": str(config),
                "KPM_NAMESPACE": NAMESPACE,
            },
        )


@pytest.fixture
def kubectl(server: ApiServer, tmp_path: Path) -> Plugin:
    folder = tmp_path / "path"
    folder.mkdir()
    return Plugin(server, folder)


@pytest.fixture
def nodes(server: ApiServer, world: World) -> dict[str, SimNode]:
    """Two tuned nodes of different make, a pod with CPUs of its own on the first."""
    found = {
        name: world.node(name, MODELS[name.removeprefix("p-")]) for name in ("p-xeon", "p-arm")
    }
    world.start()
    for name in found:
        server.kubectl("label", "node", name, f"{LABEL}=true")
    for name in ("powerconfig", "shared-profile", "shared-workload", "powerprofile"):
        example(server, name)
    server.apply(pod("web", "p-xeon", 2, "performance"))
    found["p-xeon"].kubelet.cpus["default", "web", "app"] = {4, 5}
    server.status("pod", "web", running("web"), "default")
    for name in found:
        until(f"{name} is ready", server, lambda n=name: condition(server, n, "Ready")[0] == "True")
        until(f"{name} publishes", server, lambda n=name: state(server, n).get("machine"))
    until(
        "the pod is listed",
        server,
        lambda: (
            [item["pod"] for item in state(server, "p-xeon").get("exclusivePools", [])] == ["web"]
        ),
    )
    until(
        "the shared pool is slow",
        server,
        lambda: (
            all(low < high for low, high, _, _ in found["p-arm"].cpufreqs("2-15"))
            and {item[1] for item in found["p-xeon"].cpufreqs("6-31")} == {1670000}
        ),
    )
    return found


def files_changed(node: SimNode, before: dict[str, str]) -> int:
    """How many files show something else than before."""
    now = node.shown()
    return sum(now[path] != before[path] for path in before)


def test_status_says_how_the_cluster_and_its_nodes_are(
    server: ApiServer, nodes: dict[str, SimNode], kubectl: Plugin
) -> None:
    def whole() -> bool:
        return kubectl("status").returncode == 0

    wait_for("all is well", whole, 40)
    found = json.loads(kubectl("status", "-o", "json").stdout)
    assert sorted(name for group in found["nodes"] for name in group["nodes"]) == sorted(nodes)
    assert kubectl("status", "-A").stdout.startswith(f"namespace    {NAMESPACE}")
    one = kubectl("status", "p-xeon").stdout
    assert "default/web/app" in one
    assert "Ready (Settled)" in one
    assert max(map(len, one.splitlines())) <= 80
    missing = kubectl("status", "nobody")
    assert (missing.returncode, missing.stdout) == (2, "")
    # drift of a real file is told
    nodes["p-xeon"].write("cpufreq/policy7/scaling_max_freq", "2000000")
    until(
        "the drift is told",
        server,
        lambda: (
            "drift" in kubectl("status", "p-xeon").stdout
            or condition(server, "p-xeon", "Drifted")[0] == "True"
        ),
    )


def test_a_plan_foretells_what_the_agents_then_write(
    server: ApiServer, nodes: dict[str, SimNode], kubectl: Plugin, tmp_path: Path
) -> None:
    """File by file: as many writes on each node, the same pods faster, and nothing before."""
    policy, page = tmp_path / "slower.yaml", tmp_path / "page.html"
    policy.write_text(
        SLOWER.format(
            name="shared",
            namespace=NAMESPACE,
            spec="{shared: true, pstates: {max: 10%, epp: power}}",
        )
    )
    before = {name: node.shown() for name, node in nodes.items()}
    ran = kubectl("plan", "-f", str(policy), "--html", str(page), "-o", "json")
    assert ran.returncode == 1, ran.stderr
    assert page.read_text().startswith("<!doctype html>")
    foretold = {
        name: block["writes"]
        for block in json.loads(ran.stdout)["changes"]
        for name in block["nodes"]
    }
    assert {name: node.shown() for name, node in nodes.items()} == before
    assert kubectl("plan", "-f", str(policy), "--node", "p-arm").stdout.endswith("0 new errors\n")

    server.kubectl("apply", "-f", str(policy))
    for name, node in nodes.items():
        until(
            f"{name} has written what was foretold",
            server,
            lambda name=name, node=node: files_changed(node, before[name]) == foretold[name],
        )
    time.sleep(3)
    assert {name: files_changed(node, before[name]) for name, node in nodes.items()} == foretold
    assert kubectl("plan", "-f", str(policy)).returncode == 0

    # the pod's own profile: who becomes slower is named before it is so
    policy.write_text(
        SLOWER.format(name="performance", namespace=NAMESPACE, spec="{pstates: {max: 50%}}")
    )
    told = kubectl("plan", "-f", str(policy))
    assert "▼ default/web/app (CPUs 4-5 of p-xeon)" in told.stdout
    assert "1 slower" in told.stdout


def test_explain_doctor_top_and_completion(
    server: ApiServer, nodes: dict[str, SimNode], kubectl: Plugin
) -> None:
    assert "default/web" in kubectl("explain", "p-xeon", "cpu", "4").stdout
    assert "PowerProfile/shared" in kubectl(
        "explain", "p-arm", "cpu", "3", "-o", "json"
    ).stdout or ("shared" in kubectl("explain", "p-arm", "cpu", "3").stdout)
    # agents run beside the API server here, so no proxy reaches them: the columns stay empty
    top = kubectl("top", "p-xeon", "--once", "--interval", "1s")
    assert top.returncode == 0
    assert sum(line.startswith("note: nothing live") for line in top.stdout.splitlines()) == 1
    found = json.loads(kubectl("doctor", "-o", "json").stdout)["findings"]
    assert {item["code"] for item in found} <= {"node-refused"}, found
    said = subprocess.run(
        [str(server.bin / "kubectl"), "__complete", "power", "pl"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{kubectl.folder}:{os.environ['PATH']}",
             "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert "plan" in said.stdout.split()


def test_who_may_little_sees_little_and_is_told(
    server: ApiServer, nodes: dict[str, SimNode], kubectl: Plugin
) -> None:
    """A reader of node states alone."""
    server.kubectl("create", "serviceaccount", "reader", "-n", "default")
    server.kubectl(
        "create", "clusterrole", "states", "--verb=get,list",
        "--resource=powernodestates.power.openshift.io",
    )  # fmt: skip
    server.kubectl(
        "create", "clusterrolebinding", "states", "--clusterrole=states",
        "--serviceaccount=default:reader",
    )  # fmt: skip
    token = server.token("reader", "default")
    one = kubectl("status", "p-xeon", token=token)
    assert "default/web/app" in one.stdout
    assert one.stdout.count("note: since when pods run is not known: 403") == 1
    whole = kubectl("status", token=token)
    assert (whole.returncode, len(whole.stderr.splitlines())) == (2, 1)
    found = json.loads(kubectl("doctor", "-o", "json", token=token).stdout)["findings"]
    assert "no-right" in {item["code"] for item in found}


def test_the_page_shows_the_cluster_and_changes_nothing(
    server: ApiServer, nodes: dict[str, SimNode], kubectl: Plugin
) -> None:
    """With names that a browser would run, were they not escaped."""
    hostile = "<img src=x onerror=alert(1)>"
    item = server.get("powernodestate", "p-xeon-power-state", "-n", NAMESPACE)
    odd: dict[str, Any] = {"severity": "error", "code": hostile, "object": hostile}
    body = {"status": {"problems": [odd]}}
    server.kubectl(
        "patch", "powernodestate", "p-arm-power-state", "-n", NAMESPACE, "--subresource=status",
        "--type=merge", "-p", json.dumps(body),
    )  # fmt: skip
    config = server.kubeconfig("ui", ADMIN_TOKEN)
    program = "from kpm.__main__ import kubectl_power; kubectl_power()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "ui", "--kubeconfig", str(config), "-n", NAMESPACE],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    ) as child:
        try:
            assert child.stdout is not None
            url = child.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            text = urllib.request.urlopen(url, timeout=20).read().decode()
            assert "p-xeon" in text
            assert "All is well" not in text, "an object has errors"
            assert hostile not in text
            node = urllib.request.urlopen(f"{url}node/p-xeon", timeout=20).read()
            assert b"default/web/app" in node
            looks = looked_at([url, f"{url}node/p-xeon", f"{url}plan"], REPO / "dist/pages/real")
            assert len(looks) == 6
            for look in looks:
                assert not look["violations"], look
                assert not look["said"], look
                assert look["over"] <= 0, look
                assert all(place.startswith(url) for place in look["outside"]), look
        finally:
            child.terminate()
            child.wait(10)
    after = server.get("powernodestate", "p-xeon-power-state", "-n", NAMESPACE)
    assert after["spec"] == item["spec"]


def test_the_one_file_of_krew_reaches_the_server_through_kubectl(
    server: ApiServer, nodes: dict[str, SimNode], tmp_path: Path
) -> None:
    """Without the kubernetes package: kubectl itself says who asks, by a socket that is nobody
    else's; and nothing of it is left.
    """
    command = [sys.executable, str(REPO / "deploy/krew/make.py"), str(tmp_path / "krew")]
    subprocess.run(command, check=True, cwd=REPO, env={**os.environ, "PYTHONPATH": str(REPO)})
    manifest = yaml.safe_load((tmp_path / "krew/power.yaml").read_text())
    archive = (tmp_path / "krew/kubectl-power.tar.gz").read_bytes()
    assert {item["sha256"] for item in manifest["spec"]["platforms"]} == {
        hashlib.sha256(archive).hexdigest()
    }
    config = server.kubeconfig("krew", ADMIN_TOKEN)
    (tmp_path / "krew/kubectl_complete-power").symlink_to("kubectl-power")
    (tmp_path / "tmp").mkdir()
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"} | {
        "PATH": f"{tmp_path / 'krew'}:{server.bin}:/usr/local/bin:/usr/bin:/bin",
        "KUBECONFIG": str(config),
        "KPM_NAMESPACE": NAMESPACE,
        "TMPDIR": str(tmp_path / "tmp"),
    }
    if subprocess.run(["python3", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
                      env=environment, check=False).returncode:  # fmt: skip
        pytest.fail("python3 on the path is older than 3.11")
    kubectl = str(server.bin / "kubectl")
    ran = subprocess.run(
        [kubectl, "power", "status", "p-xeon"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert "default/web/app" in ran.stdout, ran.stderr
    assert list((tmp_path / "tmp").glob("kpm-*")) == []
