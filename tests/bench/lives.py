"""Ten thousand random lives of nodes on the kernel model, over every driver that is managed.

tests/kernel/sequences_life.py says what a life is and which laws hold in it. Every fault is cut
down to the events that it needs. Writes docs/developer/random-lives.md.

    KPM_LIVES=10000           how many, of all machines together
    KPM_LIVES_SEED=20261128   of the run: life N of a machine is the same in every run of a seed
    KPM_LIVES_FROM=0          number of the first life of each machine, to go on with a run
    KPM_LIVES_MACHINES=a;b    only these machines
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from tests.kernel.sequences_life import life_of, seed_of, told
from tests.kernel.sequences_model import MACHINES, lead, shortened
from tests.kernel.sequences_record import keep, table, today

LIVES = int(os.environ.get("KPM_LIVES", "10000"))
SEED = os.environ.get("KPM_LIVES_SEED", "20261128")
FIRST = int(os.environ.get("KPM_LIVES_FROM", "0"))
NAMES = tuple(filter(None, os.environ.get("KPM_LIVES_MACHINES", "").split(";"))) or tuple(MACHINES)
TITLE = "On the kernel model"
PROCESSES, AT_A_TIME = 2, 50
TOLD = 12  # faults that are told in full, of different laws and machines as far as there are

Part = tuple[str, range]
Found = tuple[str, int, Counter[str], list[tuple[int, str]]]


def lead_some(part: Part) -> Found:
    """Some lives of a machine: counts of events, and the lives that broke a law, with how."""
    name, numbers = part
    counts: Counter[str] = Counter()
    broken = []
    for number in numbers:
        fault = lead(name, life_of(seed_of(SEED, name, number)), counts)
        if fault is not None:
            broken.append((number, fault.why))
    return name, len(numbers), counts, broken


def parts() -> Iterator[Part]:
    """All lives, in pieces, the machines by turns."""
    last = FIRST + -(-LIVES // len(NAMES))
    for first in range(FIRST, last, AT_A_TIME):
        for name in NAMES:
            yield name, range(first, min(first + AT_A_TIME, last))


def main() -> int:
    """Lead them, and tell what came of it."""
    began = time.monotonic()
    counts: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    broken: dict[tuple[str, str], list[tuple[int, str]]] = {}
    with ProcessPoolExecutor(PROCESSES) as pool:
        for name, led, met, broke in pool.map(lead_some, parts()):
            counts[name] += Counter({" lives": led, " with a fault": len(broke)}) + met
            for number, why in broke:
                broken.setdefault((name, why[:40]), []).append((number, why))
            done = sum(of_machine[" lives"] for of_machine in counts.values())
            print(f"\r{done} lives, {sum(map(len, broken.values()))} with a fault", end="")
    seconds = time.monotonic() - began
    lives = sum(of_machine[" lives"] for of_machine in counts.values())
    faults = sum(map(len, broken.values()))
    run = f"seed {SEED}, from number {FIRST} of each machine, {PROCESSES} processes"
    told_first = f"{today()}: {lives} lives, {run}, {seconds:.0f} s: {faults} with a fault."
    lines = [told_first, "", *table(counts)]
    for (name, _), found in sorted(broken.items(), key=lambda item: -len(item[1]))[:TOLD]:
        number, why = found[0]
        fault = shortened(name, SEED, number)
        lines += ["", f"{name}, {len(found)} lives, the first number {number}: {why[:200]}"]
        lines += ["", "```", told(fault.life), fault.why[:1200], "```"]
    keep(TITLE, lines)
    print("", *lines, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
