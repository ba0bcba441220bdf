"""Inside a lab machine: lives of this node, one after the other, on the kernel's own /sys.

    python sequences_real.py NAME SEED SECONDS COUNT MOST

Lives are led until the seconds are over or there were MOST; where COUNT is not 0, so many. A reboot
is played: the values of the real one are written again, and the state file is from another boot.
Faults are put into the agent's way in the process: its reads pass a probe. Prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping

from attrs import define, field

from kpm_applier.discovery.discover import discover
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.tree import SysfsHost
from tests.kernel.inside import real_sysfs as real
from tests.kernel.inside.real_sysfs import CPUS
from tests.kernel.sequences_life import LIMITS, life_of, live, seed_of, told

#: Seconds in which the kernel has to show what it should, or to stand still.
PATIENCE, STILL = 2.0, 0.01
KEPT = 3  # faults in the report
#: What is written first when the values of the start are put back.
ORDER = ("boost", "scaling_governor", "energy_performance_preference", *LIMITS[::-1])


class _Clocked(SysfsHost):
    """The real /sys, with a clock that can be put forward."""

    def __init__(self) -> None:
        super().__init__("/sys")
        self.ahead = 0.0

    def now(self) -> float:
        """Monotonic seconds, as far as anybody here knows."""
        return super().now() + self.ahead


@define
class RealWorld:
    """This machine. start: what its managed files show at boot."""

    sysfs: _Clocked = field(factory=_Clocked)
    driver: str = ""
    removable: tuple[int, ...] = ()
    start: dict[str, str] = field(factory=dict)
    limits: tuple[str, ...] = ()
    turbo: bool = False

    def __attrs_post_init__(self) -> None:
        found = discover(self.sysfs)
        self.driver = found.machine.domains[0].driver or ""
        self.removable = tuple(sorted(found.machine.online - {0}))
        paths = [item.path for group in found.groups for item in group.files]
        self.start = {path: real.text(path) for path in paths}
        self.turbo = self._can_boost()
        self.limits = tuple(path for path in paths if path.endswith(LIMITS))

    def _can_boost(self) -> bool:
        """Whether the switch can be turned on; there may be one where it cannot (K24)."""
        switch = f"{CPUS}/cpufreq/boost"
        if switch not in self.start or self.start[switch] == "1":
            return switch in self.start
        self.write(switch, "1")
        found = self.text(switch) == "1"
        self.write(switch, "0")
        return found

    @property
    def host(self) -> Host:
        return self.sysfs

    @property
    def offline(self) -> set[int]:
        return {cpu for cpu in self.removable if real.text(f"{CPUS}/cpu{cpu}/online") == "0"}

    def text(self, path: str) -> str | None:
        with contextlib.suppress(OSError):
            return real.read(path).decode("ascii", "replace").strip()
        return None

    def settle(self) -> None:
        ends, before = time.monotonic() + PATIENCE, None
        while (now := [self.text(path) for path in self.limits]) != before:
            before = now
            if time.monotonic() > ends:
                break
            time.sleep(STILL)

    def differing(self, wanted: Mapping[str, frozenset[str]]) -> dict[str, str]:
        ends = time.monotonic() + PATIENCE
        while True:
            shown = {path: self.text(path) for path in wanted}
            read = ((path, text) for path, text in shown.items() if text)
            found = {path: text for path, text in read if text not in wanted[path]}
            if not found or time.monotonic() > ends:
                return found
            time.sleep(STILL)

    def plug(self, cpu: int, *, online: bool) -> None:
        real.write(f"{CPUS}/cpu{cpu}/online", b"1" if online else b"0")

    def write(self, path: str, text: str) -> None:
        with contextlib.suppress(OSError):
            real.write(path, f"{text}\n".encode())

    def pass_time(self, seconds: float) -> None:
        self.sysfs.ahead += seconds

    def late(self) -> None:
        time.sleep(0.05)

    def reboot(self) -> None:
        self.sysfs.forget()
        for cpu in sorted(self.offline):
            self.plug(cpu, online=True)
        names = [path.rpartition("/")[2] for path in self.start]
        rank = {name: ORDER.index(name) if name in ORDER else len(ORDER) for name in names}
        paths = sorted(self.start, key=lambda path: rank[path.rpartition("/")[2]])
        for path in [*paths, *self.limits]:
            self.write(path, self.start[path])
        wrong = self.differing({path: frozenset({text}) for path, text in self.start.items()})
        if wrong:
            raise RuntimeError(f"the machine cannot be put back for a next life: {wrong}")


def main() -> None:
    """Lead lives and print the report."""
    name, seed, seconds, count = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    most = int(sys.argv[5])
    began = time.monotonic()
    world = RealWorld()
    counts: Counter[str] = Counter()
    faults: list[dict[str, object]] = []
    number = broken = 0
    while number < (count or most) and (count or time.monotonic() - began < seconds):
        life = life_of(seed_of(seed, name, number))
        world.reboot()
        fault = live(world, life, counts)
        if fault is not None:
            broken += 1
            its = {"seed": seed_of(seed, name, number), "why": fault.why[:2000]}
            faults += [{**its, "after": fault.after, "life": told(life)}] if broken <= KEPT else []
        number += 1
    world.reboot()
    report = {
        "driver": world.driver, "lives": number, "counts": dict(sorted(counts.items())),
        "fault count": broken, "faults": faults, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    main()
