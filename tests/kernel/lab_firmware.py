"""The ACPI tables of a lab machine: P-states or CPPC registers, frequency domains and idle states.

QEMU describes CPUs without any power management; with one more table the drivers bind as they do on
hardware. Objects are those of the ACPI specification 6.5, chapter 8 (and 14 for the mailboxes).
Frequencies are in MHz, as the specification wants them.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

from tests.kernel.lab_machine import Arch, Firmware, LabError, LabMachine

MAILBOX_BASE = 0x3E000000  # reserved memory of the x86 machine (see `reserved_memory`)
REGISTER_BASE = 0x80000000  # where the arm64 machine's NVDIMM begins: memory that no driver claims
BYTES_PER_CPU = 0x1000
# offset of the status word in a PCC mailbox; its bit 0 says that the command is done
COMMAND_COMPLETE = 6
NULL_REGISTER = "ResourceTemplate () { Register (SystemMemory, 0, 0, 0, 0) }"

# with milliwatts; 3701 is turbo
P_STATES_MHZ = ((3701, 120000), (3700, 100000), (2600, 70000), (1800, 45000), (800, 20000))
# µs. All are entered by HLT, as type C1 is: the deeper types read a port, from which an emulated
# CPU returns at once, so that one that is offline or idle in them would take its full share of the
# emulator's time.
X86_C_STATES_US = (2, 50, 170)
# name, PSCI state, residency µs, latency µs
ARM_LPI_STATES = ("LPI-0", 0xFFFFFFFF, 1, 1), ("LPI-1", 0x10000, 2000, 100)


def acpi_tables(machine: LabMachine) -> list[bytes]:
    """Return the tables to hand to the kernel, compiled."""
    tables = [_compile(_source(machine))]
    if machine.traits.firmware is Firmware.CPPC_MAILBOX:
        tables.append(_mailbox_table(machine.cpus))
    return tables


def reserved_memory(machine: LabMachine) -> str:
    """Return the kernel argument that keeps the mailboxes out of the kernel's own memory, or
    nothing.
    """
    return (
        f"memmap=16M$0x{MAILBOX_BASE:x}" if machine.traits.firmware is Firmware.CPPC_MAILBOX else ""
    )


def mailbox_status_addresses(machine: LabMachine) -> list[int]:
    """Return the addresses of the status words that must say "command complete" when the kernel
    starts.
    """
    if machine.traits.firmware is not Firmware.CPPC_MAILBOX:
        return []
    return [MAILBOX_BASE + cpu * BYTES_PER_CPU + COMMAND_COMPLETE for cpu in range(machine.cpus)]


def _source(machine: LabMachine) -> str:
    """Return the ACPI source of one secondary table."""
    arm = machine.traits.arch is Arch.ARM64
    scope = "\\_SB" if arm else "\\_SB.CPUS"
    cpus = [f"{scope}.C{cpu:03X}" for cpu in range(machine.cpus)]
    lines = ['DefinitionBlock ("lab.aml", "SSDT", 2, "KPM", "LAB", 1) {']
    lines += [f"External ({name}, DeviceObj)" for name in cpus]
    if machine.traits.firmware in (Firmware.CPPC_MAILBOX, Firmware.CPPC_MEMORY):
        # "the platform has CPPC"
        lines.append("Scope (\\_SB) { Method (_OSC, 4, NotSerialized) { Return (Arg3) } }")
    for cpu, name in enumerate(cpus):
        lines += [
            f"Scope ({name}) {{",
            *_performance(machine, cpu),
            _arm_idle_states() if arm else _x86_idle_states(),
            "}",
        ]
    return "\n".join([*lines, "}"])


def _performance(machine: LabMachine, cpu: int) -> list[str]:
    """Return the objects that describe the frequencies of one CPU."""
    match machine.traits.firmware:
        case Firmware.P_STATES:
            return [_p_states(machine.platform_limit), _domain(machine, cpu, coordination=0xFC)]
        case Firmware.CPPC_MAILBOX:
            return [_cppc_in_mailbox(cpu), _domain(machine, cpu, coordination=0xFC)]
        case Firmware.CPPC_MEMORY:
            return [
                _cppc_in_memory(cpu, fast=cpu < max(1, machine.cpus // 2)),
                _domain(machine, cpu, coordination=0xFD),
            ]
        case Firmware.IDLE_ONLY:
            return []


def _domain(machine: LabMachine, cpu: int, *, coordination: int) -> str:
    """Return the _PSD of a CPU: which domain it is in, how many CPUs that has, and who coordinates
    them.
    """
    first = cpu // machine.domain_size * machine.domain_size
    members = min(machine.domain_size, machine.cpus - first)
    return (
        f"Name (_PSD, Package (1) {{ Package (5) {{ 5, 0, {first}, 0x{coordination:X}, {members}"
        " } })"
    )


def _p_states(platform_limit: int) -> str:
    states = ", ".join(
        f"Package (6) {{ {mhz}, {milliwatt}, 10, 10, {number}, {number} }}"
        for number, (mhz, milliwatt) in enumerate(P_STATES_MHZ)
    )
    port = "ResourceTemplate () {{ Register (SystemIO, 8, 0, 0x{:X}) }}"
    return f"""Name (_PCT, Package (2) {{ {port.format(0xCD4)}, {port.format(0xCD5)} }})
        Name (_PSS, Package ({len(P_STATES_MHZ)}) {{ {states} }})
        Method (_PPC) {{ Return ({platform_limit}) }}"""


def _cppc_in_mailbox(cpu: int) -> str:
    """Return a _CPC of 400 to 3993 MHz (2600 MHz without boost) whose registers live in the CPU's
    PCC mailbox.
    """
    words = [
        f"ResourceTemplate () {{ Register (PCC, 32, 0, 0x{word * 4:X}, {cpu}) }}"
        for word in range(9)
    ]
    return _cppc(highest=255, nominal=166, registers=words, optional=words[6:], nominal_mhz=2600)


def _cppc_in_memory(cpu: int, *, fast: bool) -> str:
    """Return a _CPC of 400 to 2500 MHz for a fast core, to 1500 MHz for a slow one; boost adds
    about 450 MHz.
    """
    highest, nominal = (300, 250) if fast else (200, 150)
    base = REGISTER_BASE + cpu * BYTES_PER_CPU
    words = [
        f"ResourceTemplate () {{ Register (SystemMemory, 32, 0, 0x{base + word * 8:X}, 3) }}"
        for word in range(6)
    ]
    return _cppc(
        highest=highest,
        nominal=nominal,
        registers=words,
        optional=[NULL_REGISTER] * 3,
        nominal_mhz=nominal * 10,
    )


def _cppc(
    *, highest: int, nominal: int, registers: list[str], optional: list[str], nominal_mhz: int
) -> str:
    """Return a _CPC, revision 3.

    Shape:    registers: desired, minimum, maximum, reference counter, delivered counter, limited.
    optional: enable, autonomous
              selection, energy performance preference.
    Units:    highest and nominal on the abstract scale, whose 60 and 20 are lowest non-linear and
    lowest; 400 is the lowest MHz.
    """
    desired, minimum, maximum, reference, delivered, limited = registers[:6]
    enable, autonomous, preference = optional
    entries = [
        "23",
        "3",
        str(highest),
        str(nominal),
        "60",
        "20",
        NULL_REGISTER,
        desired,
        minimum,
        maximum,
        NULL_REGISTER,
        NULL_REGISTER,
        NULL_REGISTER,
        reference,
        delivered,
        limited,
        enable,
        autonomous,
        NULL_REGISTER,
        preference,
        str(nominal),
        "400",
        str(nominal_mhz),
    ]
    return f"Name (_CPC, Package (23) {{ {', '.join(entries)} }})"


def _x86_idle_states() -> str:
    states = [
        f"Package (4) {{ ResourceTemplate () {{ Register (FFixedHW, 0, 0, 0) }}, 1, {latency},"
        " 100 }"
        for latency in X86_C_STATES_US
    ]
    return f"Name (_CST, Package ({1 + len(states)}) {{ {len(states)}, {', '.join(states)} }})"


def _arm_idle_states() -> str:
    states = [
        f"Package (10) {{ {residency}, {latency}, 1, 0, 0, 0, ResourceTemplate () {{ Register"
        f" (FFixedHW, 32, 0, 0x{state:X}, 3) }}, "
        f'{NULL_REGISTER}, {NULL_REGISTER}, "{name}" }}'
        for name, state, residency, latency in ARM_LPI_STATES
    ]
    return (
        f"Name (_LPI, Package ({3 + len(states)}) {{ 0, 0, {len(states)}, {', '.join(states)} }})"
    )


def _mailbox_table(cpus: int) -> bytes:
    """Return a PCCT with one mailbox per CPU, whose doorbell sets that mailbox's own "command
    complete" bit.

    Nobody answers the mailbox: ringing its doorbell is the answer. What the driver writes is kept
    and read back.
    """
    body = struct.pack("<I8x", 0)
    for cpu in range(cpus):
        base = MAILBOX_BASE + cpu * BYTES_PER_CPU
        doorbell = struct.pack("<BBBBQ", 0, 16, 0, 2, base + COMMAND_COMPLETE)
        body += struct.pack("<BB6xQQ", 0, 62, base, BYTES_PER_CPU) + doorbell
        # what the doorbell keeps and sets, latency, rates
        body += struct.pack("<QQIIH", 0xFFFFFFFFFFFFFFFF, 1, 1000, 0, 0)
    table = bytearray(
        struct.pack(
            "<4sIBB6s8sI4sI", b"PCCT", 36 + len(body), 1, 0, b"KPM   ", b"LAB     ", 1, b"KPM ", 1
        )
        + body
    )
    table[9] = -sum(table) & 0xFF  # a table sums to zero
    return bytes(table)


def _compile(source: str) -> bytes:
    """Compile ACPI source with iasl."""
    with tempfile.TemporaryDirectory(prefix="kpm-lab-acpi-") as folder:
        text = Path(folder, "lab.asl")
        text.write_text(source, encoding="ascii")
        done = subprocess.run(
            ["iasl", "-p", f"{folder}/lab", str(text)], text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise LabError(
                f"iasl refuses the ACPI source: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        return Path(folder, "lab.aml").read_bytes()
