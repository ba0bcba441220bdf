"""Inside a lab machine: what `python -m kpm` does to the real /sys, command by command, as a person
would type them.

    python commands.py

Prints one line of JSON: for every command its exit status, both streams, and what the managed files
showed afterwards.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path

from tests.kernel.inside import real_sysfs as real
from tests.kernel.inside.real_sysfs import CPUS

STATE = Path("/tmp/kpm-state")
ELSEWHERE = Path("/tmp/elsewhere")
POLICY = Path("/tmp/policy.yaml")
ARM = platform.machine() == "aarch64"
CPUFREQ_FILES = (
    "scaling_governor",
    "energy_performance_preference",
    "scaling_min_freq",
    "scaling_max_freq",
)
#: On the x86 machine C2 and C3 take longer than 2 µs, on the arm64 one LPI-1.
PSTATES = (
    "{min: 1000, max: 1400, governor: performance}"
    if ARM
    else "{min: 1000, max: 1400, governor: powersave, epp: power}"
)
OBJECTS = f"""
apiVersion: v1
kind: Node
metadata: {{name: n, labels: {{kubernetes.io/hostname: n}}}}
---
apiVersion: power.openshift.io/v1
kind: PowerProfile
metadata: {{name: quiet, namespace: power-manager}}
spec:
  shared: true
  pstates: {PSTATES}
  cstates: {{maxLatencyUs: 2}}
---
apiVersion: power.openshift.io/v1
kind: PowerWorkload
metadata: {{name: all, namespace: power-manager}}
spec:
  allCores: true
  powerProfile: quiet
  powerNodeSelector: {{kubernetes.io/hostname: n}}
  reservedCPUs: [{{cores: [0, 1]}}]
"""


def look() -> dict[str, str]:
    """What every managed file shows, without the path that they have in common."""
    found = {}
    for cpu in range(4):
        folder = f"{CPUS}/cpu{cpu}"
        states = [
            path.removeprefix("/sys/")
            for path in sorted(glob.glob(f"/sys/{folder}/cpuidle/state*/disable"))
        ]
        for path in [*(f"{folder}/cpufreq/{name}" for name in CPUFREQ_FILES), *states]:
            found[path.removeprefix(f"{CPUS}/")] = real.text(path)
    return found


def kpm(*words: str, standard_input: str = "", **variables: str) -> dict[str, object]:
    """Run one command line."""
    done = subprocess.run(
        [sys.executable, "-m", "kpm", *words],
        input=standard_input,
        env={**os.environ, "KPM_STATE_DIR": str(STATE), **variables},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr, "look": look()}


def state_of(folder: Path) -> dict[str, object]:
    """What is kept below a state folder: its mode, its files with their modes, and the groups in
    them.
    """
    if not folder.exists():
        return {}
    files = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in sorted(folder.iterdir())}
    groups = [
        group
        for path in folder.glob("*.json")
        for record in json.loads(path.read_text())["records"]
        for group in record["groups"]
    ]
    return {
        "mode": oct(stat.S_IMODE(folder.stat().st_mode)),
        "files": files,
        "groups": sorted(groups),
    }


def while_locked(*words: str) -> dict[str, object]:
    """Run a command while another process holds the lock of the state."""
    descriptor = os.open(STATE / "sys.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return kpm(*words)
    finally:
        os.close(descriptor)


def main() -> None:
    """Run the commands and print the report."""
    POLICY.write_text(OBJECTS)
    wrong = OBJECTS.replace("max: 1400", "max: 14 GHz")
    unknown = OBJECTS.replace("powerProfile", "powerProfiel")
    files = ("-f", str(POLICY), "--node", "n")
    report: dict[str, object] = {"boot": look()}
    report["discover"] = kpm("discover", "-o", "json")
    report["diff before"] = kpm("diff", "--files", *files)
    report["dry run"] = kpm("apply", *files, "--dry-run", "--files")
    report["state before"] = state_of(STATE)
    report["apply"] = kpm("apply", *files, "-o", "json")
    report["state"] = state_of(STATE)
    report["diff after"] = kpm("diff", "--files", *files)
    report["apply again"] = kpm("apply", *files, "-o", "json")
    real.write(f"{CPUS}/cpu3/cpufreq/scaling_max_freq", b"1300000\n")
    report["diff of drift"] = kpm("diff", "--files", *files)
    report["apply against drift"] = kpm("apply", *files)
    real.write(f"{CPUS}/cpu3/online", b"0")
    report["apply with a CPU offline"] = kpm("apply", *files)
    real.write(f"{CPUS}/cpu3/online", b"1")
    report["apply with it back"] = kpm("apply", *files)
    report["apply locked"] = while_locked("apply", *files)
    report["apply of an unknown field"] = kpm(
        "apply", "-f", "-", "--node", "n", standard_input=unknown
    )
    report["apply of a wrong profile"] = kpm(
        "apply", "-f", "-", "--node", "n", standard_input=wrong
    )
    report["restore"] = kpm("restore")
    report["state after"] = state_of(STATE)
    report["restore again"] = kpm("restore", "-o", "json")
    report["apply elsewhere"] = kpm("apply", *files, "--state-dir", str(ELSEWHERE))
    report["state elsewhere"] = [state_of(ELSEWHERE), state_of(STATE)]
    report["restore elsewhere"] = kpm("restore", KPM_STATE_DIR=str(ELSEWHERE))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
