"""The node's initial ramdisk: modules for disk and network, the run's own files, and the way to the
disk.

The run's own files (certificates, kubeconfigs, the key of who may log in) are copied over the
disk at every boot, so the disk in the cache is the same for all runs. The address is set here
too: it stays when the disk's systemd takes over.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster.network import ADDRESS
from tests.cluster_vm.vm_network import NODE_ADDRESS
from tests.kernel.lab_debian import kernel
from tests.kernel.lab_machine import Arch
from tests.kernel.lab_ramdisk import _archive, _module

#: In the order to load; what the kernel has built in is passed over.
_MODULES = (
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "crc16",
    "mbcache",
    "jbd2",
    "crc32c_generic",
    "crc32c-intel",
    "ext4",
    "failover",
    "net_failover",
    "virtio_net",
)
_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in {" ".join(_MODULES)}; do
    [ -f /modules/$module.ko ] && insmod /modules/$module.ko
done
tries=0; while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries+1)); done
mount -t ext4 /dev/vda /root || exec sh
cp -a /own/. /root/
ip link set lo up; ip link set eth0 up
ip addr add {NODE_ADDRESS}/24 dev eth0; ip route add default via {ADDRESS}
mount --move /dev /root/dev; mount --move /sys /root/sys; mount --move /proc /root/proc
exec switch_root /root /sbin/init
"""


def write(target: Path, own: dict[str, bytes]) -> None:
    """own: files of this run by their path on the node."""
    boot = kernel(Arch.AMD64)
    modules = {
        f"modules/{name}.ko": data for name in _MODULES if (data := _module(boot, name)) is not None
    }
    named = {f"own/{name}": data for name, data in own.items()}
    folders = {str(parent) for name in named for parent in Path(name).parents if str(parent) != "."}
    files = {
        "init": _INIT.encode(),
        "bin/busybox": Path("/bin/busybox").read_bytes(),
        **modules,
        **named,
    }
    target.write_bytes(
        _archive(["bin", "dev", "modules", "proc", "root", "sys", *sorted(folders)], files)
    )
