"""Inside a lab machine: random plans through planner and applier, and after each of them what the
kernel really shows.

    python sequences.py SEED PLANS KILLS [PLATFORM_LIMIT_KHZ]

Three phases. A chain of plans with hotplug, boost changes and driver switches between them: each
must end in just what was planned, a second apply must write nothing. Then every plan of the chain
alone, from the values at boot: it must end in what it ended in within the chain. Then a process
that applies is killed at random moments, and whatever it left must end in the next plan, or in the
values at boot. Prints one line of JSON with every fault found.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from kpm_applier.session import Applier, Report
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.assignment import Pool
from kpm_planner.model.changes import Status
from kpm_planner.model.machine import Machine
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.kernel.inside import real_sysfs as real
from tests.kernel.inside.intents import NODE, Wish, wish
from tests.kernel.inside.real_sysfs import CPUS

STATE_FOLDER = "/tmp/kpm-state"
CPUFREQ_FILES = (
    "scaling_governor",
    "energy_performance_preference",
    "scaling_min_freq",
    "scaling_max_freq",
)
#: Seconds in which values that the kernel updates late must have stood still.
PATIENCE = 2.0
MOST_FAULTS = 12


class CountingHost(SysfsHost):
    """The real /sys, with a list of what was written to it."""

    def __init__(self) -> None:
        super().__init__("/sys")
        self.written: list[str] = []

    def write(self, path: str, data: bytes) -> None:
        """Hand data to a file and remember that."""
        self.written.append(f"{path}={data.decode('ascii').strip()}")
        super().write(path, data)


@dataclass(frozen=True, slots=True)
class Around:
    """What else is set on the machine: by administrators, firmware and whoever plugs CPUs."""

    offline: frozenset[int] = frozenset()
    boost: str | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A plan of the chain, what was around it, and what the kernel showed after it."""

    number: int
    around: Around
    wish: Wish
    plan: NodePlan
    shown: dict[str, str]
    hardware: dict[str, str]


@dataclass(slots=True)
class Run:
    """The machine, its values at boot, and what was found."""

    rng: Random
    machine: Machine
    platform_limit: int | None
    at_start: Around
    boot: dict[str, str]
    now: Around
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    recent: list[str] = field(default_factory=list)
    #: Values at the start of a driver's mode: those at boot for the first one.
    start: dict[str | None, dict[str, str]] = field(default_factory=dict)

    def fault(self, text: str) -> None:
        """Note something that should not be."""
        self.faults.append(f"{text} [{'; '.join(self.recent[-6:])}]")

    def event(self, name: str, text: str) -> None:
        """Note what was done."""
        self.counts[name] += 1
        self.recent.append(text)


# --- the machine ---


def online(run: Run) -> list[int]:
    """CPUs that are online."""
    return [cpu.id for cpu in run.machine.cpus if cpu.id not in run.now.offline]


def shown_now(cpus: list[int]) -> dict[str, str]:
    """The text of every managed file of these CPUs, and of the boost switch."""
    found = {}
    for cpu in cpus:
        folder = f"{CPUS}/cpu{cpu}"
        states = [
            f"{folder}/cpuidle/{name}/disable"
            for name in real.names(f"{folder}/cpuidle")
            if name.startswith("state")
        ]
        for path in [*(f"{folder}/cpufreq/{name}" for name in CPUFREQ_FILES), *states]:
            found[path] = real.text(path)
    found["boost"] = real.text(f"{CPUS}/cpufreq/boost")
    return found


def hardware_now(cpus: list[int]) -> dict[str, str]:
    """The maximum that the hardware of each CPU has just now."""
    return {f"cpu{cpu}": real.text(f"{CPUS}/cpu{cpu}/cpufreq/cpuinfo_max_freq") for cpu in cpus}


