"""The emulated machine: four CPUs whose firmware tables make a real frequency driver and a real
idle driver bind.

Tables and kernel are those of the kernel lab (tests/kernel). What the machine writes to its disk
goes to a file of its own that is gone when the emulator ends, and that a reboot keeps.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.processes import Processes
from tests.cluster.steps import niced
from tests.cluster_vm import vm_ramdisk
from tests.cluster_vm.vm_network import CABLE, VmNetwork
from tests.kernel.lab_debian import kernel
from tests.kernel.lab_firmware import acpi_tables, mailbox_status_addresses, reserved_memory
from tests.kernel.lab_machine import Arch, LabMachine

CPUS = 4
_MEMORY_MIB = 2560
_NAME = "emulator"


@dataclass
class Machine:
    """One machine. own: see vm_ramdisk."""

    folder: Path
    driver: str
    network: VmNetwork
    processes: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.processes = Processes(self.folder)

    def start(self, disk: Path, own: dict[str, bytes]) -> None:
        vm_ramdisk.write(self.folder / "ramdisk", own)
        command = niced(
            *self.network.words(), "env", f"TMPDIR={self.folder}", *self._emulator(disk)
        )
        self.processes.start(_NAME, command)

    def runs(self) -> bool:
        return self.processes.running[_NAME].poll() is None

    def pid(self) -> int:
        return self.processes.running[_NAME].pid

    def stop(self) -> None:
        self.processes.stop_all()

    def cut_power(self) -> None:
        """Off and on again, without a word to what runs on it: what was not on the disk is lost."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.folder / "monitor"))
            _until_prompt(monitor)
            monitor.sendall(b"system_reset\n")
            _until_prompt(monitor)

    def console(self) -> str:
        path = self.folder / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def cpu_seconds(self) -> float:
        """What the emulator has used of this machine's CPUs."""
        words = Path(f"/proc/{self.pid()}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def _emulator(self, disk: Path) -> list[str]:
        lab = LabMachine(driver=self.driver, cpus=CPUS, memory_mib=_MEMORY_MIB)
        words = [
            "console=ttyS0 loglevel=4 panic=10 quiet net.ifnames=0 mitigations=off tsc=reliable",
            "systemd.show_status=0",
            lab.traits.kernel_arguments,
            reserved_memory(lab),
        ]
        command = [
            "qemu-system-x86_64",
            "-machine",
            "q35",
            "-cpu",
            "EPYC-Rome",
            "-accel",
            "tcg,thread=multi",
            "-smp",
            str(CPUS),
            "-m",
            str(_MEMORY_MIB),
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-serial",
            f"file:{self.folder}/console",
            "-monitor",
            f"unix:{self.folder}/monitor,server,nowait",
            "-drive",
            f"file={disk},if=virtio,format=raw,cache=unsafe,snapshot=on",
            "-netdev",
            f"tap,id=cable,ifname={CABLE},script=no,downscript=no",
            "-device",
            "virtio-net-pci,netdev=cable,romfile=",
            "-device",
            "virtio-rng-pci",
            "-kernel",
            str(kernel(Arch.AMD64).image),
            "-initrd",
            f"{self.folder}/ramdisk",
            "-append",
            " ".join(filter(None, words)),
        ]
        for number, table in enumerate(acpi_tables(lab)):
            (self.folder / f"table{number}.aml").write_bytes(table)
            command += ["-acpitable", f"file={self.folder}/table{number}.aml"]
        for address in mailbox_status_addresses(lab):
            command += ["-device", f"loader,addr=0x{address:x},data=1,data-len=2"]
        return command


def _until_prompt(monitor: socket.socket) -> None:
    """What is sent earlier, or cut off sooner, may not be taken."""
    said = b""
    while not said.endswith(b"(qemu) "):
        more = monitor.recv(4096)
        assert more, "the emulator's monitor is gone"
        said += more
