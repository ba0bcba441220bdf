"""The node's root folder: Debian's containerd, runc, CNI plugins and what they call, unpacked and
kept in the cache.

KPM_CLUSTER_CONTAINERD=v2.2.9 puts that release in place of Debian's, built from its Go module.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster.network import ADDRESS
from tests.cluster.steps import niced, only_once, packages, run

_SUITE = "trixie"
_PACKAGES = (
    "base-files",
    "bash",
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "coreutils",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "nftables",
    "procps",
    "runc",
    "util-linux",
)
CLUSTER_CIDR = "10.88.0.0/16"
_CONTAINERD = """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:1"
  # Where this machine's own root may not lower it, containers do not start.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.nri.v1.nri"]
  # Off in containerd 1.7 where nothing is said, on from containerd 2.
  disable = false
  socket_path = "/var/run/nri/nri.sock"
"""
_BRIDGE = {
    "cniVersion": "1.0.0",
    "name": "bridge",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.88.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}


def kubelet_configuration(policy: str) -> dict[str, Any]:
    """policy: of the CPU manager.

    900 milli-CPUs are kept for the system: the static policy reserves whole CPUs, so CPU 0, while
    two CPUs still have 1100 milli-CPUs to give, enough for one whole CPU beside operator and agent
    with the requests that they are shipped with.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "cpuManagerPolicy": policy,
        "cpuManagerReconcilePeriod": "5s",
        "kubeReserved": {"cpu": "900m"},
        "staticPodPath": "/etc/kubernetes/manifests",
        "address": "0.0.0.0",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": "cluster.local",
        "clusterDNS": ["10.0.0.10"],
        "failSwapOn": False,
        "resolvConf": "/etc/resolv.conf",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
    }


def _unpacked() -> Path:
    """The packages alone; a change of their list makes another folder."""
    mark = hashlib.sha256(" ".join((_SUITE, *_PACKAGES)).encode()).hexdigest()[:12]
    with only_once("root") as cache:
        made = cache / f"root-{mark}"
        if not made.exists():
            packages(("mmdebstrap",), ("mmdebstrap", "debian-archive-keyring"))
            new = cache / "root.new"
            shutil.rmtree(new, ignore_errors=True)
            options = [
                "--quiet",
                "--variant=extract",
                "--format=directory",
                f"--include={','.join(_PACKAGES)}",
            ]
            subprocess.run(niced("mmdebstrap", *options, _SUITE, str(new)), check=True)
            for needless in (
                "usr/share/doc",
                "usr/share/locale",
                "usr/share/man",
                "usr/share/perl",
                "dev",
            ):
                shutil.rmtree(new / needless, ignore_errors=True)
            new.rename(made)
    return made


def _built(release: str) -> Path:
    """containerd, its client and its shim of a release, without the file systems that need C."""
    with only_once("containerd") as cache:
        made = cache / f"containerd-{release}"
        if not made.exists():
            new = cache / "containerd.new"
            shutil.rmtree(new, ignore_errors=True)
            commands = ("containerd", "ctr", "containerd-shim-runc-v2")
            packages = [
                f"github.com/containerd/containerd/v2/cmd/{name}@{release}" for name in commands
            ]
            settings = {"GOBIN": str(new), "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"}
            subprocess.run(
                niced("go", "install", "-trimpath", *packages),
                check=True,
                env={**os.environ, **settings},
            )
            new.rename(made)
    return made


def make(root: Path, bin_folder: Path, pki: Path, node: str) -> None:
    """A copy with the node's configuration. Errors: AssertionError."""
    run("cp", "--archive", "--reflink=auto", _unpacked(), root)
    for folder in (
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "mnt/old",
        "etc/cni/net.d",
        "etc/kubernetes/manifests",
        "etc/containerd",
        "usr/local/bin",
        "var/lib/kubelet",
        "var/lib/containerd",
        "var/log",
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    # Unpacked packages have not chosen among alternatives.
    for name in (
        "iptables",
        "iptables-save",
        "iptables-restore",
        "ip6tables",
        "ip6tables-save",
        "ip6tables-restore",
    ):
        link = root / "usr/sbin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("xtables-nft-multi")
    release = os.environ.get("KPM_CLUSTER_CONTAINERD")
    for file in _built(release).iterdir() if release else ():
        run("cp", "--reflink=auto", file, root / "usr/bin" / file.name)
    for name in ("kubelet", "kube-proxy"):
        run("cp", "--reflink=auto", bin_folder / name, root / "usr/local/bin" / name)
    shutil.copy(pki / "ca.crt", root / "etc/kubernetes/ca.crt")
    for name in ("kubelet", "proxy"):
        shutil.copy(pki / f"{name}.conf", root / f"etc/kubernetes/{name}.conf")
    texts = {
        "etc/hostname": node + "\n",
        "etc/hosts": f"127.0.0.1 localhost\n{ADDRESS} {node}\n",
        "etc/resolv.conf": "",
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
        "etc/group": "root:x:0:\n",
        "etc/containerd/config.toml": _CONTAINERD,
        "etc/cni/net.d/10-bridge.conflist": json.dumps(_BRIDGE),
        "etc/kubernetes/kubelet.json": json.dumps(kubelet_configuration("static")),
    }
    for name, text in texts.items():
        (root / name).unlink(missing_ok=True)
        (root / name).write_text(text)
