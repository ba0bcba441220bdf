"""Run a command under a real Linux kernel with real cpufreq and cpuidle drivers.

QEMU emulates the machine in software, so any host will do; firmware tables make the driver bind
that was asked for. The command sees this machine's own root file system, read-only: the same
Python, the same checkout (which must not lie below /tmp or /run). On arm64 it sees a small root
with its own Python, and this machine's files below /host.

    python tests/kernel/lab.py --prepare python tests/kernel/lab.py --driver amd-pstate-epp -- cat
    /sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference python tests/kernel/lab.py
    --driver cppc_cpufreq --domain-size 2 -- python3 -c 'import platform; print(platform.machine())'

Standard output, standard error and exit status are the command's own; 125 means that the lab itself
failed. Inside, /tmp is empty and writable, and /tmp/out is the folder `--out` outside.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from tests.kernel.lab_debian import arm_root, kernel, prepare
from tests.kernel.lab_firmware import acpi_tables, mailbox_status_addresses, reserved_memory
from tests.kernel.lab_machine import DRIVERS, Arch, LabError, LabMachine
from tests.kernel.lab_ramdisk import write_ramdisk

__all__ = ["DRIVERS", "LabError", "LabMachine", "LabResult", "prepare", "run"]

LAB_FAILED = 125
CONSOLE_TAIL = 2000  # characters of the console in an error
# two dozen lines at every start of an x86 machine
EMULATOR_CHATTER = "TCG doesn't support requested feature"
ARM_FIRMWARE = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class LabResult:
    """What a command did inside.

    `boot_seconds` is the time until the command started, `seconds` the time until the machine was
    off; `dmesg` the kernel's log.
    """

    returncode: int
    stdout: str
    stderr: str
    boot_seconds: float
    seconds: float
    dmesg: str


def run(
    machine: LabMachine,
    argv: Sequence[str],
    *,
    timeout: float = 120.0,
    env: Mapping[str, str] | None = None,
    out: Path | None = None,
    cwd: Path | None = None,
) -> LabResult:
    """Boot a machine, run one command in it, and return what the command did.

    Args:     argv: the command; files of this machine are named by `machine.path`, Python by
    `machine.python`. timeout: seconds for
              boot and command together. env: added to PATH, HOME and LANG. out: a folder that is
              /tmp/out inside. cwd: a folder of this
              machine to run in, / by default.
    Errors:   LabError when the machine does not boot or does not end in time; `prepare` must have
    run before.
    """
    with tempfile.TemporaryDirectory(prefix="kpm-lab-") as folder:
        work = Path(folder)
        control, results = work / "control", out or work / "out"
        control.mkdir()
        results.mkdir(parents=True, exist_ok=True)
        (control / "command").write_text(_script(machine, argv, env or {}, cwd), encoding="utf-8")
        command = _emulator(machine, work, control, results)
        started = time.time()
        ended = _boot(command, work / "console", timeout)
        seconds = time.time() - started
        if not ended or not (control / "status").exists():
            reason = (
                "it stopped before the command ended"
                if ended
                else f"it did not end within {timeout:g} s"
            )
            raise LabError(
                f"{machine.driver} machine: {reason}{_last_words(control, work / 'console')}"
            )
        return LabResult(
            returncode=int((control / "status").read_text(encoding="ascii")),
            stdout=_text(control / "stdout"),
            stderr=_text(control / "stderr"),
            boot_seconds=(control / "booted").stat().st_mtime - started,
            seconds=seconds,
            dmesg=_text(control / "dmesg"),
        )


def _script(
    machine: LabMachine, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None
) -> str:
    """Return the shell script that runs the command inside."""
    own = machine.traits.arch is Arch.AMD64
    variables = {
        "PATH": os.environ.get("PATH", PLAIN_PATH) if own else PLAIN_PATH,
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        **env,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f"cd {shlex.quote(machine.path(cwd) if cwd else '/')} || exit {LAB_FAILED}")
    return "\n".join([*lines, f"exec {shlex.join(argv)}", ""])


def _emulator(machine: LabMachine, work: Path, control: Path, results: Path) -> list[str]:
    """Return the emulator's command line, with everything that it reads written below `work`."""
    arm = machine.traits.arch is Arch.ARM64
    boot = kernel(machine.traits.arch)
    root = arm_root() if arm else Path("/")
    tables = acpi_tables(machine)
    # QEMU adds tables itself on x86 only, and the kernel takes no PCCT from its ramdisk
    in_ramdisk = tables if arm else []
    write_ramdisk(
        work / "ramdisk",
        kernel=boot,
        arch=machine.traits.arch,
        busybox=root / "bin/busybox",
        tables=in_ramdisk,
        governors_loaded=machine.governors_loaded,
    )
    shares = [
        *_share("control", control),
        *_share("out", results),
        *_share("root", root, read_only=True),
    ]
    cores = machine.cpus // (machine.sockets * machine.threads)
    return [
        *(_arm_board() if arm else [*_x86_board(), *_firmware(tables, work)]),
        # One host thread for all CPUs. With one each, every interrupt between them is a switch of
        # host threads: boots took up to eight times longer.
        *("-accel", "tcg,thread=single"),
        *(
            "-smp",
            f"{machine.cpus},sockets={machine.sockets},cores={cores},threads={machine.threads}",
        ),
        *(
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
        ),
        *("-m", f"{machine.memory_mib},slots=2,maxmem=4G" if arm else str(machine.memory_mib)),
        *(
            ("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=")
            if machine.network
            else ()
        ),
        *(
            "-kernel",
            str(boot.image),
            "-initrd",
            str(work / "ramdisk"),
            "-append",
            _kernel_arguments(machine),
        ),
        *shares,
        *(_share("host", Path("/"), read_only=True) if arm else []),
        *(
            word
            for address in mailbox_status_addresses(machine)
            for word in ("-device", f"loader,addr=0x{address:x},data=1,data-len=2")
        ),
    ]