def surround(run: Run, wanted: Around) -> None:
    """Bring the machine into these surroundings, always on the same way."""
    for cpu in sorted(run.now.offline):
        real.write(f"{CPUS}/cpu{cpu}/online", b"1")
    if wanted.mode != run.now.mode and wanted.mode is not None:
        real.write(f"{CPUS}/amd_pstate/status", wanted.mode.encode())
    if wanted.boost is not None and run.at_start.mode is None:
        real.write(f"{CPUS}/cpufreq/boost", b"1")
        real.write(f"{CPUS}/cpufreq/boost", wanted.boost.encode())
    for cpu in sorted(wanted.offline):
        real.write(f"{CPUS}/cpu{cpu}/online", b"0")
    run.now = wanted
    time.sleep(0.05)


def differing(run: Run, wanted: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Files that do not show what they should, after a time in which the kernel could have
    finished: path → (shown, wanted).
    """
    ends = time.monotonic() + PATIENCE
    while True:
        found = {
            path: (text, expected)
            for path, expected in wanted.items()
            if (text := _text(path)) != expected
        }
        if not found or time.monotonic() > ends:
            run.counts["files compared"] += len(wanted)
            return found
        time.sleep(0.02)


def _text(path: str) -> str:
    return real.text(f"{CPUS}/cpufreq/boost" if path == "boost" else path)


# --- what a plan means ---


def aggregate(run: Run, cpu: int, low: int, high: int) -> tuple[str, str]:
    """What the kernel makes of two requests: hardware, firmware's limit and table of that CPU
    (rules L2, L9 of the measurements).
    """
    folder = f"{CPUS}/cpu{cpu}/cpufreq"
    bottom, top = (
        int(real.text(f"{folder}/cpuinfo_min_freq")),
        int(real.text(f"{folder}/cpuinfo_max_freq")),
    )
    least = min(max(low, bottom), top)
    most = min(max(min(high, run.platform_limit or high), bottom), top)
    words = real.text(f"{folder}/scaling_available_frequencies").split()
    table = [int(word) for word in words if word.isdigit()]
    if table:
        most = max(khz for khz in table if khz <= most)
        least = min(khz for khz in table if khz >= least)
    return str(min(least, most)), str(most)


def wanted_of(run: Run, plan: NodePlan) -> tuple[dict[str, str], dict[str, str]]:
    """What every managed file should show, and which of them should show something else than what
    is asked for: path → asked for.
    """
    wanted: dict[str, str] = {}
    limited: dict[str, str] = {}
    start = run.start[run.now.mode]
    for group in plan.groups:
        if group.pool is Pool.OFFLINE or group.held:
            continue
        for cpu in group.cpus:
            folder = f"{CPUS}/cpu{cpu}/cpufreq"
            target = group.target
            low, high = (
                _limit(run, cpu, value, name)
                for value, name in ((target.min_khz, "min"), (target.max_khz, "max"))
            )
            asked = (target.governor, target.epp, str(low), str(high))
            for name, text in zip(CPUFREQ_FILES, asked, strict=True):
                wanted[f"{folder}/{name}"] = start[f"{folder}/{name}"] if text is None else text
            for name, text, real_text in zip(
                CPUFREQ_FILES[2:], asked[2:], aggregate(run, cpu, low, high), strict=True
            ):
                if text != real_text:
                    limited[f"{folder}/{name}"] = str(text)
                wanted[f"{folder}/{name}"] = real_text
            wanted.update(_wanted_idle(run, cpu, dict(target.idle), start))
    return wanted, limited


def _limit(run: Run, cpu: int, target: int | None, end: str) -> int:
    """A limit that is asked for; baseline where there is none: the hardware's own, if that is what
    it was.
    """
    if target is not None:
        return target
    path = f"{CPUS}/cpu{cpu}/cpufreq/scaling_{end}_freq"
    start = run.start[run.now.mode][path]
    was_hardware = start == run.start[run.now.mode][f"hardware {end} {cpu}"]
    return (
        int(real.text(f"{CPUS}/cpu{cpu}/cpufreq/cpuinfo_{end}_freq"))
        if was_hardware
        else int(start)
    )


def _wanted_idle(
    run: Run, cpu: int, named: dict[str, bool], start: dict[str, str]
) -> Iterator[tuple[str, str]]:
    for state in run.machine.by_id[cpu].idle:
        path = f"{CPUS}/cpu{cpu}/cpuidle/state{state.index}/disable"
        yield path, start[path] if state.name not in named else "0" if named[state.name] else "1"


def start_values(run: Run) -> dict[str, str]:
    """The values of now, with the hardware's limits beside them."""
    cpus = online(run)
    hardware = {
        f"hardware {end} {cpu}": real.text(f"{CPUS}/cpu{cpu}/cpufreq/cpuinfo_{end}_freq")
        for cpu in cpus
        for end in ("min", "max")
    }
    return {**shown_now(cpus), **hardware}


# --- applying ---


@contextmanager
def session() -> Iterator[Applier]:
    """An applier as a new process would have it."""
    host = CountingHost()
    applier = Applier(host, StateStore(STATE_FOLDER, host.root, live=host.live))
    try:
        applier.open()
        yield applier
    finally:
        applier.close()


def settle(applier: Applier, wished: Wish) -> tuple[NodePlan, Report]:
    """Plan and apply as the agent does: what has changed is looked at anew first."""
    if applier.changed():
        applier.discover()
    plan = plan_node(wished.intent, NodeInput(NODE, applier.machine, wished.allocation))
    return plan, applier.apply(plan)


def check(run: Run, name: str, plan: NodePlan, report: Report) -> None:
    """The kernel shows what was planned, and every limit that it does not show as asked is reported
    and explained.
    """
    wanted, limited = wanted_of(run, plan)
    for path, (text, expected) in differing(run, wanted).items():
        reported = [
            f"{item.status} {item.wanted} {item.shows}"
            for item in report.outcomes
            if _is_about(run, item.path, path)
        ]
        run.fault(f"{name}: {path} shows {text}, should {expected}; reported: {reported}")
    if not report.settled:
        run.fault(
            f"{name}: not settled:"
            f" {[(item.path, item.status, item.wanted, item.shows) for item in report.outcomes]}"
        )
    written = {item.path for item in report.writes}
    for outcome in report.outcomes:
        run.counts[f"outcome {outcome.status}"] += 1
        if outcome.status is Status.LIMITED and not any(
            _is_about(run, outcome.path, path) for path in limited
        ):
            run.fault(
                f"{name}: {outcome.path} is reported limited, which nothing explains:"
                f" {outcome.wanted} wanted, {outcome.shows} shown"
            )
    for path, asked in limited.items():
        about = [item for item in report.outcomes if _is_about(run, item.path, path)]
        if not about and any(_is_about(run, item, path) for item in written):
            run.fault(
                f"{name}: {path} was written and shows another value than {asked}, which is not"
                " reported"
            )


def _is_about(run: Run, managed: str, path: str) -> bool:
    """Whether a path of the applier is this file of a CPU, perhaps by the name of its policy."""
    if managed == path:
        return True
    head, _, name = path.rpartition("/")
    cpu = int(head.removeprefix(f"{CPUS}/cpu").partition("/")[0])
    domain = next((item for item in run.machine.domains if cpu in item.cpus), None)
    return domain is not None and managed == f"{CPUS}/cpufreq/policy{domain.id}/{name}"


def check_idle(run: Run, name: str, applier: Applier, plan: NodePlan) -> None:
    """A second apply of a plan writes nothing and reports nothing."""
    host = applier.host
    assert isinstance(host, CountingHost)
    before = len(host.written)
    report = applier.apply(plan)
    if report.writes or report.drift or len(host.written) != before:
        run.fault(
            f"{name}: a second apply wrote {host.written[before:]}, drift"
            f" {[item.path for item in report.drift]}"
        )


# --- phases ---


def chain(run: Run, plans: int) -> list[Step]:
    """Plans one after the other in one long-lived applier, which now and then begins anew."""
    steps: list[Step] = []
    while len(steps) < plans:
        with session() as applier:
            for _ in range(run.rng.randrange(3, 9)):
                if len(steps) == plans:
                    break
                steps.append(_chain_step(run, applier, len(steps)))
            last = steps[-1]
        with session() as fresh:  # a restarted agent
            plan, report = settle(fresh, last.wish)
            run.counts["restarts"] += 1
            if plan != last.plan:
                run.fault(
                    f"plan {last.number}: another plan after a restart: {_unlike(plan, last.plan)}"
                )
            if report.writes:
                run.fault(
                    f"plan {last.number}: a restart wrote"
                    f" {[(item.path, item.old, item.value, item.reason) for item in report.writes]}"
                )
    return steps


def _unlike(one: NodePlan, other: NodePlan) -> str:
    """Where two plans differ."""
    pairs = [
        (group, before)
        for group, before in zip(one.groups, other.groups, strict=False)
        if group != before
    ]
    return (
        f"{pairs or (one.groups, other.groups)}, problems {set(one.problems) ^ set(other.problems)}"
    )


def _chain_step(run: Run, applier: Applier, number: int) -> Step:
    wished = wish(run.rng, run.machine)
    _happen(run, applier, wished)
    plan, report = settle(applier, wished)
    run.event("plans", f"plan {number}")
    check(run, f"plan {number}", plan, report)
    check_idle(run, f"plan {number}", applier, plan)
    cpus = online(run)
    return Step(number, run.now, wished, plan, shown_now(cpus), hardware_now(cpus))


def _happen(run: Run, applier: Applier, wished: Wish) -> None:
    """Something that the applier has to notice, before a plan or in the middle of one."""
    chosen = run.rng.random()
    if chosen < 0.25:
        changed = _plug(run)
    elif chosen < 0.35:
        plan = plan_node(wished.intent, NodeInput(NODE, applier.machine, wished.allocation))
        _plug(run)
        # a plan that is old already: whatever fails, nothing is raised and the next one is right
        applier.apply(plan)
        run.event("plans gone stale", "a stale plan")
        return  # it may have noticed by itself
    elif chosen < 0.6 and run.at_start.mode is not None:
        changed = _switch(run)
    elif chosen < 0.55 and run.at_start.boost is not None and run.at_start.mode is None:
        changed = _toggle_boost(run)
    else:
        return
    if changed and not applier.changed():
        run.fault("a change was not noticed")


def _plug(run: Run) -> bool:
    """Another set of CPUs, never all of them, is offline; on x86 the first one stays."""
    removable = [
        cpu.id for cpu in run.machine.cpus if cpu.id or run.machine.architecture == "aarch64"
    ]
    wanted = (
        frozenset(run.rng.sample(removable, run.rng.choice((0, 0, 1, 1, 2, 3))))
        if run.rng.random() < 0.8
        else frozenset()
    )
    for cpu in sorted(run.now.offline - wanted):
        real.write(f"{CPUS}/cpu{cpu}/online", b"1")
    for cpu in sorted(wanted - run.now.offline):
        real.write(f"{CPUS}/cpu{cpu}/online", b"0")
    changed = wanted != run.now.offline
    run.now = Around(wanted, run.now.boost, run.now.mode)
    run.event("hotplugs", f"offline {sorted(wanted)}")
    return changed


def _switch(run: Run) -> bool:
    """The driver's mode changes; also there and back again with nobody looking."""
    words = [{"active": "passive", "passive": "active"}[str(run.now.mode)]]
    if run.rng.random() < 0.3:
        words.append(str(run.now.mode))
    for word in words:
        real.write(f"{CPUS}/amd_pstate/status", word.encode())
    run.now = Around(run.now.offline, run.now.boost, words[-1])
    run.event("switches", f"driver {' '.join(words)}")
    # there and back again reads as before; the plan must come out right all the same
    return len(words) == 1


def _toggle_boost(run: Run) -> bool:
    word = "0" if run.now.boost == "1" else "1"
    real.write(f"{CPUS}/cpufreq/boost", word.encode())
    run.now = Around(run.now.offline, word, run.now.mode)
    run.event("boosts", f"boost {word}")
    return True


def alone(run: Run, steps: list[Step]) -> None:
    """Every plan of the chain once more, from the values at boot: history must not show."""
    for step in steps:
        go_back(run, f"before plan {step.number} alone")
        surround(run, step.around)
        run.recent = [f"alone, {step.around}"]
        with session() as applier:
            plan, report = settle(applier, step.wish)
            check(run, f"plan {step.number} alone", plan, report)
            check_idle(run, f"plan {step.number} alone", applier, plan)
        if hardware_now(online(run)) != step.hardware:
            # boost came while a CPU was away: the way there matters to the kernel, not to us
            run.counts["not comparable"] += 1
            continue
        run.counts["compared alone"] += 1
        if plan != step.plan:
            run.fault(f"plan {step.number}: history shows in the plan: {_unlike(plan, step.plan)}")
        for path, (text, expected) in differing(run, step.shown).items():
            run.fault(
                f"plan {step.number}: history shows: {path} is {text} alone, was {expected} in the"
                " chain"
            )


def go_back(run: Run, name: str) -> None:
    """Restore in the surroundings of the start: every managed file is what it was at boot, and
    nothing is owned.
    """
    surround(run, run.at_start)
    with session() as applier:
        report = applier.restore()
        owned = sorted(applier.state.groups)
    run.counts["restores"] += 1
    if not report.settled or owned:
        run.fault(
            f"{name}: restore left {owned}:"
            f" {[(item.path, item.status, item.wanted, item.shows) for item in report.outcomes]}"
        )
    for path, (text, expected) in differing(run, run.boot).items():
        run.fault(f"{name}: residue: {path} is {text}, was {expected} at boot")


def kill(run: Run, times: int) -> None:
    """Kill a process that applies, and go on from whatever it left."""
    wishes = [wish(run.rng, run.machine) for _ in range(4)]
    for number in range(times):
        run.recent = [f"kill {number}"]
        started, ended = _killed_child(wishes, run.rng.uniform(0.02, 0.4))
        run.counts["kills"] += 1
        run.counts["kills in an apply"] += started > ended
        if run.rng.random() < 0.3:
            go_back(run, f"after kill {number}")
            continue
        with session() as applier:
            plan, report = settle(applier, run.rng.choice(wishes))
            run.event("plans", f"plan after kill {number}")
            check(run, f"after kill {number}", plan, report)
            check_idle(run, f"after kill {number}", applier, plan)


def _killed_child(wishes: list[Wish], seconds: float) -> tuple[int, int]:
    """How many applies a process had begun and ended when it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _apply_for_ever(wishes, writing)
    os.close(writing)
    os.read(reading, 1)  # it is about to begin
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    marks = b""
    while more := os.read(reading, 4096):
        marks += more
    os.close(reading)
    return marks.count(b"<"), marks.count(b">")


def _apply_for_ever(wishes: list[Wish], marks: int) -> None:
    try:
        with session() as applier:
            plans = [
                plan_node(item.intent, NodeInput(NODE, applier.machine, item.allocation))
                for item in wishes
            ]
            os.write(marks, b"!")
            while True:
                for plan in plans:
                    os.write(marks, b"<")
                    applier.apply(plan)
                    os.write(marks, b">")
    finally:
        os._exit(1)


def main() -> None:
    """Run the phases and print the report."""
    seed, plans, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    limit = int(sys.argv[4]) if len(sys.argv) > 4 else None
    began = time.monotonic()
    with session() as applier:
        machine = applier.machine
    boost = None if machine.boost is None else str(int(machine.boost))
    at_start = Around(frozenset(), boost, machine.driver_status)
    run = Run(Random(seed), machine, limit, at_start, {}, at_start)
    run.boot = shown_now(online(run))
    run.start[at_start.mode] = start_values(run)
    if at_start.mode is not None:
        other = {"active": "passive", "passive": "active"}[at_start.mode]
        surround(run, Around(frozenset(), boost, other))
        run.start[other] = start_values(run)
        surround(run, at_start)
        for path, (text, expected) in differing(run, run.boot).items():
            run.fault(f"{path} is {text} after a driver switch, was {expected} at boot")
    steps = chain(run, plans)
    alone(run, steps)
    go_back(run, "at the end of the chain")
    kill(run, kills)
    go_back(run, "at the end")
    report = {
        "driver": machine.domains[0].driver,
        "related": [list(domain.cpus) for domain in machine.domains],
        "counts": dict(sorted(run.counts.items())),
        "fault count": len(run.faults),
        "faults": run.faults[:MOST_FAULTS],
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
