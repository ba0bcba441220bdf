"""Small /sys trees in real folders, in the shape of the kernel's."""

import os
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen

CPU = "devices/system/cpu"


@frozen
class Tree:
    """What a tree shows. Units: kHz, µs. threads: siblings are neighbours."""

    cpus: int = 4
    threads: int = 2
    packages: int = 1
    driver: str = "intel_pstate"
    low: int = 800000
    high: int = 3700000
    governors: str = "performance powersave"
    governor: str = "powersave"
    epp: str | None = "balance_performance"
    domain: int = 1
    states: Sequence[tuple[str, int]] = (("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 133))
    uncore: bool = True
    no_turbo: str | None = "0"
    offline: Sequence[int] = ()


INTEL = Tree()
SHARED_DOMAINS = Tree(
    driver="cppc_cpufreq",
    threads=1,
    low=400000,
    high=2500000,
    governors="performance schedutil powersave",
    governor="schedutil",
    epp=None,
    domain=2,
    states=(("LPI-0", 1), ("LPI-1", 100)),
    uncore=False,
    no_turbo=None,
)
NO_POWER = Tree(driver="", states=(), uncore=False, no_turbo=None)
TREES = {
    "intel": INTEL,
    "arm": SHARED_DOMAINS,
    "vm": NO_POWER,
    "offline": evolve(INTEL, cpus=8, offline=(3, 6)),
}


def put(root: Path, path: str, value: object) -> None:
    """Write one file of a tree as the kernel shows it, with a newline."""
    file = f"{root}/{path}"
    if not os.path.isdir(os.path.dirname(file)):
        os.makedirs(os.path.dirname(file))
    with open(file, "w", encoding="utf-8") as out:
        out.write(f"{value}\n")


def build_tree(root: Path, tree: Tree = INTEL) -> Path:
    """Make the tree in the folder `root` and return it."""
    online = [cpu for cpu in range(tree.cpus) if cpu not in tree.offline]
    put(root, f"{CPU}/present", f"0-{tree.cpus - 1}")
    put(root, f"{CPU}/possible", f"0-{tree.cpus - 1}")
    put(root, f"{CPU}/online", ",".join(map(str, online)))
    put(root, f"{CPU}/offline", ",".join(map(str, tree.offline)))
    put(root, f"{CPU}/cpuidle/current_driver", "intel_idle" if tree.states else "none")
    for cpu in online:
        _build_cpu(root, tree, cpu)
    if tree.driver:
        for first in range(0, tree.cpus, tree.domain):
            _build_domain(
                root,
                tree,
                [cpu for cpu in range(first, min(first + tree.domain, tree.cpus)) if cpu in online],
            )
    if tree.no_turbo is not None:
        put(root, f"{CPU}/intel_pstate/no_turbo", tree.no_turbo)
        put(root, f"{CPU}/intel_pstate/status", "active")
    for package in range(tree.packages if tree.uncore else 0):
        for name, value in {
            "initial_min_freq_khz": 800000,
            "initial_max_freq_khz": 2400000,
            "min_freq_khz": 800000,
            "max_freq_khz": 2400000,
        }.items():
            put(root, f"{CPU}/intel_uncore_frequency/package_{package:02d}_die_00/{name}", value)
    return root


def _build_cpu(root: Path, tree: Tree, cpu: int) -> None:
    folder = f"{CPU}/cpu{cpu}"
    first = cpu // tree.threads * tree.threads
    siblings = ",".join(
        str(number) for number in range(first, first + tree.threads) if number not in tree.offline
    )
    per_package = tree.cpus // tree.packages
    for name, value in {
        "physical_package_id": cpu // per_package,
        "die_id": 0,
        "core_id": cpu // tree.threads,
        "thread_siblings_list": siblings,
    }.items():
        put(root, f"{folder}/topology/{name}", value)
    for number, (name, latency) in enumerate(tree.states):
        for file, value in {
            "name": name,
            "latency": latency,
            "disable": 0,
            "default_status": "enabled",
        }.items():
            put(root, f"{folder}/cpuidle/state{number}/{file}", value)


def _build_domain(root: Path, tree: Tree, cpus: list[int]) -> None:
    if not cpus:
        return
    folder = f"{CPU}/cpufreq/policy{cpus[0]}"
    listed = " ".join(map(str, cpus))
    files = {
        "related_cpus": listed,
        "affected_cpus": listed,
        "scaling_driver": tree.driver,
        "cpuinfo_min_freq": tree.low,
        "cpuinfo_max_freq": tree.high,
        "scaling_available_governors": tree.governors,
        "scaling_governor": tree.governor,
        "scaling_min_freq": tree.low,
        "scaling_max_freq": tree.high,
    }
    if tree.epp is not None:
        files["energy_performance_available_preferences"] = (
            "default performance balance_performance balance_power power"
        )
        files["energy_performance_preference"] = tree.epp
    for name, value in files.items():
        put(root, f"{folder}/{name}", value)
    for cpu in cpus:
        (root / f"{CPU}/cpu{cpu}/cpufreq").symlink_to(f"../cpufreq/policy{cpus[0]}")
