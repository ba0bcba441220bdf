"""A real kube-apiserver with a real etcd, for one test session; RBAC is on, every request is in the
audit log.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver.envtest import prepare

ADMIN_TOKEN = "admin-token"
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_PATIENCE = 90.0


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, check: Any, seconds: float = 45.0, pause: float = 0.05) -> Any:
    """The first true result of a check. AssertionError where it does not come in time."""
    ends = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not in {seconds} s: {what}")
        time.sleep(pause)


@dataclass
class ApiServer:
    """The two processes, and kubectl against them."""

    folder: Path
    port: int = field(default_factory=free_port)
    etcd_ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start both and wait until the server is ready."""
        self.bin = prepare()
        (self.folder / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(_AUDIT))
        key = self.folder / "sa.key"
        subprocess.run(
            ["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True
        )
        self.start_etcd()
        self.start_server()
        self.kubeconfig("admin", ADMIN_TOKEN)

    def start_etcd(self) -> None:
        client, peer = self.etcd_ports
        self._run(
            "etcd",
            [
                "--data-dir",
                str(self.folder / "etcd"),
                "--listen-client-urls",
                f"http://127.0.0.1:{client}",
                "--advertise-client-urls",
                f"http://127.0.0.1:{client}",
                "--listen-peer-urls",
                f"http://127.0.0.1:{peer}",
                "--initial-advertise-peer-urls",
                f"http://127.0.0.1:{peer}",
                "--initial-cluster",
                f"default=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
            ],
        )

    def start_server(self) -> None:
        key = str(self.folder / "sa.key")
        self._run(
            "kube-apiserver",
            [
                "--etcd-servers",
                f"http://127.0.0.1:{self.etcd_ports[0]}",
                "--secure-port",
                str(self.port),
                "--bind-address",
                "127.0.0.1",
                "--cert-dir",
                str(self.folder / "certs"),
                "--token-auth-file",
                str(self.folder / "tokens.csv"),
                "--authorization-mode",
                "RBAC",
                "--service-account-issuer",
                "https://kubernetes.default.svc",
                "--service-account-key-file",
                key,
                "--service-account-signing-key-file",
                key,
                "--service-cluster-ip-range",
                "10.0.0.0/24",
                "--endpoint-reconciler-type",
                "none",
                "--allow-privileged=true",
                "--disable-admission-plugins",
                "ServiceAccount",
                "--audit-policy-file",
                str(self.folder / "audit.yaml"),
                "--audit-log-path",
                str(self.folder / "audit.log"),
                "--audit-log-mode",
                "blocking",
                "--watch-cache=true",
            ],
        )
        wait_for("the API server is ready", self._is_ready, _PATIENCE)

    def _is_ready(self) -> bool:
        process = self.processes["kube-apiserver"]
        assert process.poll() is None, (self.folder / "kube-apiserver.log").read_text()[-3000:]
        if not self.certificate.exists():
            return False
        return (
            subprocess.run(
                [
                    "curl",
                    "-sf",
                    "-m",
                    "2",
                    "--cacert",
                    str(self.certificate),
                    "-H",
                    f"Authorization: Bearer {ADMIN_TOKEN}",
                    f"{self.url}/readyz",
                ],
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )

    @property
    def certificate(self) -> Path:
        return self.folder / "certs" / "apiserver.crt"

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a process."""
        process = self.processes.pop(name, None)
        if process is not None:
            process.send_signal(number)
            process.wait(30)

    def close(self) -> None:
        for name in ("kube-apiserver", "etcd"):
            self.stop(name, signal.SIGKILL)

    def _run(self, name: str, arguments: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(self.bin / name), *arguments], stdout=log, stderr=log, cwd=self.folder
            )

    # --- clients ---

    def kubeconfig(self, name: str, token: str, url: str | None = None) -> Path:
        """A kubeconfig file for a bearer of a token."""
        authority = base64.b64encode(self.certificate.read_bytes()).decode()
        cluster = {
            "server": url or self.url,
            "certificate-authority-data": authority,
            "tls-server-name": "127.0.0.1",
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path

    def kubectl(
        self, *words: str, given: str = "", user: str = "admin", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """What a person types."""
        command = [
            str(self.bin / "kubectl"),
            "--kubeconfig",
            str(self.folder / f"{user}.kubeconfig"),
            *words,
        ]
        done = subprocess.run(
            command,
            check=False,
            input=given,
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(self.folder)},
        )
        assert done.returncode == 0 or not check, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done

    def get(self, *words: str) -> Any:
        """An object or a list; None where there is none."""
        done = self.kubectl("get", *words, "-o", "json", check=False)
        if done.returncode:
            assert "NotFound" in done.stderr or "not found" in done.stderr, done.stderr
            return None
        return json.loads(done.stdout)

    def apply(self, *documents: dict[str, Any]) -> None:
        """kubectl apply."""
        self.kubectl(
            "apply", "-f", "-", given="---\n".join(yaml.safe_dump(item) for item in documents)
        )

    def status(
        self, resource: str, name: str, status: dict[str, Any], namespace: str | None = None
    ) -> None:
        """Set a status, as the component would that owns it."""
        space = ["-n", namespace] if namespace else []
        self.kubectl(
            "patch",
            resource,
            name,
            *space,
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps({"status": status}),
        )

    def token(self, account: str, namespace: str, pod: str | None = None) -> str:
        """A token of a service account, bound to a pod (and so to its node) where one is named."""
        bound = ["--bound-object-kind", "Pod", "--bound-object-name", pod] if pod else []
        return self.kubectl("create", "token", account, "-n", namespace, *bound).stdout.strip()

    def patch(self, token: str, path: str, body: str) -> tuple[int, str]:
        """A bare merge patch, as no kubectl makes it: status and answer."""
        head = [
            "-H",
            f"Authorization: Bearer {token}",
            "-H",
            "Content-Type: application/merge-patch+json",
        ]
        command = [
            "curl",
            "-s",
            "-m",
            "10",
            "--cacert",
            str(self.certificate),
            "-X",
            "PATCH",
            *head,
            "-d",
            body,
            "-w",
            "\n%{http_code}",
            f"{self.url}{path}",
        ]
        text, _, code = subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.rpartition("\n")
        return int(code), text

    def flood(self, path: str, bodies: list[str], connections: int = 4) -> float:
        """Many bare merge patches as the admin; seconds that they took."""
        started = time.monotonic()
        with ThreadPoolExecutor(connections) as pool:
            list(
                pool.map(
                    lambda number: self._patch_all(path, bodies[number::connections]),
                    range(connections),
                )
            )
        return time.monotonic() - started

    def _patch_all(self, path: str, bodies: list[str]) -> None:
        link = http.client.HTTPSConnection(
            "127.0.0.1",
            self.port,
            context=ssl.create_default_context(cafile=str(self.certificate)),
            timeout=30,
        )
        for body in bodies:
            link.request(
                "PATCH",
                path,
                body,
                {
                    "Authorization": f"Bearer {ADMIN_TOKEN}",
                    "Content-Type": "application/merge-patch+json",
                },
            )
            answer = link.getresponse()
            answer.read()
            assert answer.status == 200
        link.close()

    def requests(self, user: str) -> list[dict[str, Any]]:
        """What the audit log has of a user."""
        entries = (
            json.loads(line)
            for line in (self.folder / "audit.log").read_text().splitlines()
            if f'"{user}"' in line
        )
        return [entry for entry in entries if entry["user"]["username"] == user]
