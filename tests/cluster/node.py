"""A node: containerd, kubelet and kube-proxy on this machine's kernel, in namespaces of their own.

A first process holds the namespaces (mounts, processes, cgroups, beside the cluster's network); the
daemons are started inside by nsenter. When that process is killed, the kernel kills all others, and
with the last of them the mounts go.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import cgroups
from tests.cluster import root as node_root
from tests.cluster.network import ADDRESS, Network
from tests.cluster.processes import TOGETHER, Processes
from tests.cluster.steps import run, wait_for

#: pivot_root and not chroot: runc makes containers relative to the root of its mount namespace. The
#: cgroup hierarchies are mounted anew inside their namespace, so they begin at the node's own
#: cgroup.
_BEGIN = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t sysfs sysfs "$ROOT/sys"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/run"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount -t tmpfs tmpfs "$ROOT/sys/fs/cgroup"
for name in $CONTROLLERS; do
    mkdir "$ROOT/sys/fs/cgroup/$name"
    option=$name
    [ "$name" = systemd ] && option=none,name=systemd
    mount -t cgroup -o "$option" cgroup "$ROOT/sys/fs/cgroup/$name"
done
mount --bind "$TREE" "$ROOT/sys/devices/system/cpu"
cd "$ROOT"
pivot_root . mnt/old
cd /
umount --lazy /mnt/old
mount --make-rshared /
echo 1 > /proc/sys/net/ipv4/ip_forward
exec /bin/busybox sh -c 'echo > /run/begun; while :; do sleep 3600; done'
"""
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Node:
    """One node. folder: on a disk, not on an overlay: containerd lays overlays over it."""

    name: str
    folder: Path
    network: Network
    tree: Path
    processes: Processes = field(init=False)
    holder: subprocess.Popen[bytes] | None = None
    pid: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root = self.folder / "root"
        self.cgroup = self.folder.parent.name
        self.processes = Processes(self.folder)

    def make(self, bin_folder: Path, pki: Path) -> None:
        lacking = cgroups.missing()
        assert not lacking, f"this machine has no cgroup v1 for {', '.join(lacking)}"
        node_root.make(self.root, bin_folder, pki, self.name)

    def start(self) -> None:
        """Namespaces and daemons; containerd answers afterwards."""
        cgroups.make(self.cgroup)
        settings = {
            "ROOT": self.root,
            "TREE": self.tree,
            "CONTROLLERS": " ".join(cgroups.CONTROLLERS),
        }
        # --cgroup makes the cgroup that a process is in the root of its namespace: it is entered
        # before.
        self.holder = subprocess.Popen(
            [
                *TOGETHER,
                *cgroups.words(self.cgroup),
                *self.network.words(),
                "unshare",
                "--mount",
                "--pid",
                "--cgroup",
                "--fork",
                "--kill-child",
                "bash",
                "-c",
                _BEGIN,
            ],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **{key: str(value) for key, value in settings.items()}},
            start_new_session=True,
        )
        self.pid = wait_for("the node's first process", self._first, 20, 0.02)
        wait_for("the node's mounts", lambda: self.sees("/run/begun") and self._first(), 20, 0.02)
        self.start_containerd()
        self.start_kubelet()
        self.start_proxy()

    def _first(self) -> int:
        assert self.holder is not None
        assert self.holder.poll() is None, "the node's first process has ended"
        words = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()
        return int(words[0]) if words else 0

    def sees(self, path: str) -> bool:
        """Whether the node has a file."""
        return Path(f"/proc/{self.pid}/root{path}").exists()

    def path(self, path: str) -> Path:
        """A file of the node, as this machine reaches it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def words(self, *command: str) -> list[str]:
        """What runs a command in the node's namespaces and cgroup."""
        enter = [
            *cgroups.words(self.cgroup),
            "nsenter",
            "-t",
            str(self.pid),
            "-m",
            "-p",
            "-n",
            "-C",
            "--root",
            "--wd=/",
        ]
        return [*enter, "env", "-i", _PATH, "HOME=/root", *command]

    def run(self, *command: str, check: bool = True, seconds: float = 120) -> str:
        return run(*self.words(*command), check=check, seconds=seconds)

    # --- daemons ---

    def start_containerd(self) -> None:
        self._start("containerd", "containerd", "--config", "/etc/containerd/config.toml")
        wait_for(
            "containerd answers", lambda: "Server:" in self.run("ctr", "version", check=False), 60
        )

    def start_kubelet(self) -> None:
        self._start(
            "kubelet",
            "kubelet",
            "--config=/etc/kubernetes/kubelet.json",
            "--kubeconfig=/etc/kubernetes/kubelet.conf",
            f"--hostname-override={self.name}",
            f"--node-ip={ADDRESS}",
            "--v=2",
            "--housekeeping-interval=30s",
        )

    def start_proxy(self) -> None:
        self._start(
            "kube-proxy",
            "kube-proxy",
            "--kubeconfig=/etc/kubernetes/proxy.conf",
            "--proxy-mode=nftables",
            f"--cluster-cidr={node_root.CLUSTER_CIDR}",
            f"--hostname-override={self.name}",
            "--conntrack-max-per-core=0",
        )

    def _start(self, name: str, *command: str) -> None:
        # The file tells the daemon's number inside: a signal to nsenter would not reach it.
        told = ["bash", "-c", f'echo $$ > /run/{name}.pid; exec "$@"', "bash", *command]
        with self.log(name).open("ab") as log:
            self.processes.running[name] = subprocess.Popen(
                self.words(*told),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop_daemon(self, name: str, word: str = "TERM") -> None:
        """End a daemon, by a signal, and wait until it is gone."""
        child = self.processes.running.pop(name)
        self.run("bash", "-c", f"kill -{word} $(cat /run/{name}.pid)")
        child.wait(60)

    def log(self, name: str) -> Path:
        return self.processes.log(name)

    def stop(self) -> None:
        """End all of it. Works as well on what is half started."""
        if self.holder is not None:
            for pid in (self.pid, self.holder.pid):
                if pid:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
            self.holder.wait()
            self.holder = None
        for child in self.processes.running.values():
            child.wait(20)
        self.processes.running.clear()
        cgroups.remove(self.cgroup)

    # --- images and settings ---

    def import_image(self, archive: Path) -> None:
        """A docker or OCI archive into the kubelet's images."""
        shutil.copy(archive, self.path("/tmp") / "image.tar")
        self.run("ctr", "-n", "k8s.io", "images", "import", "/tmp/image.tar")
        self.path("/tmp/image.tar").unlink()

    def restart_kubelet(self, *, forget: tuple[str, ...] = (), policy: str | None = None) -> float:
        """End it, remove what is named below /var/lib/kubelet, start it.

        Seconds since the epoch of the start.
        """
        self.stop_daemon("kubelet")
        for name in forget:
            path = self.path("/var/lib/kubelet") / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if policy is not None:
            text = json.dumps(node_root.kubelet_configuration(policy))
            self.path("/etc/kubernetes/kubelet.json").write_text(text)
        started = time.time()
        self.start_kubelet()
        return started

    def restart_containerd(self) -> None:
        self.stop_daemon("containerd")
        self.start_containerd()
