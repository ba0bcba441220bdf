"""Inside a lab machine: the same random operations on the kernel's own /sys and on the kernel
model, with the same reads and errnos.

    python conformance.py SEED OPERATIONS SECONDS

Every write must end in the same errno on both sides. After it, the files that it can have changed
are read on both sides until they agree; the kernel has a bounded time for that, since it updates a
policy after the write returned. Descriptors that were opened earlier must die at the same moments.
After a disagreement both sides are put back to their start values, so that one does not cause the
next. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from attrs import evolve

from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel, start_values
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.machine import FrequencyDomain, Machine
from tests.kernel.inside import real_sysfs as real
from tests.kernel.inside import spellings
from tests.kernel.inside.real_sysfs import CPUS, attempt

#: Hardware maximum with boost by the one without, measured on the lab's cppc machine.
BOOSTED = {2_500_000: 2_956_522, 1_500_000: 1_923_077}
#: Seconds that the kernel has to show what the model shows; 0.99 s was the longest seen on a busy
#: host.
PATIENCE = 2.0
KEPT = 20  # disagreements in the report
TOLD = 8  # operations before a disagreement in the report
# a name that reads one way here and another way there is told so often, then passed over
ENOUGH = 3
POLICY_FILES = (
    "scaling_min_freq",
    "scaling_max_freq",
    "scaling_governor",
    "scaling_setspeed",
    "energy_performance_preference",
    "energy_performance_available_preferences",
    "scaling_available_governors",
    "scaling_available_frequencies",
    "cpuinfo_min_freq",
    "cpuinfo_max_freq",
    "amd_pstate_max_freq",
    "scaling_driver",
    "related_cpus",
    "affected_cpus",
    "boost",
)
READ_ONLY = (
    "cpuinfo_max_freq",
    "cpuinfo_min_freq",
    "related_cpus",
    "affected_cpus",
    "scaling_driver",
    "scaling_available_governors",
)
TOPOLOGY = (
    "physical_package_id",
    "die_id",
    "cluster_id",
    "core_id",
    "thread_siblings_list",
    "core_cpus_list",
)
NOT_THERE = ("cpufreq/nonsense", "cpuidle/state9/disable", "topology/nonsense", "nonsense")
#: Lists end in a blank under some drivers; nobody who reads a list can tell.
LISTS = (
    "scaling_available_governors",
    "scaling_available_frequencies",
    "energy_performance_available_preferences",
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One write. reach: the policy whose files it can change, or None
    for all files of the machine.
    """

    kind: str
    path: str
    data: bytes
    reach: int | None = None


@dataclass(slots=True)
class Facts:
    """What a machine has at boot, to choose operations from."""

    machine: Machine
    domains: dict[int, FrequencyDomain]
    marks: dict[int, tuple[int, ...]]
    idle: dict[int, int]
    amd: bool
    has_boost: bool
    removable: tuple[int, ...]


@dataclass(slots=True)
class Kept:
    """A descriptor of the kernel's and a watch of the model's on one
    file, opened at the same time.
    """

    path: str
    descriptor: int
    watch: object


@dataclass(slots=True)
class Run:
    """Both sides, and what has been found so far."""

    facts: Facts
    model: KernelModel
    kinds: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    comparisons: int = 0
    #: The first of each cause.
    disagreements: list[dict[str, object]] = field(default_factory=list)
    alike: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=TOLD))
    kept: list[Kept] = field(default_factory=list)
    #: Policies whose governor userspace began at a speed that only the load decided.
    unknown_speed: set[int] = field(default_factory=set)
    slowest: float = 0.0


