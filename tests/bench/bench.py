"""Costs of the core as ratios to a floor measured in the same process (make bench).

Prints a table and writes bench-results/core.json. Times are minima of many runs, and only told; the
ratios are judged.
"""

import gc
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

import yaml

from kpm.formats.views import machine_view
from kpm.request.machines import MODELS, MachineSpec, build_machine
from kpm.simulate.scenario import read_scenario
from kpm.simulate.simulation import run
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.allocation import Allocation, ContainerCpus
from kpm_planner.model.cluster import Container, Meta, Node, Pod
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import (
    CStates,
    Intent,
    PowerProfile,
    PowerWorkload,
    PStates,
    ReservedCpus,
)
from kpm_planner.plan import NodeInput, NodePlan, plan_cluster, plan_node
from tests.bench.floor import by_turns, children_time, start, usual_work
from tests.bench.report import REPO, report
from tests.trees import write_tree

SPEC_256 = MachineSpec(
    packages=2,
    cores=64,
    threads=2,
    epp="balance_performance",
    idle_driver="intel_idle",
    idle_states=MODELS["xeon"].idle_states,
)
SPEC_128 = MachineSpec(
    packages=2,
    cores=32,
    threads=2,
    epp="balance_performance",
    idle_driver="intel_idle",
    idle_states=MODELS["xeon"].idle_states,
)


def fastest(work: Callable[[], object], runs: int = 30) -> float:
    """Seconds of the fastest of some runs."""
    best = math.inf
    gc.disable()
    for _ in range(runs):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    gc.enable()
    return best


def shared_intent(max_mhz: int, *, off: str, epp: str) -> Intent:
    """A policy that sets every file of every CPU but two."""
    profile = PowerProfile(
        Meta("s"),
        shared=True,
        pstates=PStates(min=max_mhz - 200, max=max_mhz, epp=epp),
        cstates=CStates(names=dict.fromkeys(("POLL", "C1", "C1E", "C6"), off == "")),
    )
    workload = PowerWorkload(
        Meta("w"),
        all_cores=True,
        reserved_cpus=(ReservedCpus((0, 1)),),
        power_node_selector={"h": "n"},
        power_profile="s",
    )
    return Intent((profile,), (workload,))


def node_plan(intent: Intent, machine: Machine) -> NodePlan:
    """The plan of the one node of these benches."""
    return plan_node(intent, NodeInput(Node("n", {"h": "n"}), machine))


def bench_applier(folder: Path) -> dict[str, float]:
    """Passes over 256 CPUs with EPP and four idle states, on files."""
    host = write_tree(KernelModel(build_machine(SPEC_256)), folder)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    applier = Applier(host, StateStore(str(folder / "state"), host.root, live=False))
    applier.open()
    one = node_plan(shared_intent(1500, off="x", epp="power"), applier.machine)
    two = node_plan(shared_intent(1900, off="", epp="balance_power"), applier.machine)
    applier.apply(one)
    applier.changed()
    for _ in range(2):
        assert not applier.apply(one).writes
    watched: Any = applier._watch
    sentinel: Any = applier._sentinels
    descriptors = [entry[0] for entry in watched.entries]
    sentinels = [entry[0] for entry in sentinel.entries]

    def bare_reads() -> None:
        pread = os.pread
        for descriptor in descriptors:
            pread(descriptor, 64, 0)

    def bare_pass() -> None:
        bare_reads()
        pread = os.pread
        for descriptor in sentinels:
            pread(descriptor, 64, 0)

    def idle_pass() -> None:
        assert not applier.changed()
        assert not applier.apply(one).writes

    floor = fastest(bare_pass, 60)
    idle = fastest(idle_pass, 60)
    opened: list[str] = []
    with (
        mock.patch("os.open", side_effect=lambda *args, **_: opened.append(str(args))),
        mock.patch("os.pwrite", side_effect=AssertionError),
    ):
        idle_pass()
    return {
        "idle_files": len(descriptors) + len(sentinels),
        "idle_floor_ms": floor * 1e3,
        "idle_pass_ms": idle * 1e3,
        "idle_ratio": idle / floor,
        "idle_opens": len(opened),
        **bench_change(applier, one, two),
    }


