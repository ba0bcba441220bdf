"""A scaler whose clock stands still but for a test's steps; sockets and files are real."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kpm.process.logs import Log
from kpm.scaler.loop import Scaler
from kpm.scaler.peers import Peers
from kpm_applier.speed import SpeedWriter
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.scaling import PodCpus, ScaledDomain, Scaling
from tests.scaler.waiting import wait_until

UID, OTHER = "0a1b2c3d-0000-4000-8000-000000000001", "0a1b2c3d-0000-4000-8000-000000000002"
LOW, HIGH = 1_000_000, 3_000_000
PERIOD = 10_000
_CPUFREQ = "devices/system/cpu/cpufreq"


def domain(cpu: int, uid: str = UID, *, by_limits: bool = False, **policy: int) -> ScaledDomain:
    """One CPU of a pod; the policy's usual values, and no cool-down beyond a period."""
    return ScaledDomain(
        cpu,
        (PodCpus(uid, (cpu,)),),
        "dpdk",
        Scaling(LOW, HIGH, **{"cooldown_us": PERIOD, **policy}),
        by_limits,
    )


class Rig:
    """A scaler, its tree and its clock."""

    def __init__(self, folder: Path) -> None:
        self.root, self.sys = folder / "pods", folder / "sys"
        self.root.mkdir()
        for cpu in range(8):
            place = self.sys / _CPUFREQ / f"policy{cpu}"
            place.mkdir(parents=True)
            for name, text in (
                ("scaling_setspeed", "<unsupported>"),
                ("scaling_min_freq", str(LOW)),
                ("scaling_max_freq", str(HIGH)),
            ):
                (place / name).write_text(f"{text}\n")
        self.time_us = 1_000_000
        self.said: list[tuple[str, Mapping[str, Any]]] = []
        clock = lambda: self.time_us  # noqa: E731
        log = Log(stream=_Lines(self.said))  # type: ignore[arg-type]
        self.scaler = Scaler(
            Peers(str(self.root), log, clock), SpeedWriter(SysfsHost(str(self.sys))), log, clock
        )

    def tick(self, count: int = 1, period: int = PERIOD) -> None:
        """So many periods pass; real threads get a moment to answer in each."""
        for _ in range(count):
            self.time_us += period
            self.scaler.tick()
            time.sleep(0.002)

    def tick_until(self, check: Callable[[], object]) -> None:
        """Periods pass until it is so."""

        def ticked() -> object:
            self.tick()
            return check()

        wait_until(ticked)

    def file(self, cpu: int, name: str = "scaling_setspeed") -> Path:
        """A file of a CPU's domain."""
        return self.sys / _CPUFREQ / f"policy{cpu}" / name

    def speed(self, cpu: int) -> int | None:
        """What was asked of a domain."""
        text = self.file(cpu).read_text().strip()
        return int(text) if text.isdigit() else None

    def close(self) -> None:
        self.scaler.peers.only(set())
        self.scaler.writer.host.forget()


class _Lines:
    """Takes log lines."""

    def __init__(self, said: list[tuple[str, Mapping[str, Any]]]) -> None:
        self._said = said

    def write(self, text: str) -> None:
        if text.strip():
            line = json.loads(text)
            self._said.append((line["event"], line))

    def flush(self) -> None:
        """Nothing is kept back."""
