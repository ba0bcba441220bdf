"""The whole: a control plane on this machine, and one node that is an emulated machine."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import pki
from tests.cluster.cluster import AGENT, NAMESPACE, NODE, Cluster
from tests.cluster.network import ADDRESS
from tests.cluster.plane import Plane
from tests.cluster.steps import packages, wait_for
from tests.cluster_vm import vm_disk
from tests.cluster_vm.vm_cpus import Cpus, read
from tests.cluster_vm.vm_link import Link
from tests.cluster_vm.vm_machine import Machine
from tests.cluster_vm.vm_network import VmNetwork

#: Emulated, everything takes twenty times as long.
PATIENCE = 600
#: All that was told, of all clusters.
LINES: list[str] = []


@dataclass
class VmCluster(Cluster):
    """driver: of the CPUs' frequencies, a word of the kernel lab."""

    driver: str = "acpi-cpufreq"
    began: float = 0

    def __post_init__(self) -> None:
        self.network = VmNetwork(self.folder.name)
        self.plane = Plane(self.folder / "plane", self.bin, self.folder / "pki", self.network)
        self.machine = Machine(self.folder / "machine", self.driver, self.network)
        self.link = Link(self.folder / "link", self.network)

    def start(self) -> None:
        """Until the API server answers and the machine boots; `booted` waits for the node."""
        packages(("ip", "setpriv", "ssh"), ("iproute2", "util-linux", "openssh-client"))
        disk = vm_disk.prepare(self.bin)
        pki.make(self.folder / "pki", ADDRESS, NODE, key_usage=self.key_usage)
        self.network.make()
        self.began = time.monotonic()
        self.machine.start(disk, self._own())
        self.plane.start()
        self._kubectl_script()

    def stop(self) -> None:
        for part in (self.link.close, self.machine.stop, self.plane.stop, self.network.remove):
            try:
                part()
            except Exception as failure:  # noqa: BLE001 what is left must be ended all the same
                print(f"{part}: {failure}")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def booted(self) -> None:
        """Until the node is Ready; at once where it was already."""
        if self.link.is_open():
            return
        self.link.open()
        self.tell("ssh answers")
        wait_for("the node is Ready", self.node_ready, PATIENCE, 0.5)
        self.tell("node Ready")

    def _own(self) -> dict[str, bytes]:
        made = self.folder / "pki"
        names = ("ca.crt", "kubelet.conf", "proxy.conf")
        files = {f"etc/kubernetes/{name}": (made / name).read_bytes() for name in names}
        return {**files, "root/.ssh/authorized_keys": self.link.make_key()}

    # --- the node ---

    def on_node(self, script: str, *, check: bool = True, seconds: float = 120) -> str:
        return self.link.run(script, check=check, seconds=seconds)

    def cpus(self) -> Cpus:
        """What the kernel shows of all CPUs now."""
        return read(self.link)

    def process_of(self, container: dict[str, Any]) -> int:
        """The first process of a container."""
        mark = container["containerID"].rpartition("/")[2]
        find = f"find /sys/fs/cgroup/kubepods.slice -name cri-containerd-{mark}.scope"
        return int(self.on_node(f"head -n 1 $({find})/cgroup.procs"))

    # --- what is told ---

    def tell(self, what: str, *facts: object) -> None:
        """A line for who reads the run: seconds since power on, and what came out."""
        seconds = time.monotonic() - self.began
        said = ": ".join([what, *map(str, facts)])
        LINES.append(f"{self.driver:>14} {seconds:6.0f} s  {said}")
        print(LINES[-1], flush=True)

    def say(self) -> str:
        parts = [self.kubectl("get", "pods", "-A", "-o", "wide", check=False)]
        parts += [self.kubectl("describe", "pods", *AGENT, check=False)[-4000:]]
        agent = [[*AGENT, "-c", name] for name in ("agent", "helper")]
        for words in (
            *agent,
            [*agent[0], "--previous"],
            ["-n", NAMESPACE, "deploy/controller-manager"],
        ):
            log = self.kubectl("logs", "--tail=40", *words, check=False)
            parts += [f"--- logs {' '.join(words)}", log]
        parts += ["--- state", json.dumps(self.state(), indent=1)]
        try:
            journal = "journalctl -n 60 --no-pager -p warning | cut -c1-300; dmesg | tail -20"
            parts += ["--- node", self.on_node(journal, check=False)]
        except Exception as failure:  # noqa: BLE001 the console then says more
            parts += [str(failure)]
        return "\n".join([*parts, "--- console", self.machine.console()[-2000:]])


@contextmanager
def running(
    folder: Path, bin_folder: Path, driver: str, *, keep: bool = False
) -> Iterator[VmCluster]:
    """A cluster, gone afterwards whatever happened."""
    made = VmCluster(folder, bin_folder, driver=driver)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        if keep:
            print(made.folder)
        else:
            made.remove()
