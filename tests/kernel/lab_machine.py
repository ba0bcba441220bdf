"""The machines that the lab can boot, as values.

A machine is a cpufreq driver, a number of CPUs and how they are grouped. Everything that depends on
the driver is one row of `DRIVERS`; nothing else in the lab asks for a driver by name.
"""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass
from pathlib import Path


class Arch(enum.Enum):
    """A processor architecture, by the name that Debian gives it."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class Firmware(enum.Enum):
    """What the firmware tells the kernel about frequencies; idle
    states are there in all of them.
    """

    P_STATES = "a table of P-states (_PSS)"
    CPPC_MAILBOX = "CPPC registers behind a mailbox (PCC)"
    CPPC_MEMORY = "CPPC registers in plain memory"
    IDLE_ONLY = "nothing"


@dataclass(frozen=True, slots=True)
class Driver:
    """How to make the kernel choose one cpufreq driver, and what it then calls itself.

    `scaling_driver` is None where no driver binds.
    """

    arch: Arch
    firmware: Firmware
    kernel_arguments: str
    scaling_driver: str | None


DRIVERS = {
    "acpi-cpufreq": Driver(Arch.AMD64, Firmware.P_STATES, "", "acpi-cpufreq"),
    "amd-pstate": Driver(Arch.AMD64, Firmware.CPPC_MAILBOX, "amd_pstate=passive", "amd-pstate"),
    "amd-pstate-guided": Driver(
        Arch.AMD64, Firmware.CPPC_MAILBOX, "amd_pstate=guided", "amd-pstate"
    ),
    "amd-pstate-epp": Driver(
        Arch.AMD64, Firmware.CPPC_MAILBOX, "amd_pstate=active", "amd-pstate-epp"
    ),
    "cppc_cpufreq": Driver(Arch.ARM64, Firmware.CPPC_MEMORY, "", "cppc_cpufreq"),
    "none": Driver(Arch.AMD64, Firmware.IDLE_ONLY, "", None),
}


#: Where a machine with a network finds the loopback ports of this one; the emulator's own choice.
HOST = "10.0.2.2"
OWN_FOLDERS = ("/tmp", "/run", "/dev", "/proc", "/sys")


class LabError(Exception):
    """The lab could not do its work: something is missing, or the machine did not boot or end.

    The text is for the reader.
    """


@dataclass(frozen=True, slots=True)
class LabMachine:
    """One machine to boot.

    Args:     driver: a key of `DRIVERS`. domain_size: CPUs that the firmware puts into one
    frequency domain (amd-pstate makes a policy
              per CPU all the same). platform_limit: how many of the highest P-states the firmware
              forbids (_PPC; P-states only).
              kernel_arguments: more of them. network: whether it reaches this machine's own ports,
              at the address `HOST`.
              governors_loaded: every governor is there from the start; if not, the kernel loads
              one when its name is written, as on an installed Debian.
    Errors:   LabError when the numbers do not fit together.
    """

    driver: str = "acpi-cpufreq"
    cpus: int = 4
    domain_size: int = 1
    sockets: int = 1
    threads: int = 1
    memory_mib: int = 1024
    platform_limit: int = 0
    kernel_arguments: str = ""
    network: bool = False
    governors_loaded: bool = True

    def __post_init__(self) -> None:
        if self.driver not in DRIVERS:
            raise LabError(f"driver {self.driver!r} is unknown; there are {', '.join(DRIVERS)}")
        if self.cpus < 1 or self.cpus % (self.sockets * self.threads):
            raise LabError(
                f"{self.cpus} CPUs cannot be spread over {self.sockets} sockets with {self.threads}"
                " threads a core"
            )
        if self.domain_size < 1:
            raise LabError(f"a domain of {self.domain_size} CPUs is none")

    @property
    def traits(self) -> Driver:
        """The row of `DRIVERS` that this machine boots with."""
        return DRIVERS[self.driver]

    @property
    def python(self) -> str:
        """The Python inside: the one that runs now, or the small root's own on another
        architecture.
        """
        return sys.executable if self.traits.arch is Arch.AMD64 else "/usr/bin/python3"

    def path(self, outside: Path | str) -> str:
        """Name a file of this machine as it is called inside.

        LabError where the inside has a folder of its own in its place.
        """
        absolute = Path(outside).absolute()
        if self.traits.arch is not Arch.AMD64:
            return f"/host{absolute}"
        if any(absolute.is_relative_to(folder) for folder in OWN_FOLDERS):
            raise LabError(
                f"{absolute} cannot be seen inside: {', '.join(OWN_FOLDERS)} are the lab's own"
                " there"
            )
        return str(absolute)
