"""A node of a test cluster that is a lab machine: API server and kubelet outside, agent and drivers
inside.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kpm_planner.model.cpuset import parse_cpulist
from tests.apiserver.nodes import Process, SimNode
from tests.kernel.lab_machine import HOST, LabMachine
from tests.kernel.lab_python import TAIL, run_python

_BOOT, _ORDER, _LIFE = 120.0, 60.0, 900.0


@dataclass
class LabNode(SimNode):
    """A node whose files are a kernel's own. machine: has a network."""

    machine: LabMachine = LabMachine(network=True)

    def cpus(self) -> set[int]:
        return set(range(self.machine.cpus))

    def start_machine(self) -> None:
        """Boot; a command inside asks for orders."""
        self._lock = threading.Lock()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            arguments = [HOST, str(listener.getsockname()[1]), str(self.kubelet.port)]
            self._ended = ThreadPoolExecutor(1).submit(
                run_python, self.machine, "node.py", arguments, timeout=_LIFE
            )
            listener.settimeout(_BOOT)
            self._link, _ = listener.accept()
        self._link.settimeout(_ORDER)
        self._lines = self._link.makefile("rw", encoding="utf-8")
        self._domains: dict[str, list[int]] = self.order("domains")

    def order(self, name: str, *arguments: object) -> Any:
        """Have something done inside."""
        with self._lock:
            self._lines.write(json.dumps([name, arguments]) + "\n")
            self._lines.flush()
            answer = json.loads(self._lines.readline() or '{"error": "the machine is gone"}')
        assert "error" not in answer, f"{name}: {answer['error']}"
        return answer["value"]

    def shown(self) -> dict[str, str]:
        found: dict[str, str] = self.order("look")
        return found

    def cpufreq(self, cpu: int) -> tuple[int, int, str, str]:
        return self.cpufreq_of(self.shown(), cpu)

    def cpufreqs(self, cpus: str) -> set[tuple[int, int, str, str]]:
        shown = self.shown()
        return {self.cpufreq_of(shown, cpu) for cpu in parse_cpulist(cpus)}

    def cpufreq_of(self, shown: dict[str, str], cpu: int) -> tuple[int, int, str, str]:
        """The same, out of what managed files showed at some time."""
        folder = next(f"cpufreq/{name}" for name, cpus in self._domains.items() if cpu in cpus)
        low, high, governor = (
            shown.get(f"{folder}/scaling_{name}", "0")
            for name in ("min_freq", "max_freq", "governor")
        )
        return (
            int(low),
            int(high),
            governor,
            shown.get(f"{folder}/energy_performance_preference", ""),
        )

    def write(self, path: str, text: str) -> None:
        self.order("write", path, text)

    def launch(self, words: list[str], config: Path) -> Process:
        content = yaml.safe_load(config.read_text())
        cluster = content["clusters"][0]["cluster"]
        cluster["server"] = cluster["server"].replace("127.0.0.1", HOST)
        return Inside(self, self.order("launch", words, yaml.safe_dump(content)))

    @property
    def log(self) -> str:
        return str(self.order("log"))

    def close(self) -> None:
        """Keep what the agents said, and switch the machine off."""
        (self.folder / "agent.log").write_text(self.log)
        self.kubelet.stop()
        self._link.close()
        self._lines.close()
        result = self._ended.result(_ORDER)
        assert "Traceback" not in result.stderr, result.stderr[-TAIL:]


@dataclass
class Inside:
    """The agent's process inside."""

    node: LabNode
    pid: int

    def poll(self) -> int | None:
        found: int | None = self.node.order("poll")
        return found

    def wait(self, timeout: float | None = None) -> int:
        ends = time.monotonic() + (timeout or _ORDER)
        while (status := self.poll()) is None:
            assert time.monotonic() < ends, "the agent does not end"
            time.sleep(0.2)
        return status

    def send_signal(self, sig: int) -> None:
        self.node.order("signal", int(sig))

    def kill(self) -> None:
        self.send_signal(9)
