"""Inside a lab machine: turbo off and on through `python -m kpm`, with a limit that a person set by
hand before.

    python turbo.py

Prints one line of JSON: for every command its exit status, both streams, and what switch and limits
showed afterwards.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.kernel.inside import commands
from tests.kernel.inside import real_sysfs as real
from tests.kernel.inside.real_sysfs import CPUS

POLICY = Path("/tmp/policy.yaml")
SWITCH = f"{CPUS}/cpufreq/boost"
OBJECTS = """
apiVersion: v1
kind: Node
metadata: {{name: n, labels: {{kubernetes.io/hostname: n}}}}
---
apiVersion: power.openshift.io/v1
kind: PowerNodeConfig
metadata: {{name: all, namespace: power-manager}}
spec:
  nodeSelector: {{labelSelector: {{}}}}
  turbo: {turbo}
{rest}
"""
POOLS = """  sharedPowerProfile: full
  reservedCPUs: [{cores: [0, 1]}]
---
apiVersion: power.openshift.io/v1
kind: PowerProfile
metadata: {name: full, namespace: power-manager}
spec: {shared: true, pstates: {min: "50%", max: "100%"}}
"""


def look() -> dict[str, str]:
    """The switch, and limits and hardware maximum of every CPU."""
    names = ("scaling_min_freq", "scaling_max_freq", "scaling_governor")
    return {
        "switch": real.text(SWITCH),
        **{
            f"cpu{cpu}/{name}": real.text(f"{CPUS}/cpu{cpu}/cpufreq/{name}")
            for cpu in range(4)
            for name in names
        },
    }


def tops() -> list[int]:
    """Hardware maximum of every CPU."""
    return [int(real.text(f"{CPUS}/cpu{cpu}/cpufreq/cpuinfo_max_freq")) for cpu in range(4)]


def step(report: dict[str, object], name: str, *words: str) -> None:
    """One command, and what there is after it."""
    done = commands.kpm(*words)
    report[name] = {**done, "look": look(), "tops": tops()}


def main() -> None:
    """Run the commands and print the report."""
    report: dict[str, object] = {"taken": real.attempt(real.write, SWITCH, b"1") is None}
    by_hand = min(tops()[0], tops()[1]) - 50_000
    real.attempt(real.write, f"{CPUS}/cpu0/cpufreq/scaling_max_freq", f"{by_hand}\n".encode())
    time.sleep(0.5)  # a policy shows a request some time after its write (K2)
    report["before"], report["tops"] = look(), tops()
    files = ("-f", str(POLICY), "--node", "n")
    for name, turbo, rest in (
        ("off", "false", ""),
        ("off with pools", "false", POOLS),
        ("on with pools", "true", POOLS),
        ("off again", "false", POOLS),
    ):
        POLICY.write_text(OBJECTS.format(turbo=turbo, rest=rest))
        step(report, name, "apply", *files, "-o", "json")
        step(report, f"{name}, twice", "apply", *files, "-o", "json")
    step(report, "restore", "restore")
    commands.kpm("apply", *files)  # off, as the policy says still
    real.attempt(real.write, f"{CPUS}/cpu3/online", b"0")
    POLICY.write_text(OBJECTS.format(turbo="true", rest=POOLS))
    report["on with a CPU away"] = commands.kpm("apply", *files, "-o", "json")
    real.attempt(real.write, f"{CPUS}/cpu3/online", b"1")
    step(report, "on with it back", "apply", *files, "-o", "json")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