def facts_of(machine: Machine) -> Facts:
    """What can be done to a machine."""
    marks = {}
    for domain in machine.domains:
        low, high = domain.hardware_min_khz or 0, domain.hardware_max_khz or 0
        marks[domain.id] = tuple(
            sorted({low, high, BOOSTED.get(high, high), (low + high) // 2, *domain.available_khz})
        )
    driver = machine.domains[0].driver or ""
    removable = tuple(cpu.id for cpu in machine.cpus if cpu.id or machine.architecture == "aarch64")
    idle = {cpu.id: len(cpu.idle) for cpu in machine.cpus}
    return Facts(
        machine,
        {domain.id: domain for domain in machine.domains},
        marks,
        idle,
        driver.startswith("amd-"),
        machine.boost is not None,
        removable,
    )


def model_of(machine: Machine, *, boots: bool) -> KernelModel:
    """The model of a machine. boots: whether its driver has not been exchanged since boot, which
    decides what EPP `default` means.
    """
    boosted = {
        domain.id: BOOSTED[domain.hardware_max_khz]
        for domain in machine.domains
        if domain.hardware_max_khz in BOOSTED
    }
    modes = {}
    if machine.driver_status is not None:
        passive = [
            evolve(domain, driver="amd-pstate", governors=spellings.GOVERNORS, epps=())
            for domain in machine.domains
        ]
        active = [
            evolve(
                domain,
                driver="amd-pstate-epp",
                governors=("performance", "powersave"),
                epps=("default", *spellings.PREFERENCES),
            )
            for domain in machine.domains
        ]
        modes = {
            "amd-pstate": {
                domain.id: start_values(domain, "schedutil", None) for domain in passive
            },
            "amd-pstate-epp": {
                domain.id: start_values(domain, "performance", "performance") for domain in active
            },
        }
    return KernelModel(
        machine,
        boosted=boosted,
        modes=modes,
        default_epp="performance" if boots else "balance_power",
    )


# --- choosing ---


def choose(rng: Random, facts: Facts) -> Operation:
    """A random operation."""
    domain = facts.domains[rng.choice(tuple(facts.domains))]
    chances: list[tuple[float, Callable[[], Operation]]] = [
        (22, partial(_limit, rng, facts, domain, "scaling_min_freq")),
        (22, partial(_limit, rng, facts, domain, "scaling_max_freq")),
        (
            10,
            lambda: _policy(
                rng,
                domain,
                "governor",
                "scaling_governor",
                spellings.governor(rng, domain.governors),
            ),
        ),
        (
            9,
            lambda: _policy(
                rng,
                domain,
                "speed",
                "scaling_setspeed",
                spellings.speed(rng, facts.marks[domain.id]),
            ),
        ),
        (
            9 if facts.amd else 1,
            lambda: _policy(
                rng, domain, "epp", "energy_performance_preference", spellings.preference(rng)
            ),
        ),
        (6, partial(_idle, rng, facts)),
        (
            3,
            lambda: _policy(
                rng, domain, "read-only", rng.choice(READ_ONLY), rng.choice((b"1\n", b""))
            ),
        ),
        (1, lambda: _odd_file(rng, facts)),
        (4, lambda: _online(rng, facts)),
        (
            4 if facts.has_boost and not facts.amd else 0.5,
            lambda: _policy(rng, domain, "policy boost", "boost", spellings.boost_switch(rng)),
        ),
        (
            2.5 if facts.has_boost and not facts.amd else 0.5,
            lambda: Operation("boost", f"{CPUS}/cpufreq/boost", spellings.boost_switch(rng)),
        ),
        (
            1.5 if facts.amd else 0.2,
            lambda: Operation("mode", f"{CPUS}/amd_pstate/status", spellings.mode(rng)),
        ),
    ]
    make = rng.choices([item for _, item in chances], [weight for weight, _ in chances])[0]
    return make()


def _policy(rng: Random, domain: FrequencyDomain, kind: str, name: str, data: bytes) -> Operation:
    """A write to a file of a policy, through its own folder or through
    the link of one of its CPUs.
    """
    folder = (
        f"{CPUS}/cpufreq/policy{domain.id}"
        if rng.random() < 0.5
        else f"{CPUS}/cpu{rng.choice(domain.cpus)}/cpufreq"
    )
    return Operation(kind, f"{folder}/{name}", data, domain.id)


def _limit(rng: Random, facts: Facts, domain: FrequencyDomain, name: str) -> Operation:
    return _policy(
        rng,
        domain,
        "limit",
        name,
        spellings.number(rng, spellings.frequency(rng, facts.marks[domain.id])),
    )


def _idle(rng: Random, facts: Facts) -> Operation:
    cpu = rng.choice(tuple(facts.idle))
    state = rng.randrange(facts.idle[cpu])
    return Operation(
        "idle",
        f"{CPUS}/cpu{cpu}/cpuidle/state{state}/disable",
        spellings.idle_switch(rng),
        facts.machine.by_id[cpu].domain,
    )


def _odd_file(rng: Random, facts: Facts) -> Operation:
    """A file that is not there, or one beside the policies that nobody may write."""
    cpu = rng.choice(tuple(facts.idle))
    odd = (
        *(f"cpu{cpu}/{name}" for name in NOT_THERE),
        "cpu77/online",
        f"cpu{cpu}/cpuidle/state0/name",
        f"cpu{cpu}/topology/core_id",
        "online",
        "present",
        "offline",
        "cpu0/online",
    )
    return Operation(
        "odd",
        f"{CPUS}/{rng.choice(odd)}",
        rng.choice((b"1\n", b"")),
        facts.machine.by_id[cpu].domain,
    )


def _online(rng: Random, facts: Facts) -> Operation:
    """A CPU goes or comes; somewhat more often it comes, so that there is something to write to."""
    return Operation(
        "online",
        f"{CPUS}/cpu{rng.choice(facts.removable)}/online",
        spellings.online_switch(rng, on=rng.random() < 0.6),
    )


# --- comparing ---


def files_of(run: Run, domain: FrequencyDomain, rng: Random) -> list[str]:
    """Files of one policy with its CPUs, each read through the policy or through a link."""
    folders = [
        f"{CPUS}/cpufreq/policy{domain.id}",
        *(f"{CPUS}/cpu{cpu}/cpufreq" for cpu in domain.cpus),
    ]
    found = [f"{rng.choice(folders)}/{name}" for name in POLICY_FILES]
    for cpu in domain.cpus:
        found += [
            f"{CPUS}/cpu{cpu}/cpuidle/state{state}/disable" for state in range(run.facts.idle[cpu])
        ]
    return [path for path in found if not _is_open_question(run, path, domain.id)]


def all_files(run: Run, rng: Random) -> list[str]:
    """Every file that both sides know."""
    roots = (
        "online",
        "offline",
        "present",
        "possible",
        "cpufreq/boost",
        "amd_pstate/status",
        "cpuidle/current_driver",
    )
    found = [f"{CPUS}/{name}" for name in roots]
    for domain in run.facts.domains.values():
        found += files_of(run, domain, rng)
    for cpu in run.facts.machine.cpus:
        found.append(f"{CPUS}/cpu{cpu.id}/online")
        found += [
            f"{CPUS}/cpu{cpu.id}/topology/{name}"
            for name in TOPOLOGY
            if name != "cluster_id" or cpu.cluster is not None
        ]
        found += [
            f"{CPUS}/cpu{cpu.id}/cpuidle/state{state.index}/{name}"
            for state in cpu.idle
            for name in ("name", "latency", "default_status")
        ]
    return found


def _is_open_question(run: Run, path: str, policy: int) -> bool:
    """Whether only the load decides what the file reads."""
    return path.endswith("/scaling_setspeed") and policy in run.unknown_speed


def shown(read: Callable[[str], object], path: str) -> object:
    """What a side reads, as text or the name of an errno."""
    found = attempt(read, path)
    if not isinstance(found, bytes):
        return found
    return found.rstrip(b" \n") if path.endswith(LISTS) else found


def differences(run: Run, paths: Iterable[str]) -> dict[str, tuple[object, object]]:
    """Files that the sides show differently: path → (kernel, model)."""
    found = {}
    for path in paths:
        pair = shown(real.read, path), shown(run.model.read, path)
        if pair[0] != pair[1] and run.alike[kind_of(path, *pair)] < ENOUGH:
            found[path] = pair
    return found


def kind_of(path: str, kernel: object, model: object) -> tuple[str, str, str]:
    """What disagreements of one cause mostly have in common: of a write, not what was written."""
    return path.partition(" b")[0].rpartition("/")[2], str(kernel), str(model)


def settle(run: Run, paths: Sequence[str]) -> dict[str, tuple[object, object]]:
    """Differences that stay however long one waits, within reason."""
    run.comparisons += len(paths)
    left = differences(run, paths)
    started = time.monotonic()
    pause = 0.001
    while left and time.monotonic() - started < PATIENCE:
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
        left = differences(run, left)
    run.slowest = max(run.slowest, time.monotonic() - started)
    return left


def folders_differ(run: Run) -> dict[str, tuple[object, object]]:
    """Folders in which discovery would find other names; the kernel's other files there do not
    matter.
    """
    found = {}
    for path in [f"{CPUS}/cpufreq", *(f"{CPUS}/cpu{cpu}/cpuidle" for cpu in run.facts.idle)]:
        sides = []
        for call in (real.names, run.model.list):
            names = attempt(call, path)
            sides.append(
                [name for name in names if name.startswith(("policy", "boost", "state"))]
                if isinstance(names, tuple)
                else names
            )
        # an empty folder and none are one to discovery
        if sides[0] != sides[1] and sides != [[], "ENOENT"]:
            found[path] = (sides[0], sides[1])
    return found


def keep(run: Run) -> None:
    """Open a file of every policy and one of every CPU's idle states on both sides."""
    for item in run.kept:
        os.close(item.descriptor)
    run.kept.clear()
    paths = [f"{CPUS}/cpufreq/policy{number}/scaling_max_freq" for number in run.facts.domains]
    for path in [*paths, *(f"{CPUS}/cpu{cpu}/cpuidle/state0/disable" for cpu in run.facts.idle)]:
        descriptor = attempt(os.open, f"/sys/{path}", os.O_RDONLY | os.O_CLOEXEC)
        if isinstance(descriptor, int):
            run.kept.append(Kept(path, descriptor, run.model.watch({path: b""})))


def kept_differ(run: Run) -> dict[str, tuple[object, object]]:
    """Kept files that are alive on one side only, or end in different errnos."""
    found: dict[str, tuple[object, object]] = {}
    for item in run.kept:
        sides = [attempt(os.pread, item.descriptor, 64, 0), attempt(item.watch.same)]  # type: ignore[attr-defined]
        alive = [side if isinstance(side, str) else "alive" for side in sides]
        if alive[0] != alive[1]:
            found[f"kept {item.path}"] = (alive[0], alive[1])
    return found


# --- running ---


def note_speed(run: Run, operation: Operation, before: dict[int, str], *, taken: bool) -> None:
    """Keep track of the policies in governor userspace whose speed nobody has asked for."""
    for number in run.facts.domains:
        governor = shown(run.model.read, f"{CPUS}/cpufreq/policy{number}/scaling_governor")
        if governor != b"userspace\n":
            if governor != "EBUSY":
                run.unknown_speed.discard(number)
        elif before.get(number) in _undecided(run, number):
            run.unknown_speed.add(number)
        elif operation.kind == "speed" and operation.reach == number and taken and operation.data:
            run.unknown_speed.discard(number)
        elif operation.kind == "online" and taken:
            run.unknown_speed.add(number)  # the governor starts anew at whatever the frequency is


def _undecided(run: Run, policy: int) -> tuple[str, ...]:
    """Governors after which userspace begins at a speed of its own: the load's, or what the
    firmware's scale makes of it.
    """
    by_load = ("ondemand", "conservative", "schedutil")
    return (
        (*by_load, "performance", "powersave")
        if run.facts.domains[policy].driver == "cppc_cpufreq"
        else by_load
    )


def governors(model: KernelModel) -> dict[int, str]:
    """The governor of every policy of the model."""
    return {number: policy.governor for number, policy in model.policies.items()}


def step(run: Run, operation: Operation, rng: Random) -> dict[str, tuple[object, object]]:
    """Do one operation on both sides and return what differs."""
    before = governors(run.model)
    results = (
        attempt(real.write, operation.path, operation.data),
        attempt(run.model.write, operation.path, operation.data),
    )
    run.comparisons += 1
    run.kinds[operation.kind] += 1
    if isinstance(results[0], str):
        run.refusals[results[0]] += 1
    run.recent.append(
        f"{operation.path.removeprefix(CPUS)} {operation.data!r} {results[0] or 'ok'}"
    )
    if results[0] != results[1]:
        return {
            f"write {operation.path} {operation.data!r}": (results[0] or "ok", results[1] or "ok")
        }
    note_speed(run, operation, before, taken=results[0] is None)
    if operation.reach is not None and rng.random() < 0.97:
        other = run.facts.domains[rng.choice(tuple(run.facts.domains))]
        paths = files_of(run, run.facts.domains[operation.reach], rng)
        return settle(
            run, paths if other.id == operation.reach else [*paths, *files_of(run, other, rng)]
        )
    left = settle(run, all_files(run, rng)) | folders_differ(run) | kept_differ(run)
    if results[0] is None and operation.reach is None and rng.random() < 0.5:
        keep(run)
    return left


def start_again(run: Run, mode: str | None) -> None:
    """Bring the kernel to its start values, requests included, and make a new model of it."""
    for cpu in run.facts.removable:
        attempt(real.write, f"{CPUS}/cpu{cpu}/online", b"1")
    if mode is not None:
        for word in ("passive" if mode == "active" else "active", mode):
            attempt(real.write, f"{CPUS}/amd_pstate/status", word.encode())
    for boost in (b"1", b"0"):
        attempt(real.write, f"{CPUS}/cpufreq/boost", boost)
    for domain in run.facts.domains.values():
        start = domain.settings.governor or ""
        for name, text in (
            ("scaling_governor", start),
            ("scaling_min_freq", "4294967295"),
            ("scaling_max_freq", "4294967295"),
        ):
            attempt(real.write, f"{CPUS}/cpufreq/policy{domain.id}/{name}", text.encode())
    for cpu, states in run.facts.idle.items():
        for state in range(states):
            attempt(real.write, f"{CPUS}/cpu{cpu}/cpuidle/state{state}/disable", b"0")
    time.sleep(PATIENCE / 2)
    run.model = model_of(discover(SysfsHost("/sys")).machine, boots=False)
    run.unknown_speed.clear()
    run.recent.clear()
    keep(run)


def walk(run: Run, rng: Random, operations: int, seconds: float) -> None:
    """Do random operations until there are enough of them or the time is over."""
    mode = run.facts.machine.driver_status
    ends = time.monotonic() + seconds
    found = settle(run, all_files(run, rng)) | folders_differ(run)
    keep(run)
    while True:
        for path, (kernel, model) in found.items():
            cause = kind_of(path, kernel, model)
            run.alike[cause] += 1
            if run.alike[cause] == 1:
                run.disagreements.append(
                    {
                        "file": path,
                        "kernel": str(kernel),
                        "model": str(model),
                        "operation": run.kinds.total(),
                        "after": list(run.recent),
                    }
                )
        if found:
            start_again(run, mode)
        if (
            run.kinds.total() >= operations
            or time.monotonic() > ends
            or run.alike.total() > 5 * KEPT
        ):
            return
        found = step(run, choose(rng, run.facts), rng)


def main() -> None:
    """Run and print the report."""
    seed, operations, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    started = time.monotonic()
    machine = discover(SysfsHost("/sys")).machine
    run = Run(facts_of(machine), model_of(machine, boots=True))
    walk(run, Random(seed), operations, seconds)
    report = {
        "driver": machine.domains[0].driver,
        "related": [list(domain.cpus) for domain in machine.domains],
        "operations": run.kinds.total(),
        "kinds": dict(run.kinds),
        "refusals": dict(run.refusals),
        "comparisons": run.comparisons,
        "disagreement count": run.alike.total(),
        "disagreements": run.disagreements[:KEPT],
        "slowest update": round(run.slowest, 3),
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
