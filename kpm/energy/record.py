"""Measured runs: a command is run some times over, and the energy that passed through the machine's
meters meanwhile is kept.

Units: J, s. A file of records carries a version and grows only by addition.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import evolve, field, frozen

from kpm.process.errors import InputError, one_line, show
from kpm_applier.measure.meters import FoundMeters, discover_meters, read_meters
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.energy.attribution import EnergyAllocation, EnergyPolicy, Sample, attribute, carry
from kpm_planner.energy.meters import Meter, telling
from kpm_planner.model.problems import Code

VERSION = 1
#: Seconds between readings while a command runs, well below the time in which a counter wraps.
_EVERY = 10.0
_TRIES = 5


@frozen
class Run:
    """One run. joules: by zone and place, such as package-0; status: of the command; began: wall
    clock, seconds.
    """

    seconds: float
    joules: Mapping[str, float] = field(hash=False)
    total: float
    status: int
    began: float


@frozen
class Recording:
    """Runs of one command."""

    command: tuple[str, ...]
    runs: tuple[Run, ...]


class Watcher:
    """The meters of a machine while something runs."""

    def __init__(self, host: SysfsHost, found: FoundMeters) -> None:
        self.host, self.meters = host, found.meters
        self.joules: dict[str, int] = dict.fromkeys((meter.id for meter in found.meters), 0)
        self.faults: dict[str, str] = {}
        self._before = self._sample(read_meters(host, found.meters))

    def look(self) -> None:
        """Add what has passed since the last look."""
        now = self._sample(self._read())
        for part in attribute(
            self._before, now, EnergyAllocation(self.meters, ()), EnergyPolicy()
        ).meters:
            name = part.meter.id
            self.joules[name] += part.uj
            if part.fault is not None:
                self.faults[name] = part.fault.value
            elif self.faults.get(name) == Code.ENERGY_UNREADABLE.value:
                del self.faults[name]  # its energy is in this reading
        self._before = carry(self._before, now, self.meters)

    def _sample(self, readings: Iterable[int | None]) -> Sample:
        """Readings of now, of nothing but the meters."""
        return Sample(
            time.monotonic_ns() // 1000,
            dict(zip((meter.id for meter in self.meters), readings, strict=True)),
        )

    def _read(self) -> list[int | None]:
        """The readings; a meter that fails once is asked again."""
        found = read_meters(self.host, self.meters)
        for _ in range(_TRIES):
            if None not in found:
                break
            time.sleep(0.01)
            found = [
                value if value is not None else new
                for value, new in zip(found, read_meters(self.host, self.meters), strict=True)
            ]
        return found


def record(
    sysfs: str,
    command: Sequence[str],
    repeats: int,
    settle: float,
    begins: Callable[[int], None] = lambda _: None,
) -> Recording:
    """Run a command so many times. settle: seconds of rest before each run. begins: is given the
    number of each run, from 1.

    Errors: InputError where nothing can be measured or run.
    """
    try:
        host = SysfsHost(sysfs)
    except OSError as failure:
        raise InputError(f"--sysfs {sysfs}: {failure.strerror}") from None
    found = discover_meters(host)
    if not found.meters:
        raise InputError(
            f"--sysfs {sysfs}: nothing measures energy here:"
            f" {'; '.join(f'{source}: {why}' for source, why in found.absent)}"
        )
    readings = read_meters(host, found.meters)
    pairs = zip(found.meters, readings, strict=True)
    # one that gives nothing measures nothing
    found = evolve(
        found,
        meters=tuple(
            meter for meter, value in pairs if meter.source != "battery" or value is not None
        ),
    )
    if not telling(meter.zone for meter in found.meters):
        raise InputError(f"--sysfs {sysfs}: nothing measures the machine or its packages now")
    if all(value is None for value in readings):
        raise InputError(
            f"--sysfs {sysfs}: {found.meters[0].id} cannot be read: energy counters are root's own"
        )
    runs = []
    for number in range(1, repeats + 1):
        begins(number)
        time.sleep(settle)
        runs.append(_run(host, found, command))
    return Recording(tuple(command), tuple(runs))


def _run(host: SysfsHost, found: FoundMeters, command: Sequence[str]) -> Run:
    watcher, began = Watcher(host, found), time.time()
    started = time.monotonic()
    try:
        # the user's own command, without a shell
        process = subprocess.Popen(list(command))  # noqa: S603
    except OSError as failure:
        raise InputError(f"{one_line(command[0], 80)}: cannot be run: {failure.strerror}") from None
    while True:
        try:
            process.wait(_EVERY)
            break
        except subprocess.TimeoutExpired:
            watcher.look()
    seconds = time.monotonic() - started
    watcher.look()
    if watcher.faults:
        raise InputError(
            f"{next(iter(watcher.faults))}: the energy of the run is not known"
            f" ({next(iter(watcher.faults.values()))})"
        )
    joules = _by_place(found.meters, watcher.joules)
    return Run(seconds, joules, _total(found.meters, watcher.joules), process.returncode, began)


def _by_place(meters: Sequence[Meter], joules: Mapping[str, int]) -> dict[str, float]:
    found: dict[str, float] = {}
    for meter in meters:
        name = f"{meter.zone} {meter.place}"
        found[name] = found.get(name, 0.0) + joules[meter.id] / 1_000_000
    return found


def _total(meters: Sequence[Meter], joules: Mapping[str, int]) -> float:
    """Packages and memory; where neither is measured, the platform."""
    zones = telling(meter.zone for meter in meters)
    return sum(joules[meter.id] for meter in meters if meter.zone in zones) / 1_000_000


def recording_document(recording: Recording) -> dict[str, Any]:
    """What a file holds."""
    runs = [
        {
            "seconds": run.seconds,
            "joules": dict(run.joules),
            "total": run.total,
            "status": run.status,
            "began": datetime.fromtimestamp(run.began, UTC).isoformat(),
        }
        for run in recording.runs
    ]
    return {
        "version": VERSION,
        "kind": "EnergyRecording",
        "command": list(recording.command),
        "runs": runs,
    }


def read_recording(path: str) -> Recording:
    """A recording from a file. Errors: InputError."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except OSError as failure:
        raise InputError(f"{path}: {failure.strerror}") from None
    except ValueError as failure:
        raise InputError(f"{path}: is no JSON: {one_line(failure)}") from None
    if (
        not isinstance(document, dict)
        or document.get("kind") != "EnergyRecording"
        or document.get("version") != VERSION
    ):
        raise InputError(f"{path}: is no recording of kpm energy record, version {VERSION}")
    runs = document.get("runs")
    if not isinstance(runs, list) or not runs:
        raise InputError(f"{path}: runs: expected at least one run, got {show(runs)}")
    return Recording(
        tuple(map(str, document.get("command") or ())),
        tuple(_read_run(item, f"{path}: runs[{index}]") for index, item in enumerate(runs)),
    )


def _read_run(item: Any, place: str) -> Run:
    try:
        joules = {str(name): float(value) for name, value in item["joules"].items()}
        return Run(
            float(item["seconds"]),
            joules,
            float(item["total"]),
            int(item["status"]),
            datetime.fromisoformat(item["began"]).timestamp(),
        )
    except (TypeError, KeyError, ValueError, AttributeError) as failure:
        raise InputError(
            f"{place}: expected seconds, joules, total, status and began, got {show(item)}:"
            f" {one_line(failure, 80)}"
        ) from None
