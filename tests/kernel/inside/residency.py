"""Inside a lab machine: which idle states the CPUs use under each way to limit their latency.

    python residency.py [--seconds 30] [--kicks 15] [--governor NAME ...] [--case NAME ...]

CPU 0 measures, CPUs 1 and 2 sleep for mixed times (sleeps of a fraction of every state's target
residency up to many times the deepest one's, so that every state is the right one at times), CPU 3
has nothing to do. A way to limit is set on all of them, and the kernel's own counters are read
before and after: a state that no CPU entered is one that the limit kept out. Without names all
cases are measured, under all governors that the kernel has.

Prints one line of JSON: the states, for each governor and case what every CPU entered and for how
many µs, and how long a sleeping CPU slept on after each kind of write.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle

from tests.kernel.inside import real_sysfs as real
from tests.kernel.inside.real_sysfs import CPUS

ALL, BUSY, IDLE = (0, 1, 2, 3), (1, 2), 3
SLEEPS_US = (30, 2_000, 150, 600, 30, 300, 10_000, 80, 1_000, 30_000)
GLOBAL = "/dev/cpu_dma_latency"
LIMITS_US = (1, 10, 100)  # on the x86 machine below C1, between C1 and C2, between C2 and C3
NO_LIMIT, NO_LATENCY = "0", "n/a"
PATIENCE = 3.0
Counters = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class State:
    """An idle state of every CPU: its number, its name and its exit latency in µs."""

    number: int
    name: str
    latency: int


@dataclass(frozen=True, slots=True)
class Case:
    """What is set while the counters run.

    Args:     limit: the text in pm_qos_resume_latency_us. disabled: numbers of states.
              everywhere: µs that /dev/cpu_dma_latency holds, None to leave it closed.
    """

    name: str
    limit: str = NO_LIMIT
    disabled: tuple[int, ...] = ()
    everywhere: int | None = None


def states() -> list[State]:
    """Those of CPU 0; all CPUs of a lab machine have the same."""
    folder = f"{CPUS}/cpu0/cpuidle"
    names = [name for name in real.names(folder) if name.startswith("state")]
    return [
        State(
            int(name.removeprefix("state")),
            real.text(f"{folder}/{name}/name"),
            int(real.text(f"{folder}/{name}/latency")),
        )
        for name in names
    ]


def cases(found: list[State]) -> list[Case]:
    """No limit; each limit in each way; limits at a state's own latency; ways that meet."""

    def over(us: int) -> tuple[int, ...]:
        return tuple(state.number for state in found if state.latency > us)

    made = [Case("no limit")]
    for us in LIMITS_US:
        made.append(Case(f"disable > {us}", disabled=over(us)))
        made.append(Case(f"pm_qos {us}", limit=str(us)))
        made.append(Case(f"both {us}", limit=str(us), disabled=over(us)))
    exact = {us for state in found[-2:] for us in (state.latency - 1, state.latency)}
    made += [Case(f"pm_qos {us}", limit=str(us)) for us in sorted(exact - {0, *LIMITS_US})]
    _, low, high = LIMITS_US
    shallow = tuple(state.number for state in found if state.latency <= low)
    return [
        *made,
        Case("pm_qos n/a", limit=NO_LATENCY),
        Case(f"pm_qos {low}, disable > {high}", limit=str(low), disabled=over(high)),
        Case(f"pm_qos {high}, disable > {low}", limit=str(high), disabled=over(low)),
        Case(f"pm_qos {low}, disable <= {low}", limit=str(low), disabled=shallow),
        Case("pm_qos n/a, disable 0", limit=NO_LATENCY, disabled=(0,)),
        Case(f"global {low}", everywhere=low),
        Case(f"global {low}, pm_qos {high}", limit=str(high), everywhere=low),
        Case(f"global {high}, pm_qos {low}", limit=str(low), everywhere=high),
    ]


def set_case(case: Case, found: list[State]) -> None:
    """Limits and disabled states of all CPUs."""
    for cpu in ALL:
        set_limit(cpu, case.limit)
        for state in found:
            set_disabled(cpu, state.number, state.number in case.disabled)


def set_limit(cpu: int, text: str) -> None:
    """The latency that a CPU may take."""
    real.write(f"{CPUS}/cpu{cpu}/power/pm_qos_resume_latency_us", text.encode())


def set_disabled(cpu: int, state: int, disabled: bool) -> None:
    """Whether a CPU may not enter a state."""
    real.write(f"{CPUS}/cpu{cpu}/cpuidle/state{state}/disable", b"1" if disabled else b"0")


@contextmanager
def everywhere(us: int | None) -> Iterator[None]:
    """Hold the limit of all CPUs, which lasts as long as its file is open."""
    if us is None:
        yield
        return
    with open(GLOBAL, "wb", buffering=0) as file:
        file.write(struct.pack("i", us))
        yield