def _x86_board() -> list[str]:
    return ["qemu-system-x86_64", "-machine", "q35", "-cpu", "EPYC-Rome"]


def _firmware(tables: list[bytes], work: Path) -> list[str]:
    """Write the tables below `work` and return the arguments that add
    them to the emulator's own.
    """
    files = [work / f"table{number}.aml" for number in range(len(tables))]
    for file, table in zip(files, tables, strict=True):
        file.write_bytes(table)
    return [word for file in files for word in ("-acpitable", f"file={file}")]


def _arm_board() -> list[str]:
    registers = [
        "-object",
        "memory-backend-ram,id=registers,size=128M",
        "-device",
        "nvdimm,memdev=registers",
    ]
    return [
        "qemu-system-aarch64",
        "-machine",
        "virt,nvdimm=on,acpi=on",
        "-cpu",
        "cortex-a72",
        "-bios",
        ARM_FIRMWARE,
        *registers,
    ]


def _kernel_arguments(machine: LabMachine) -> str:
    console = "console=ttyAMA0 acpi=force" if machine.traits.arch is Arch.ARM64 else "console=ttyS0"
    words = [
        console,
        "quiet panic=-1",
        machine.traits.kernel_arguments,
        reserved_memory(machine),
        machine.kernel_arguments,
    ]
    return " ".join(word for word in words if word)


def _share(tag: str, folder: Path, *, read_only: bool = False) -> list[str]:
    """Return the arguments that give a folder to the machine under a tag."""
    only = ",readonly=on" if read_only else ""
    return [
        "-virtfs",
        f"local,path={folder},mount_tag={tag},security_model=none,multidevs=remap{only}",
    ]


def _boot(command: list[str], console: Path, timeout: float) -> bool:
    """Run the emulator until the machine is off. False if that took too long and it was stopped."""
    with console.open("wb") as log:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        except FileNotFoundError as missing:
            raise LabError(
                f"{missing.filename} is not there: run `{sys.executable} {__file__} --prepare` as"
                " root"
            ) from None
    return True


def _last_words(control: Path, console: Path) -> str:
    """Return what is known of a machine that did not end well, each part under its own name."""
    parts = {
        "console": console,
        "standard output": control / "stdout",
        "standard error": control / "stderr",
    }
    said = (
        (
            name,
            "\n".join(
                line for line in _text(path).splitlines() if EMULATOR_CHATTER not in line
            ).strip(),
        )
        for name, path in parts.items()
    )
    return "".join(
        f"\n--- end of its {name}:\n{text[-CONSOLE_TAIL:]}" for name, text in said if text
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _parser() -> argparse.ArgumentParser:
    plain = LabMachine()
    parser = argparse.ArgumentParser(
        prog="lab.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="install the tools and fetch kernels and the arm64 root, then run the command if any",
    )
    parser.add_argument("--driver", choices=DRIVERS, default=plain.driver)
    parser.add_argument("--cpus", type=int, default=plain.cpus)
    parser.add_argument(
        "--domain-size",
        type=int,
        default=plain.domain_size,
        help="CPUs that share one frequency domain",
    )
    parser.add_argument("--sockets", type=int, default=plain.sockets)
    parser.add_argument("--threads", type=int, default=plain.threads, help="threads of a core")
    parser.add_argument(
        "--platform-limit",
        type=int,
        default=plain.platform_limit,
        help="how many of the highest P-states the firmware forbids",
    )
    parser.add_argument(
        "--memory", type=int, default=plain.memory_mib, dest="memory_mib", metavar="MIB"
    )
    parser.add_argument("--kernel-arguments", default=plain.kernel_arguments, metavar="WORDS")
    parser.add_argument(
        "--governors-on-demand",
        action="store_false",
        dest="governors_loaded",
        help="have the kernel load governors when their names are written, as on Debian",
    )
    parser.add_argument(
        "--network",
        action="store_true",
        help="let the command reach this machine's loopback ports, at 10.0.2.2",
    )
    parser.add_argument("--timeout", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable for the command; may be repeated",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="the folder that is /tmp/out inside"
    )
    parser.add_argument(
        "--cwd",
        type=Path,
        default=Path.cwd(),
        metavar="FOLDER",
        help="a folder of this machine to run in",
    )
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="the command and its arguments, after --"
    )
    return parser


def main() -> int:
    """Run the command line and return the exit status."""
    parser = _parser()
    chosen = vars(parser.parse_args())
    if not chosen["command"] and not chosen["prepare"]:
        parser.error("a command is missing")
    fields = LabMachine.__dataclass_fields__
    try:
        machine = LabMachine(**{name: value for name, value in chosen.items() if name in fields})
        if chosen["prepare"]:
            prepare()
        if not chosen["command"]:
            return 0
        env = dict(pair.partition("=")[::2] for pair in chosen["env"])
        result = run(
            machine,
            chosen["command"],
            timeout=chosen["timeout"],
            env=env,
            out=chosen["out"],
            cwd=chosen["cwd"],
        )
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return LAB_FAILED
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