def bench_change(applier: Applier, one: NodePlan, two: NodePlan) -> dict[str, float]:
    """A change of every managed file of 254 CPUs, against the bare writes and one bare read of the
    same files.
    """
    host = applier.host
    report = applier.apply(two)
    paths = [write.path for write in report.writes]
    data = {write.path: f"{write.value}\n".encode() for write in report.writes}
    before = {write.path: f"{write.old}\n".encode() for write in report.writes}
    assert isinstance(host, SysfsHost)
    host.keep(paths)
    kept = [(host._kept[path], data[path]) for path in paths]
    back = [(host._kept[path], before[path]) for path in paths]

    def bare(pairs: list[tuple[int, bytes]]) -> None:
        pwrite, pread, truncate = os.pwrite, os.pread, os.ftruncate
        for descriptor, text in pairs:
            pwrite(descriptor, text, 0)
            truncate(descriptor, len(text))
        for descriptor, _ in pairs:
            pread(descriptor, 64, 0)

    floors, changes = [], []
    for turn in range(120):
        plan, pairs = ((one, back), (two, kept))[turn % 2]
        assert not applier.apply((two, one)[turn % 2]).writes  # an idle pass, as before any change
        gc.disable()
        start = time.perf_counter()
        made = applier.apply(plan)
        changes.append(time.perf_counter() - start)
        assert len(made.writes) == len(paths), (len(made.writes), len(paths))
        start = time.perf_counter()
        bare(pairs)
        floors.append(time.perf_counter() - start)
        gc.enable()
    floor, change = min(floors), min(changes)
    return {
        "change_files": len(paths),
        "change_floor_ms": floor * 1e3,
        "change_ms": change * 1e3,
        "change_ratio": change / floor,
    }


def bench_plan_node() -> dict[str, float]:
    """plan_node with 256 CPUs, 20 profiles, 110 pods."""
    profiles = [
        PowerProfile(
            Meta(f"p{n}"),
            pstates=PStates(min="20%", max=2000 + n, epp="power"),
            cstates=CStates(max_latency_us=10),
        )
        for n in range(19)
    ]
    profiles.append(PowerProfile(Meta("s"), shared=True, pstates=PStates(max=1500)))
    workload = PowerWorkload(
        Meta("w"),
        all_cores=True,
        reserved_cpus=(ReservedCpus((0, 1, 128, 129)),),
        power_node_selector={"h": "n"},
        power_profile="s",
    )
    pods, reported = [], []
    for number in range(110):
        resources = ((f"power.openshift.io/p{number % 19}", 2),)
        container = Container("c", (2, 2), (1, 1), resources)
        created = datetime(2026, 1, 1, 0, number % 60, tzinfo=UTC)
        pods.append(
            Pod(
                Meta(f"pod{number}", "default", uid=str(number), created=created),
                (container,),
                phase="Running",
                guaranteed=True,
            )
        )
        reported.append(
            ContainerCpus("default", f"pod{number}", "c", frozenset({2 + number, 130 + number}))
        )
    item = NodeInput(
        Node("n", {"h": "n"}), build_machine(SPEC_256), Allocation(tuple(pods), tuple(reported))
    )
    intent = Intent(tuple(profiles), (workload,))
    assert not plan_node(intent, item).problems
    floor, took = by_turns([usual_work, lambda: plan_node(intent, item)], 100)
    return {
        "plan_node_floor_ms": floor * 1e3,
        "plan_node_ms": took * 1e3,
        "plan_node_ratio": took / floor,
    }


def bench_plan_cluster() -> dict[str, float]:
    """plan_cluster over 10, 100, 1,000 nodes of 128 CPUs; the exponent of its growth."""
    intent = shared_intent(1500, off="x", epp="power")
    times = {}
    for count in (10, 100, 1000):
        items = [
            NodeInput(Node(f"n{number}", {"h": "n"}), build_machine(SPEC_128))
            for number in range(count)
        ]
        times[count] = fastest(partial(plan_cluster, intent, items), 3 if count == 1000 else 8)
    exponent = math.log(times[1000] / times[10]) / math.log(100)
    return {
        **{f"plan_cluster_{count}_ms": seconds * 1e3 for count, seconds in times.items()},
        "plan_cluster_exponent": exponent,
    }


def bench_process(folder: Path) -> dict[str, float]:
    """`kpm plan` as a process, on a described machine of 256 CPUs, against an interpreter that
    imports three libraries, which any program with such files would.
    """
    machine, objects = folder / "machine.json", folder / "objects.yaml"
    machine.write_text(json.dumps(machine_view(build_machine(SPEC_256))))
    objects.write_text(yaml.safe_dump_all(_policy("n")))
    argv = [
        sys.executable,
        "-m",
        "kpm",
        "plan",
        "-f",
        str(objects),
        "--machine",
        str(machine),
        "--node",
        "n",
        "-o",
        "json",
    ]
    # compiled once, as it is where it is installed
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    start(argv, environment, str(REPO))
    works = [
        lambda words=words: start(words, environment, str(REPO))
        for words in (
            [sys.executable, "-c", "pass"],
            [sys.executable, "-c", "import attrs, click, yaml"],
            argv,
        )
    ]
    empty_s, floor_s, took_s = by_turns(works, 10, time.perf_counter)
    _, floor, took = by_turns(works, 10, children_time)
    return {
        "process_empty_ms": empty_s * 1e3,
        "process_floor_ms": floor_s * 1e3,
        "plan_process_ms": took_s * 1e3,
        "process_floor_cpu_ms": floor * 1e3,
        "plan_process_cpu_ms": took * 1e3,
        "plan_process_ratio": took / floor,
    }


