"""Simulated nodes of a real API server: machines as trees of files, kubelets on real sockets,
agents as real processes.

`DaemonSets` plays the controller that the API server lacks: where the agents' DaemonSet exists and
its node selector matches a node, an agent process runs there with a token bound to a pod of that
node; where it does not, the process gets SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kpm.kube.kinds import PART_OF
from kpm.request.machines import MachineSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.cpuset import parse_cpulist
from tests.apiserver.kubelet import Kubelet
from tests.apiserver.server import ApiServer
from tests.managed import managed_files, power_files, text_of
from tests.trees import write_tree

REPO = Path(__file__).parents[2]
#: Where the system is installed; another one proves that nothing names the usual one.
NAMESPACE = os.environ.get("KPM_TEST_NAMESPACE", "power-manager")
LABEL = "feature.node.kubernetes.io/power-node"
_CPU = "devices/system/cpu"
#: As a container of the agents' pod runs.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
#: Puts a folder where a container finds its service account, in a mount namespace of its own.
_MOUNTED = (
    f'mount -t tmpfs none /run && mkdir -p {_ACCOUNT} && cp "$1"/* {_ACCOUNT}/ && shift'
    ' && exec "$@"'
)


class Process(Protocol):
    """What is asked of a process, wherever it runs; subprocess.Popen is one."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


