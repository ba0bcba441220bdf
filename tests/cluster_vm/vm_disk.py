"""The disk of the emulated node: Debian with systemd, containerd and kubelet, and the images in
containerd's store.

Everything slow is done here, at this machine's own speed: packages are installed, images
imported by the node's own containerd in a chroot, the file system made out of the folder. What
differs between runs (certificates, keys) is not on the disk but in the ramdisk. Both steps are
kept in the cache, each under a mark of what it is made of.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

from tests.apiserver.envtest import release
from tests.cluster import images
from tests.cluster import root as native
from tests.cluster.steps import niced, only_once, packages, run
from tests.cluster_vm.vm_network import NODE_ADDRESS
from tests.kernel.lab_debian import kernel
from tests.kernel.lab_machine import Arch

_SUITE = "trixie"
_PACKAGES = (
    "apparmor",
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "dbus",
    "iproute2",
    "iptables",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "runc",
    "systemd-sysv",
    "udev",
    "util-linux",
)
_CONTAINERD = """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = true
"""
_KUBELET = f"""
[Unit]
After=containerd.service
Wants=containerd.service
[Service]
ExecStart=/usr/local/bin/kubelet --config=/etc/kubernetes/kubelet.json \
--kubeconfig=/etc/kubernetes/kubelet.conf \
--hostname-override=node-1 --node-ip={NODE_ADDRESS} --v=2 --housekeeping-interval=30s
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
"""
_PROXY = f"""
[Service]
ExecStart=/usr/local/bin/kube-proxy --kubeconfig=/etc/kubernetes/proxy.conf --proxy-mode=nftables \
--cluster-cidr={native.CLUSTER_CIDR} --hostname-override=node-1 --conntrack-max-per-core=0 --v=1
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
"""
#: Of no use on a node that lives for minutes, and slow where every instruction is emulated.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "ldconfig.service",
    "systemd-pstore.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "systemd-hwdb-update.service",
    "systemd-journal-flush.service",
)
_NEEDLESS = (
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
#: containerd unpacks to /var/lib/containerd of the folder, which is then part of the disk.
_IMPORT = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /sys "$ROOT/sys"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/run"
mount -t tmpfs tmpfs "$ROOT/tmp"
setpriv --pdeathsig KILL chroot "$ROOT" \\
    containerd --config /etc/containerd/config.toml >"$LOG" 2>&1 &
daemon=$!
tries=0
until chroot "$ROOT" ctr version >/dev/null 2>&1; do
    tries=$((tries + 1)); [ $tries -lt 100 ]
    sleep 0.2
done
for archive in "$@"; do
    cp "$archive" "$ROOT/tmp/image.tar"
    chroot "$ROOT" ctr -n k8s.io images import /tmp/image.tar
done
kill $daemon
wait $daemon || true
"""