def _policy(label: str) -> list[dict[str, object]]:
    meta = {"namespace": "power-manager"}
    spec = {
        "shared": True,
        "pstates": {"min": 1000, "max": 1500, "epp": "power"},
        "cstates": {"names": {"C6": False}},
    }
    selector = {"pool": label}
    return [
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": "PowerProfile",
            "metadata": {"name": "s", **meta},
            "spec": spec,
        },
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": "PowerProfile",
            "metadata": {"name": "fast", **meta},
            "spec": {"pstates": {"min": "80%"}, "cpuCapacity": "50%"},
        },
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": "PowerWorkload",
            "metadata": {"name": "w", **meta},
            "spec": {
                "allCores": True,
                "powerProfile": "s",
                "powerNodeSelector": selector,
                "reservedCPUs": [{"cores": [0, 64]}],
            },
        },
    ]


def scenario_of(nodes: int, steps: int) -> dict[str, object]:
    """A cluster of 128-CPU nodes, a policy edited now and then, pods that come and go, somebody who
    meddles.
    """

    def pods(number: int) -> dict[str, object]:
        return {
            "metadata": {"name": f"pod-{number}", "namespace": "default"},
            "spec": {
                "nodeName": f"node-{number * 37 % nodes}",
                "containers": [
                    {
                        "name": "c",
                        "resources": {
                            "limits": {"cpu": 4, "memory": "1Gi", "power.openshift.io/fast": 4}
                        },
                    }
                ],
            },
        }

    timeline: list[dict[str, object]] = []
    for number in range(steps):
        if number % 25 == 0:
            objects = _policy("all")
            objects[0]["spec"]["pstates"]["max"] = 1500 + number * 10  # type: ignore[index]
            timeline.append({"name": "policy", "apply": objects})
        elif number % 10 == 9:
            path = "devices/system/cpu/cpu5/cpufreq/scaling_max_freq"
            timeline.append(
                {
                    "name": "meddle",
                    "write": [{"node": f"node-{number}", "path": path, "value": 900000}],
                }
            )
        else:
            timeline.append(
                {"name": "pods", "start": [pods(number * 20 + extra) for extra in range(20)]}
            )
    machine = {
        "packages": 2,
        "cores": 32,
        "threads": 2,
        "epp": "balance_performance",
        "idleDriver": "intel_idle",
        "idleStates": [{"name": "POLL"}, {"name": "C6", "latencyUs": 133}],
    }
    return {
        "version": 1,
        "nodes": [
            {
                "name": "node",
                "count": nodes,
                "labels": {"pool": "all"},
                "reserved": "0,64",
                "machine": machine,
            }
        ],
        "steps": timeline,
    }


def bench_simulation(folder: Path) -> dict[str, float]:
    """1,000 nodes of 128 CPUs, 50 steps; in a process of its own, for its memory. The floor,
    between the steps, is the usual work once a node.
    """
    nodes, steps, floor, took = 1000, 50, 0.0, 0.0
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario_of(nodes, steps)))
    began = time.perf_counter()
    views = run(read_scenario(str(path)))
    while True:
        before = time.thread_time()
        view = next(views, None)
        between = time.thread_time()
        took += between - before
        if view is None:
            break
        assert not view.differences
        for _ in range(nodes // steps):
            usual_work()
        floor += time.thread_time() - between
    return {
        "simulation_s": time.perf_counter() - began - floor,
        "simulation_floor_s": floor,
        "simulation_cpu_s": took,
        "simulation_ratio": took / floor,
    }


LIMITS = {
    "idle_ratio": 1.3,
    "idle_opens": 0,
    "change_ratio": 2.0,
    # a quarter above what it is: planning each CPU once more would double it
    "plan_node_ratio": 3.2,
    # a quarter above what it is: a client of the API among the imports costs as much
    "plan_process_ratio": 5.0,
    "plan_cluster_exponent": 1.1,
    # half above what it is: a second plan of every node a step would double it
    "simulation_ratio": 40.0,
}


BENCHES: dict[str, Callable[[Path], dict[str, float]]] = {
    "plan_node": lambda _: bench_plan_node(),
    "plan_cluster": lambda _: bench_plan_cluster(),
    "applier": bench_applier,
    "process": bench_process,
    "simulation": bench_simulation,
}


def run_one(name: str) -> None:
    """Run one bench and print its results as JSON; in a process of its own, for its memory."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        print(json.dumps(BENCHES[name](Path(folder))))


def run_in_child(name: str) -> dict[str, float]:
    """The results of one bench, with the peak memory of its process
    and of those that it started.
    """
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(
            [sys.executable, __file__, name],
            stdout=out,
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": str(REPO)},
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"bench {name} ended with {child.returncode}")
        out.seek(0)
        return {**json.load(out), f"{name}_peak_mib": usage.ru_maxrss / 1024}


def main() -> None:
    """Run all benches, print them with what is asked, write them."""
    results: dict[str, float] = {}
    for name in BENCHES:
        results.update(run_in_child(name))
    report("core", results, LIMITS)


if __name__ == "__main__":
    if sys.argv[1:]:
        run_one(sys.argv[1])
    else:
        main()
