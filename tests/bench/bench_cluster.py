"""How soon the CPUs of a pod are tuned on a real node (make bench-cluster).

Pods one after the other, each Guaranteed with one whole CPU. Clocked from the kubelet's log line
"SyncLoop ADD" of the pod: the last write to the machine's files (inotify), and the container's
first instruction, which prints a line that the container runtime notes the time of. The third
figure is what a pod may notice: how long it ran before its CPU was as it asks. Once by the kubelet
alone, once with the runtime (NRI). Prints a table and writes bench-results/cluster*.json.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from tests.apiserver.envtest import prepare
from tests.bench.report import keep, report
from tests.cluster import story
from tests.cluster.cluster import NAMESPACE, Cluster, new_folder
from tests.cluster.steps import wait_for

PODS = int(os.environ.get("KPM_BENCH_PODS", "50"))
_FIRST = ["/bin/sh", "-c", "echo; trap 'exit 0' TERM; while :; do sleep 0.2; done"]


def admitted(cluster: Cluster, name: str) -> float:
    """When the kubelet heard of a pod: seconds since the epoch."""
    lines = cluster.node.log("kubelet").read_text(errors="replace").splitlines()
    line = next(
        line for line in reversed(lines) if '"SyncLoop ADD"' in line and f"default/{name}" in line
    )
    found = re.match(r"I(\d\d)(\d\d) (\S+)", line)
    assert found is not None, line
    year = datetime.now(UTC).year
    return datetime.fromisoformat(f"{year}-{found[1]}-{found[2]}T{found[3]}Z").timestamp()


def one(cluster: Cluster, name: str) -> tuple[float, float]:
    """Seconds from the kubelet's word to the last write, and to the
    container's first instruction.
    """
    item = story.pod(name)
    item["spec"]["containers"][0]["command"] = _FIRST
    with cluster.tree.watched() as written:
        cluster.apply(item)
        wait_for(f"{name} runs", lambda: story.running(cluster, name))
        story.shows(cluster.tree, story.FAST)
        time.sleep(0.3)  # whatever would be written after that
    noted = cluster.kubectl("logs", "--timestamps", name).split()[0]
    first = datetime.fromisoformat(noted).timestamp()
    began = admitted(cluster, name)
    story.end(cluster, name)
    story.shows(cluster.tree, story.SHARED)
    return max(event.at for event in written) - began, first - began


def way(cluster: Cluster, source: str) -> dict[str, float]:
    """The figures of one way to learn of containers, of the PowerConfig's agent.source."""
    first = cluster.agent()
    cluster.kubectl(
        "patch",
        "powerconfig",
        "power-config",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        json.dumps({"spec": {"agent": {"source": source}}}),
    )
    story.agent_ready(cluster, but=first)
    one(cluster, "warm")
    found = [one(cluster, f"{source}-{number}") for number in range(PODS)]
    series = {
        "last_write_ms": [write * 1000 for write, _ in found],
        "first_instruction_ms": [first * 1000 for _, first in found],
        "ran_before_tuned_ms": [(write - first) * 1000 for write, first in found],
    }
    keep(f"cluster-{source}", series)
    figures: dict[str, float] = {}
    for name, values in series.items():
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        figures |= {f"{source}_{name}_p50": cuts[49], f"{source}_{name}_p99": cuts[98]}
    return figures


def main() -> None:
    cluster = Cluster(
        new_folder(), prepare(cluster=True), key_usage="KPM_CLUSTER_KEY_USAGE" in os.environ
    )
    try:
        cluster.start()
        story.install(cluster)
        results = {"pods": float(PODS), **way(cluster, "podresources"), **way(cluster, "nri")}
    finally:
        cluster.stop()
        cluster.remove()
    report("cluster", results, {})


if __name__ == "__main__":
    main()
