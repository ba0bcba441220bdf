"""The control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler, all real."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.network import ADDRESS, Network
from tests.cluster.processes import Processes
from tests.cluster.steps import niced, wait_for

_AUDIT = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}  # fmt: skip


@dataclass
class Plane:
    """Started in the network's namespace. bin: the folder of all commands; pki: see pki.py."""

    folder: Path
    bin: Path
    pki: Path
    network: Network
    processes: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.processes = Processes(self.folder)

    def start(self) -> None:
        self._etcd()
        self._apiserver()
        wait_for("the API server is ready", self._is_ready, 120)
        self._follow(
            "kube-controller-manager",
            "controllers",
            [
                "--root-ca-file",
                f"{self.pki}/ca.crt",
                "--service-account-private-key-file",
                f"{self.pki}/sa.key",
                "--use-service-account-credentials",
                "--allocate-node-cidrs=false",
                # A busy machine is no reason to give its node up.
                "--node-monitor-grace-period=20m",
            ],
        )
        self._follow("kube-scheduler", "scheduler", [])

    def stop(self) -> None:
        self.processes.stop_all()

    def _run(self, name: str, words: list[str]) -> None:
        self.processes.start(name, niced(*self.network.words(), f"{self.bin}/{name}", *words))

    def _etcd(self) -> None:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self._run(
            "etcd",
            [
                "--data-dir",
                str(self.folder / "etcd"),
                "--listen-client-urls",
                client,
                "--advertise-client-urls",
                client,
                "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls",
                peer,
                "--initial-cluster",
                f"default={peer}",
                "--unsafe-no-fsync",
            ],
        )

    def _apiserver(self) -> None:
        (self.folder / "audit.yaml").write_text(json.dumps(_AUDIT))
        pki = self.pki
        self._run(
            "kube-apiserver",
            [
                "--etcd-servers",
                "http://127.0.0.1:2379",
                "--secure-port",
                "6443",
                "--bind-address",
                "0.0.0.0",
                "--advertise-address",
                ADDRESS,
                "--client-ca-file",
                f"{pki}/ca.crt",
                "--tls-cert-file",
                f"{pki}/apiserver.crt",
                "--tls-private-key-file",
                f"{pki}/apiserver.key",
                "--authorization-mode",
                "Node,RBAC",
                "--enable-admission-plugins",
                "NodeRestriction",
                "--service-account-issuer",
                "https://kubernetes.default.svc",
                "--service-account-key-file",
                f"{pki}/sa.key",
                "--service-account-signing-key-file",
                f"{pki}/sa.key",
                "--service-cluster-ip-range",
                "10.0.0.0/24",
                "--allow-privileged=true",
                "--kubelet-client-certificate",
                f"{pki}/apiserver-kubelet.crt",
                "--kubelet-client-key",
                f"{pki}/apiserver-kubelet.key",
                "--kubelet-preferred-address-types",
                "InternalIP",
                "--audit-policy-file",
                str(self.folder / "audit.yaml"),
                "--audit-log-path",
                str(self.folder / "audit.log"),
            ],
        )

    def _follow(self, name: str, user: str, more: list[str]) -> None:
        given = f"{self.pki}/{user}.conf"
        self._run(
            name,
            [
                "--kubeconfig",
                given,
                "--authentication-kubeconfig",
                given,
                "--authorization-kubeconfig",
                given,
                "--bind-address",
                "127.0.0.1",
                "--leader-elect=false",
                *more,
            ],
        )

    def _is_ready(self) -> bool:
        command = [
            *self.network.words(),
            f"{self.bin}/kubectl",
            "--kubeconfig",
            f"{self.pki}/admin.conf",
        ]
        done = subprocess.run(
            [*command, "get", "--raw", "/readyz"], capture_output=True, check=False
        )
        return done.returncode == 0