@dataclass
class SimNode:
    """One node: its tree, its kubelet, its agent's process."""

    server: ApiServer
    name: str
    folder: Path
    spec: MachineSpec = MachineSpec()
    reserved: frozenset[int] = frozenset({0, 1})
    agent: Process | None = None
    options: list[str] = field(default_factory=lambda: ["--resync", "2s"])
    starts: int = 0
    keep_token: bool = False
    url: str | None = None
    helper: Process | None = None

    def create(self) -> None:
        """The kubelet, the machine, the Node object."""
        cpus = self.cpus()
        self.kubelet = Kubelet(self.folder / "kubelet.sock", cpus - self.reserved)
        self.kubelet.start()
        self.start_machine()
        self.make_object(len(cpus))
        self.before = self.shown()

    def cpus(self) -> set[int]:
        """The machine's CPUs."""
        return set(build_machine(self.spec).by_id)

    def start_machine(self) -> None:
        """The machine as a tree of files."""
        write_tree(KernelModel(build_machine(self.spec)), self.folder)

    def make_object(self, cpus: int) -> None:
        """The Node, as its kubelet would make it."""
        self.server.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": self.name,
                    "labels": {"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux"},
                },
            }
        )
        amounts = {"cpu": str(cpus)}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        self.server.status(
            "node", self.name, {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}
        )

    def shown(self) -> dict[str, str]:
        """What every managed file holds."""
        return {**managed_files(self.folder / "sys" / _CPU), **power_files(self.folder / "sys")}

    def cpufreq(self, cpu: int) -> tuple[int, int, str, str]:
        """Minimum, maximum, governor, EPP of a CPU; as its domain has them."""
        folder = next(
            path
            for path in (self.folder / "sys" / _CPU / "cpufreq").glob("policy*")
            if cpu in map(int, (path / "related_cpus").read_text().split())
        )
        epp = folder / "energy_performance_preference"
        low, high, governor = (
            text_of(folder / name)
            for name in ("scaling_min_freq", "scaling_max_freq", "scaling_governor")
        )
        return int(low), int(high), governor, text_of(epp) if epp.exists() else ""

    def cpufreqs(self, cpus: str) -> set[tuple[int, int, str, str]]:
        """What CPUs have, each once."""
        return {self.cpufreq(cpu) for cpu in parse_cpulist(cpus)}

    def write(self, path: str, text: str) -> None:
        """Somebody else writes a file."""
        (self.folder / "sys" / _CPU / path).write_text(f"{text}\n")

    # --- the agent's process ---

    def start_agent(self, user: str | None = None) -> None:
        """Run the agent as its own service account, bound to a pod of this node."""
        self.starts += 1
        if not self.keep_token:
            self.user = user or f"agent-{self.name}"
            self._bind()
        config = self.server.folder / f"{self.user}.kubeconfig"
        self.agent = self.launch(
            ["agent", "--node", self.name, "--port", "0", *self.options], config
        )

    def launch(self, words: list[str], config: Path) -> Process:
        """Run a kpm on the node's machine, beside the helper that writes for it; its output goes to
        the log.
        """
        if words[0] != "agent":
            return run_kpm(
                [*words, "--kubeconfig", str(config), *self._places()], self.folder / "agent.log"
            )
        return run_kpm(
            [*words, "--kubeconfig", str(config), *self._places(), *self._beside()],
            self.folder / "agent.log",
        )

    def start_agent_in_pod(self) -> None:
        """Run the agent as its pod does: address, authority and token where a container finds them,
        no kubeconfig.
        """
        self.starts += 1
        self.user = f"agent-{self.name}"
        self._bind()
        account = self.folder / "account"
        account.mkdir(exist_ok=True)
        (account / "ca.crt").write_bytes(self.server.certificate.read_bytes())
        (account / "token").write_text(
            self.server.token("power-manager-node-agent", NAMESPACE, self.pod)
        )
        words = ["agent", "--node", self.name, "--port", "0"]
        self.agent = run_kpm(
            [*words, *self.options, *self._places(), *self._beside()],
            self.folder / "agent.log",
            before=("unshare", "-m", "sh", "-c", _MOUNTED, "sh", str(account)),
            environment={
                "KUBERNETES_SERVICE_HOST": "127.0.0.1",
                "KUBERNETES_SERVICE_PORT": str(self.server.port),
            },
        )

    def _beside(self) -> list[str]:
        """The helper that writes for the agent, running already as a native sidecar does."""
        socket = str(self.folder / "helper.sock")
        if self.helper is None:
            self.helper = run_kpm(
                ["helper", "--sysfs", str(self.folder / "sys"), "--socket", socket],
                self.folder / "agent.log",
            )
        return ["--helper", socket]

    def _places(self) -> list[str]:
        return [
            "--sysfs",
            str(self.folder / "sys"),
            "--state-dir",
            str(self.folder / "state"),
            "--kubelet-socket",
            str(self.kubelet.socket),
        ]

    def _bind(self) -> None:
        """A pod of this node, and a token bound to it."""
        pod = f"power-node-agent-{self.name}-{self.starts}"
        container = {"name": "agent", "image": "kpm"}
        spec = {
            "nodeName": self.name,
            "serviceAccountName": "power-manager-node-agent",
            "containers": [container],
            "automountServiceAccountToken": False,
        }
        labels = {"app.kubernetes.io/name": "power-node-agent", **dict([PART_OF])}
        self.server.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": pod, "namespace": NAMESPACE, "labels": labels},
                "spec": spec,
            }
        )
        running = {
            "name": "agent",
            "image": "kpm",
            "imageID": "kpm",
            "ready": True,
            "restartCount": 0,
            "state": {"running": {}},
        }
        self.server.status(
            "pod", pod, {"phase": "Running", "containerStatuses": [running]}, NAMESPACE
        )
        self.pod = pod
        self.server.kubeconfig(
            self.user, self.server.token("power-manager-node-agent", NAMESPACE, pod), self.url
        )

    def end_agent(self, number: int = signal.SIGTERM) -> int | None:
        """Send a signal to the agent and wait for its end."""
        if self.agent is None:
            return None
        self.agent.send_signal(number)
        status = self.agent.wait(30)
        self.agent = None
        if not self.keep_token:
            self.server.kubectl(
                "delete",
                "pod",
                self.pod,
                "-n",
                NAMESPACE,
                "--force",
                "--grace-period=0",
                "--wait=false",
                check=False,
            )
        return status

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def close(self) -> None:
        for process in (self.agent, self.helper):
            if process is not None:
                process.kill()
                process.wait()
        self.kubelet.stop()