def counters(cpu: int, found: list[State]) -> Counters:
    """How often each state was chosen, and µs in it.

    A choice that the hardware then refused counts: the arm64 machine's LPI-1 is always refused.
    """
    folder = f"{CPUS}/cpu{cpu}/cpuidle"
    read = {
        name: [int(real.text(f"{folder}/state{state.number}/{name}")) for state in found]
        for name in ("usage", "rejected", "time")
    }  # fmt: skip
    chosen = [sum(both) for both in zip(read["usage"], read["rejected"], strict=True)]
    return {"usage": chosen, "time": read["time"]}


def entries(cpu: int, found: list[State]) -> int:
    """How often a CPU fell asleep."""
    return sum(counters(cpu, found)["usage"])


def measure(case: Case, found: list[State], seconds: float) -> dict[str, Counters]:
    """What each CPU but the measuring one did under a case."""
    with everywhere(case.everywhere):
        set_case(case, found)
        end_sleeps(found)
        before = {cpu: counters(cpu, found) for cpu in (*BUSY, IDLE)}
        time.sleep(seconds)
        after = {cpu: counters(cpu, found) for cpu in (*BUSY, IDLE)}
    return {str(cpu): _grown(before[cpu], after[cpu]) for cpu in before}


def end_sleeps(found: list[State]) -> None:
    """Let every CPU fall asleep as often as there are states, before anything counts.

    A limit does not end a sleep that began before it, and the governor ladder goes down by one
    state a sleep, through disabled ones too.
    """
    for cpu in (*BUSY, IDLE, 0):
        os.sched_setaffinity(0, {cpu})
        for _ in found:
            time.sleep(0.001)


def _grown(before: Counters, after: Counters) -> Counters:
    """What was added to counters."""
    pairs = {name: zip(before[name], after[name], strict=True) for name in before}
    return {name: [new - old for old, new in both] for name, both in pairs.items()}


def slept_on(kind: str, found: list[State], times: int) -> list[float]:
    """Milliseconds until the idle CPU woke after a limit was set, some times over.

    A CPU that wakes counts one more entry; one that sleeps on counts none.
    """
    waits, deepest = [], found[-1].number
    for number in range(times):
        set_case(Case("no limit"), found)
        time.sleep(0.1 + number % 5 * 0.037)  # not in step with whatever wakes it anyway
        began = time.monotonic()
        asleep = entries(IDLE, found)
        with everywhere(10 if kind == "global" else None):
            if kind == "pm_qos":
                set_limit(IDLE, "10")
            elif kind == "disable":
                set_disabled(IDLE, deepest, True)
            while entries(IDLE, found) == asleep and time.monotonic() < began + PATIENCE:
                time.sleep(0.001)
        waits.append(round(1000 * (time.monotonic() - began), 1))
    set_case(Case("no limit"), found)
    return sorted(waits)


def sleep_forever(cpu: int) -> None:
    """The load of a CPU: sleeps, and nothing else."""
    os.sched_setaffinity(0, {cpu})
    for us in cycle(SLEEPS_US):
        time.sleep(us / 1e6)


@contextmanager
def load() -> Iterator[None]:
    """Processes that sleep on the busy CPUs; this one stays on CPU 0."""
    os.sched_setaffinity(0, {0})
    children = []
    for cpu in BUSY:
        child = os.fork()
        if not child:
            sleep_forever(cpu)
        children.append(child)
    try:
        yield
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30, help="for each case")
    parser.add_argument("--kicks", type=int, default=15, help="of each kind of write")
    parser.add_argument("--governor", action="append", default=[])
    parser.add_argument("--case", action="append", default=[])
    return parser.parse_args()


def main() -> None:
    """Measure every case under every governor and print the report."""
    given, found = _arguments(), states()
    offered = real.text(f"{CPUS}/cpuidle/available_governors").split()
    chosen = [case for case in cases(found) if not given.case or case.name in given.case]
    report: dict[str, object] = {
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "driver": real.text(f"{CPUS}/cpuidle/current_driver"),
        "offered": offered,
        "states": [[state.name, state.latency] for state in found],
        "cases": [asdict(case) for case in chosen],
        "seconds": given.seconds,
    }
    used: dict[str, object] = {}
    with load():
        for governor in [name for name in given.governor or offered if name in offered]:
            real.write(f"{CPUS}/cpuidle/current_governor", governor.encode())
            shown = real.text(f"{CPUS}/cpuidle/current_governor")
            measured = {case.name: measure(case, found, given.seconds) for case in chosen}
            set_case(Case("no limit"), found)
            used[governor] = {"shown": shown, "measured": measured}
    kinds = ("nothing", "pm_qos", "disable", "global")
    waits = {kind: slept_on(kind, found, given.kicks) for kind in kinds}
    print(json.dumps({**report, "governors": used, "slept on ms": waits}))


if __name__ == "__main__":
    main()
