"""Inside a lab machine: who may write the files that limit idle states, and what they take.

    python idle_facts.py

Every write is made by a child that has given up all capabilities, or all but CAP_SYS_ADMIN, as an
agent in a container has; it stays root, so that the files' modes alone forbid nothing. Prints one
line of JSON: outcomes of writes per set of capabilities, what each spelling of a latency reads
back as, what hotplug leaves, and what writing the name of each governor does.
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import struct
from collections.abc import Callable
from functools import partial

from tests.kernel.inside import real_sysfs as real
from tests.kernel.inside.real_sysfs import CPUS

LIMIT = f"{CPUS}/cpu1/power/pm_qos_resume_latency_us"
POLICY = f"{CPUS}/cpu1/cpufreq"
GOVERNORS = ("performance", "powersave", "userspace", "ondemand", "conservative", "schedutil")
ABSENT = "conservative"  # its module's file is taken away for a while
MODULES = "/proc/1/root/lib/modules/*/cpufreq_{}.ko"  # the ramdisk, as seen from the command's root
CAP_SYS_ADMIN = 21
HELD = {"none": 0, "sys_admin": 1 << CAP_SYS_ADMIN}
CAPSET_VERSION, PR_CAPBSET_DROP = 0x20080522, 24
OLD = "33"
SPELLINGS = (
    *("5", "5\n", "0", "n/a", "n/a\n", "+7", "-0", "0x10", "010", "2147483646", "5\0", ""),
    *("2147483647", "2147483648", "4294967296", "-1", "1.5", "5us", "auto", "N/A", "n/a "),
    *(" 5", "5 ", "5\n\n", "\n"),
)


def give_up(held: int) -> None:
    """Keep only these capabilities, for this process and what it may become."""
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if not held >> number & 1:
            library.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    header = struct.pack("<Ii", CAPSET_VERSION, 0)
    if library.capset(header, struct.pack("<6I", held, held, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def holding(held: int, call: Callable[[], str]) -> str:
    """What a call returns in a child with these capabilities."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        give_up(held)
        os.write(theirs, call().encode())
        os._exit(0)
    os.close(theirs)
    with open(ours, encoding="ascii") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return said


def outcome(path: str, text: str) -> str:
    """`ok`, or the name of the errno; opening always succeeds for root."""
    return str(real.attempt(real.write, path, text.encode()) or "ok")


def permissions() -> dict[str, dict[str, str]]:
    """Outcomes of writing what a file shows, which is always a value that it takes."""
    names = ("min_freq", "max_freq", "governor", "setspeed")
    paths = [
        LIMIT,
        f"{CPUS}/cpu1/cpuidle/state1/disable",
        *(f"{POLICY}/scaling_{name}" for name in names),
        f"{POLICY}/energy_performance_preference",
        f"{CPUS}/cpufreq/boost",
        f"{CPUS}/amd_pstate/status",
        f"{CPUS}/cpu2/online",
        f"{CPUS}/cpuidle/current_governor",
    ]
    real.attempt(real.write, f"{POLICY}/scaling_governor", b"userspace")  # or setspeed shows a word
    there = [path for path in paths if real.exists(path)]

    def write(path: str) -> str:
        return outcome(path, real.text(path))

    return {
        path.removeprefix(f"{CPUS}/"): {
            name: holding(held, partial(write, path)) for name, held in HELD.items()
        }
        for path in there
    }  # fmt: skip


def spellings() -> dict[str, list[str]]:
    """Outcome of each, and what is then shown."""
    found = {}
    for text in SPELLINGS:
        real.write(LIMIT, OLD.encode())
        found[text] = [outcome(LIMIT, text), real.text(LIMIT)]
    real.write(LIMIT, b"0")
    return found


def hotplug() -> dict[str, object]:
    """What a limit shows while its CPU is away and after, by its path and by a kept descriptor."""
    online = f"{CPUS}/cpu1/online"
    real.write(LIMIT, b"42")
    descriptor = os.open(f"/sys/{LIMIT}", os.O_RDWR)

    def kept() -> object:
        return real.attempt(lambda: os.pread(descriptor, 64, 0).decode().strip())

    real.write(online, b"0")
    found: dict[str, object] = {"away": [real.text(LIMIT), kept()]}
    found["written away"] = [outcome(LIMIT, "43"), real.text(LIMIT)]
    real.write(online, b"1")
    found["back"] = [real.text(LIMIT), kept()]
    real.write(LIMIT, b"0")
    os.close(descriptor)
    return found


def beside_others() -> str:
    """What a limit shows while tighter ones hold: of all CPUs, and a disabled state."""
    real.write(LIMIT, b"42")
    state = f"{CPUS}/cpu1/cpuidle/state1/disable"
    real.write(state, b"1")
    with open("/dev/cpu_dma_latency", "wb", buffering=0) as everywhere:
        everywhere.write(struct.pack("i", 0))
        shown = real.text(LIMIT)
    real.write(state, b"0")
    real.write(LIMIT, b"0")
    return shown


def listed(cpu: int = 1) -> list[str]:
    """Governors that the driver offers."""
    return real.text(f"{CPUS}/cpu{cpu}/cpufreq/scaling_available_governors").split()


def select(name: str) -> dict[str, object]:
    """Write a governor's name without capabilities."""
    before = name in listed()
    said = holding(0, lambda: outcome(f"{POLICY}/scaling_governor", name))
    shown = real.text(f"{POLICY}/scaling_governor")
    return {"before": before, "write": said, "shown": shown, "after": name in listed()}


def without_its_file(name: str) -> dict[str, object]:
    """The same while the module's file is away."""
    files = glob.glob(MODULES.format(name))
    for file in files:
        os.rename(file, f"{file}.away")
    found = select(name)
    for file in files:
        os.rename(f"{file}.away", file)
    return {**found, "files": len(files)}


def main() -> None:
    """Try everything and print the report."""
    first = real.text(f"{POLICY}/scaling_governor")
    report: dict[str, object] = {"offered": listed(), "absent": without_its_file(ABSENT)}
    report["governors"] = {name: select(name) for name in (*GOVERNORS, "nonsense")}
    report["permissions"] = permissions()
    real.attempt(real.write, f"{POLICY}/scaling_governor", first.encode())
    report["still offered"], report["offered elsewhere"] = listed(), listed(cpu=3)
    report["spellings"], report["hotplug"] = spellings(), hotplug()
    report["beside others"] = beside_others()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