def run_kpm(
    words: list[str],
    log: Path,
    *,
    before: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> Process:
    """This checkout's kpm as a process, without any capability. before: what starts it, with more
    rights than it has.
    """
    own = {"PYTHONPATH": str(REPO), "KPM_NAMESPACE": NAMESPACE}
    with log.open("ab") as output:
        return subprocess.Popen(
            [*before, *UNPRIVILEGED, sys.executable, "-m", "kpm", *words],
            stdout=output,
            stderr=output,
            env={**os.environ, **own, **(environment or {})},
            cwd=REPO,
        )


class DaemonSets:
    """The DaemonSet controller, for one DaemonSet."""

    def __init__(self, server: ApiServer, nodes: list[SimNode]) -> None:
        self.server, self.nodes = server, nodes
        self._stop, self._paused, self._busy = (
            threading.Event(),
            threading.Event(),
            threading.Lock(),
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def pause(self) -> None:
        """Leave the agents to the test."""
        self._paused.set()
        with self._busy:
            return

    def resume(self) -> None:
        self._paused.clear()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            # the API server may be away; the next look finds it
            with self._busy, contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                if not self._paused.is_set():
                    self._step()

    def _step(self) -> None:
        found = self.server.get("daemonset", "power-node-agent", "-n", NAMESPACE)
        for node in self.nodes:
            wanted = (
                found is not None
                and "deletionTimestamp" not in found["metadata"]
                and self._matches(found, node)
            )
            if wanted and (node.agent is None or node.agent.poll() is not None):
                node.start_agent()
            elif not wanted and node.agent is not None:
                node.end_agent()

    def _matches(self, daemon_set: Any, node: SimNode) -> bool:
        labels = (self.server.get("node", node.name) or {"metadata": {}})["metadata"].get(
            "labels"
        ) or {}
        return all(
            labels.get(key) == value
            for key, value in daemon_set["spec"]["template"]["spec"]["nodeSelector"].items()
        )


@dataclass
class OperatorProcess:
    """The operator as its own service account."""

    server: ApiServer
    folder: Path
    process: Process | None = None

    def start(self) -> None:
        config = self.server.kubeconfig(
            "operator", self.server.token("power-manager-operator", NAMESPACE)
        )
        self.process = run_kpm(
            [
                "operator",
                "--kubeconfig",
                str(config),
                "--port",
                "0",
                "--image",
                "power-node-agent:latest",
            ],
            self.folder / "operator.log",
        )

    def end(self, number: int = signal.SIGTERM) -> int | None:
        if self.process is None:
            return None
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process = None
        return status

    @property
    def log(self) -> str:
        return (self.folder / "operator.log").read_text()


def pod(
    name: str,
    node: str,
    cpus: int,
    profile: str | None,
    namespace: str = "default",
    group: str = "power.openshift.io",
) -> dict[str, Any]:
    """A Guaranteed pod that asks for whole CPUs and as many of a profile."""
    amounts = {
        "cpu": str(cpus),
        "memory": "1Gi",
        **({f"{group}/{profile}": str(cpus)} if profile else {}),
    }
    container = {
        "name": "app",
        "image": "app",
        "resources": {"requests": amounts, "limits": amounts},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "containers": [container]},
    }


def running(name: str) -> dict[str, Any]:
    """The status of such a pod while its container runs, as its kubelet reports it."""
    container = {
        "name": "app",
        "image": "app",
        "imageID": "app",
        "ready": True,
        "restartCount": 0,
        "containerID": f"cri-o://{name}",
        "state": {"running": {}},
    }
    return {
        "phase": "Running",
        "qosClass": "Guaranteed",
        "containerStatuses": [container],
        "startTime": "2026-01-01T00:00:00Z",
    }