def prepare(bin_folder: Path) -> Path:
    """The disk's file, made where it is not yet. bin_folder: kubelet and kube-proxy."""
    packages(("mke2fs",), ("e2fsprogs",))
    product, base = images.product(), _base()
    busybox = images.busybox(product.parent)
    files = _files()
    made_of = json.dumps(
        [
            base.name,
            product.name,
            release(),
            kernel(Arch.AMD64).version,
            files,
            _MASKED,
            _IMPORT,
            _NEEDLESS,
        ]
    )
    mark = hashlib.sha256(made_of.encode() + busybox.read_bytes()).hexdigest()[:12]
    with only_once("vm-disk") as cache:
        disk = cache / f"vm-disk-{mark}.img"
        if not disk.exists():
            for old in cache.glob("vm-disk*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            root = cache / "vm-disk.root"
            _lay_out(base, root, bin_folder, files)
            _import(root, cache / "vm-disk.log", [busybox, product])
            _write(root, cache / "vm-disk.new")
            (cache / "vm-disk.new").rename(disk)
            shutil.rmtree(root)
    return disk


def kubelet_configuration() -> dict[str, Any]:
    """As of a real node: systemd's cgroups, and CPU 0 for the system."""
    found = native.kubelet_configuration("static")
    for name in ("failCgroupV1", "kubeReserved"):
        del found[name]
    return {
        **found,
        "cgroupDriver": "systemd",
        "reservedSystemCPUs": "0",
        "runtimeRequestTimeout": "5m",
    }


def _base() -> Path:
    """Debian alone, installed; a change of the list of packages makes another folder."""
    mark = hashlib.sha256(" ".join((_SUITE, *_PACKAGES)).encode()).hexdigest()[:12]
    with only_once("vm-base") as cache:
        made = cache / f"vm-base-{mark}"
        if not made.exists():
            packages(("mmdebstrap",), ("mmdebstrap", "debian-archive-keyring"))
            new = cache / "vm-base.new"
            shutil.rmtree(new, ignore_errors=True)
            options = [
                "--quiet",
                "--variant=minbase",
                "--format=directory",
                f"--include={','.join(_PACKAGES)}",
            ]
            subprocess.run(niced("mmdebstrap", *options, _SUITE, str(new)), check=True)
            new.rename(made)
    return made


def _files() -> dict[str, str]:
    return {
        "etc/hostname": "node-1\n",
        "etc/hosts": f"127.0.0.1 localhost\n{NODE_ADDRESS} node-1\n",
        "etc/resolv.conf": "",
        "etc/fstab": "LABEL=node / ext4 defaults 0 1\n",
        "etc/containerd/config.toml": _CONTAINERD,
        "etc/cni/net.d/10-bridge.conflist": json.dumps(native._BRIDGE),
        "etc/kubernetes/kubelet.json": json.dumps(kubelet_configuration()),
        "etc/systemd/system/kubelet.service": _KUBELET,
        "etc/systemd/system/kube-proxy.service": _PROXY,
        "etc/modules-load.d/node.conf": "overlay\nbr_netfilter\nnf_conntrack\n",
        "etc/sysctl.d/node.conf": "net.ipv4.ip_forward=1\nnet.bridge.bridge-nf-call-iptables=1\n",
    }


def _lay_out(base: Path, root: Path, bin_folder: Path, files: dict[str, str]) -> None:
    shutil.rmtree(root, ignore_errors=True)
    run("cp", "--archive", "--reflink=auto", base, root)
    for folder in _NEEDLESS:
        shutil.rmtree(root / folder, ignore_errors=True)
    boot = kernel(Arch.AMD64)
    modules = root / "usr/lib/modules" / boot.version
    modules.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", boot.modules, modules)
    run("chroot", root, "depmod", boot.version)
    for name in ("kubelet", "kube-proxy"):
        run("cp", "--reflink=auto", bin_folder / name, root / "usr/local/bin" / name)
    (root / "etc/kubernetes/manifests").mkdir(parents=True)
    (root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    units = root / "etc/systemd/system"
    for name in _MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    for name in ("kubelet", "kube-proxy"):
        (units / f"multi-user.target.wants/{name}.service").symlink_to(f"../{name}.service")
    for stamp in ("etc/.updated", "var/.updated"):
        (root / stamp).touch()


def _import(root: Path, log: Path, archives: list[Path]) -> None:
    settings = {
        "ROOT": str(root),
        "LOG": str(log),
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    words = ["unshare", "--mount", "bash", "-c", _IMPORT, "bash", *map(str, archives)]
    done = subprocess.run(niced(*words), env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"{done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}"
    )


def _write(root: Path, disk: Path) -> None:
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(6 << 30)
    options = [
        "-q",
        "-t",
        "ext4",
        "-L",
        "node",
        "-E",
        "lazy_itable_init=1,lazy_journal_init=1",
        "-d",
        str(root),
    ]
    run(*niced("mke2fs", *options, str(disk)), seconds=600)
