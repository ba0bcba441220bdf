"""Inside a lab machine: one node of a cluster, which does what the test outside orders.

    python node.py HOST PORT KUBELET_PORT

Orders and answers are JSON, a line each, on a connection to PORT of the machine outside; a unix
socket here stands for the kubelet, which is at KUBELET_PORT outside.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.managed import managed_files

CPUS = Path("/sys/devices/system/cpu")
KUBELET, CONFIG, STATE, LOG, HELPER = (
    Path("/tmp") / name
    for name in ("kubelet.sock", "kubeconfig", "state", "agent.log", "helper.sock")
)
_WITH_ONLY, _SYS_ADMIN = Path(__file__).with_name("with_only.py"), "21"


class Node:
    """The machine, and the agent on it. Every public method is an order."""

    def __init__(self) -> None:
        self._agent: subprocess.Popen[bytes] | None = None
        self._helper: subprocess.Popen[bytes] | None = None

    def domains(self) -> dict[str, list[int]]:
        """CPUs of each cpufreq policy."""
        return {
            path.name: [int(word) for word in (path / "related_cpus").read_text().split()]
            for path in sorted((CPUS / "cpufreq").glob("policy*"))
        }

    def look(self) -> dict[str, str]:
        """What every managed file shows."""
        return managed_files(CPUS)

    def write(self, path: str, text: str) -> None:
        """Somebody else writes a file."""
        (CPUS / path).write_text(f"{text}\n")

    def launch(self, words: list[str], config: str) -> int:
        """Start the agent, without any capability, and once the helper that writes for it; the
        agent's process number.
        """
        CONFIG.write_text(config)
        places = [
            "--kubeconfig",
            str(CONFIG),
            "--sysfs",
            "/sys",
            "--helper",
            str(HELPER),
            "--state-dir",
            str(STATE),
            "--kubelet-socket",
            str(KUBELET),
        ]
        if self._helper is None:
            self._helper = self._run(
                ["helper", "--sysfs", "/sys", "--socket", str(HELPER)], _SYS_ADMIN
            )
        self._agent = self._run([*words, *places], "none")
        return self._agent.pid

    def _run(self, words: list[str], capabilities: str) -> subprocess.Popen[bytes]:
        with LOG.open("ab") as log:
            command = [
                sys.executable,
                str(_WITH_ONLY),
                capabilities,
                sys.executable,
                "-m",
                "kpm",
                *words,
            ]
            return subprocess.Popen(command, stdout=log, stderr=log)

    def capabilities(self) -> dict[str, str]:
        """What the kernel says that agent and helper have."""
        found = {}
        for name, process in (("agent", self._agent), ("helper", self._helper)):
            assert process is not None
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            found[name] = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
        return found

    def poll(self) -> int | None:
        """The agent's exit status, if it has ended."""
        return None if self._agent is None else self._agent.poll()

    def signal(self, number: int) -> None:
        """A signal for the agent."""
        assert self._agent is not None
        os.kill(self._agent.pid, number)

    def end(self) -> None:
        """Nothing of it stays behind."""
        for process in (self._agent, self._helper):
            if process is not None and process.poll() is None:
                process.kill()

    def log(self) -> str:
        """What the agents have said."""
        return LOG.read_text() if LOG.exists() else ""

    def move_clock(self, seconds: float) -> None:
        """The wall clock jumps."""
        time.clock_settime(time.CLOCK_REALTIME, time.time() + seconds)

    def memory(self) -> dict[str, int]:
        """The kernel's account of memory, in KiB."""
        return {
            line.split(":")[0]: int(line.split()[1])
            for line in Path("/proc/meminfo").read_text().splitlines()
        }


def relay(host: str, port: int) -> None:
    """Connections to the unix socket go on to a port of the machine outside."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(KUBELET))
    listener.listen()
    while True:
        near, _ = listener.accept()
        far = socket.create_connection((host, port))
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()


def main(host: str, port: int, kubelet_port: int) -> None:
    """Do what is ordered until the connection ends."""
    threading.Thread(target=relay, args=(host, kubelet_port), daemon=True).start()
    node = Node()
    with (
        socket.create_connection((host, port)) as link,
        link.makefile("rw", encoding="utf-8") as lines,
    ):
        for line in lines:
            name, arguments = json.loads(line)
            answer: dict[str, Any]
            try:
                answer = {"value": getattr(node, name)(*arguments)}
            except OSError as failure:
                answer = {"error": str(failure)}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
    node.end()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
