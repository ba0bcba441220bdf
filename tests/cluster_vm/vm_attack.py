"""What a program that has taken over a container of the agents' pod can change."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.cluster import NAMESPACE
from tests.cluster_vm.vm_cluster import VmCluster

_PROGRAM = Path(__file__).parent / "inside/attack.py"
#: Of the process itself, in the proc of its own container.
_OWN = re.compile(r"/proc/(\d+|self|thread-self)/")


@dataclass(frozen=True)
class Taken:
    """The report of inside/attack.py."""

    report: dict[str, Any]

    def of_host(self, but: str = "") -> list[str]:
        """Files and folders below /host, without those below one folder."""
        every = (*self.report["opened"], *self.report["made"])
        return [
            path
            for path in every
            if path.startswith("/host") and not (but and path.startswith(but))
        ]

    def of_kernel(self) -> list[str]:
        """Of the container's own /proc and /sys, without what is of its own processes."""
        every = (*self.report["opened"], *self.report["made"])
        kernel = [path for path in every if path.startswith(("/proc", "/sys"))]
        return [path for path in kernel if not _OWN.match(path)]

    def elsewhere(self) -> list[str]:
        every = (*self.report["opened"], *self.report["made"])
        return [path for path in every if not path.startswith(("/proc", "/sys", "/host"))]

    def summary(self) -> str:
        keys = ("files", "folders", "refused", "remount", "status")
        counted = {
            "host": len(self.of_host()),
            "kernel": len(self.of_kernel()),
            "elsewhere": self.elsewhere()[:12],
        }
        return json.dumps({**{key: self.report[key] for key in keys}, **counted})


def attack(cluster: VmCluster, container: str, *, seconds: float = 600) -> Taken:
    """Run it in a container of the agent that is Ready, over all that it sees."""
    words = [
        "exec",
        "-i",
        "-n",
        NAMESPACE,
        cluster.agent(),
        "-c",
        container,
        "--",
        "/opt/kpm/bin/python",
        "-",
        "/",
    ]
    said = cluster.kubectl(*words, given=_PROGRAM.read_text(), seconds=seconds)
    return Taken(json.loads(said.strip().splitlines()[-1]))
