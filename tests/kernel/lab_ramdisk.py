"""The initial ramdisk of a lab machine: ACPI tables, the modules that the lab needs, busybox and
the script that runs the command.

Two archives in one file: the first holds ACPI tables where the kernel is to take them from here,
uncompressed as it demands (Documentation/admin-guide/acpi/initrd_table_override.rst), the second
everything else, uncompressed too: the emulated machine would take longer to unpack it than QEMU
takes to load it.
"""

from __future__ import annotations

import lzma
from pathlib import Path

from tests.kernel.lab_debian import Kernel
from tests.kernel.lab_machine import Arch, LabError

# In the order to load; what the kernel has built in, or another architecture does not have, is
# passed over.
MODULES = (
    "virtio",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "netfs",
    "fscache",
    "9pnet",
    "9pnet_virtio",
    "9p",
    "failover",
    "net_failover",
    "virtio_net",
    "acpi-cpufreq",
    "cppc_cpufreq",
)
GOVERNORS = ("cpufreq_powersave", "cpufreq_userspace", "cpufreq_conservative", "cpufreq_ondemand")

# `root` is what the command sees as /, `host` this machine's own root for the arm64 machine, `out`
# the folder of results, `control` ours.
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
cd /lib/modules/*
for module in {modules}; do [ -f $module.ko ] && insmod $module.ko 2>/dev/null; done
cd /
share() {{ mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,$3 $1 $2; }}
share control /control || poweroff -f
share root /root ro,cache=loose || poweroff -f
[ -d /root/host ] && share host /root/host ro,cache=loose 2>/dev/null
mount -t tmpfs tmp /root/tmp && mkdir /root/tmp/out && share out /root/tmp/out cache=none
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mount -t tmpfs run /root/run
ip link set lo up
[ -d /sys/class/net/eth0 ] && ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up
cp /control/command /root/tmp/.command
echo >/control/booted
chroot /root /bin/sh /tmp/.command </dev/null >/control/stdout 2>/control/stderr
echo $? >/control/status
dmesg >/control/dmesg
sync
poweroff -f
"""

# The kernel starts it in the ramdisk, not in the command's root.
MODPROBE = b'#!/bin/busybox sh\nexec /bin/busybox modprobe "$@"\n'


def write_ramdisk(
    target: Path,
    *,
    kernel: Kernel,
    arch: Arch,
    busybox: Path,
    tables: list[bytes],
    governors_loaded: bool,
) -> None:
    """Write the ramdisk of a machine, with the ACPI tables that the kernel is to take from it, to
    `target`.

    Args:     governors_loaded: load every governor before the command starts. If not, there is a
              modprobe instead, which the kernel calls for a governor that it does not know.
    """
    wanted = (*MODULES, *GOVERNORS)
    found = {name: data for name in wanted if (data := _module(kernel, name)) is not None}
    if "9p" not in found:
        raise LabError(
            f"kernel {kernel.version} ({arch.value}) has no 9p module below {kernel.modules}"
        )
    at_start = " ".join(wanted if governors_loaded else MODULES)
    files = {"init": INIT.format(modules=at_start).encode(), "bin/busybox": busybox.read_bytes()}
    folder = f"lib/modules/{kernel.version}"
    files |= {f"{folder}/{name}.ko": data for name, data in found.items()}
    folders = ["bin", "control", "dev", "lib", "lib/modules", folder, "proc", "root", "sys"]
    if not governors_loaded:
        folders.append("sbin")
        files["sbin/modprobe"] = MODPROBE
        needs = [f"{name}.ko:\n" for name in GOVERNORS if name in found]
        files[f"{folder}/modules.dep"] = "".join(needs).encode()
    firmware = {
        f"kernel/firmware/acpi/table{number}.aml": table for number, table in enumerate(tables)
    }
    override = (
        _archive(["kernel", "kernel/firmware", "kernel/firmware/acpi"], firmware)
        if firmware
        else b""
    )
    target.write_bytes(override + _archive(folders, files))


def _module(kernel: Kernel, name: str) -> bytes | None:
    """Return a module's object code, or None where the kernel has no such module."""
    for path in kernel.modules.rglob(f"{name}.ko*"):
        return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    return None


def _archive(folders: list[str], files: dict[str, bytes]) -> bytes:
    """Return a cpio archive in the format that the kernel reads
    (Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    entries = [_entry(name, 0o040755, b"") for name in folders]
    entries += [_entry(name, 0o100755, data) for name, data in files.items()]
    return _padded(b"".join(entries) + _entry("TRAILER!!!", 0, b""), 512)


def _entry(name: str, mode: int, data: bytes) -> bytes:
    """Return one member: thirteen fields of eight hexadecimal digits, the name, the content, each
    padded to four bytes.
    """
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name.encode() + b"\0", 4) + _padded(data, 4)


def _padded(data: bytes, unit: int) -> bytes:
    return data + b"\0" * (-len(data) % unit)
