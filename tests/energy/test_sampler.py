"""One look at meters, CPU time, frequencies and containers of a whole machine, and what two looks
make of recorded cases (field reports 34, 37, 38, 58).

A machine is three trees of files: its /sys, its /proc and its cgroups.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from attrs import define, evolve, field, frozen

from kpm.energy.containers import ContainerPath
from kpm.energy.sampler import Roots, Sampler, energy_cpus
from kpm.request.machines import MachineSpec, build_machine
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.state.files import boot_id
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.energy.attribution import (
    EnergyAllocation,
    EnergyPolicy,
    EnergyReport,
    MeterEnergy,
    Sample,
    attribute,
)
from kpm_planner.energy.estimate import Coefficients
from kpm_planner.energy.meters import Meter
from kpm_planner.energy.shares import Consumer, EnergyCpu
from kpm_planner.model.machine import Machine
from kpm_planner.report.energy import energy_condition
from tests.applier.power import MMIO, RAPL
from tests.kpm.tree_samples import CPU, Tree, build_tree, put
from tests.trees import write_tree

RANGE = 262_143_328_850
SECOND = 1_000_000
JOULE = 1_000_000
TICK_US = 10_000
A, B, C, KIND = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
UID_A, UID_B = "0a1b2c3d-0000-4000-8000-00000000000a", "0a1b2c3d-0000-4000-8000-00000000000b"
COEFFICIENTS = Coefficients("generic", standing=20.0, core=5.0, error=30)
#: Two packages of four CPUs, one thread each, whose frequency nobody knows: each µs of CPU time
#: weighs the same.
PLAIN = Tree(cpus=8, threads=1, packages=2, driver="", states=(), uncore=False, no_turbo=None)

# --- a machine of files ---


@define
class Box:
    """The trees below `root`, and what has been seen of them."""

    root: Path
    tree: Tree = PLAIN
    coefficients: Coefficients | None = None
    sampler: Sampler = field(init=False)
    machine: Machine = field(init=False)
    cpus: tuple[EnergyCpu, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        build_tree(self.sysfs, self.tree)
        (self.root / "proc").mkdir(exist_ok=True)
        (self.root / "cgroup").mkdir(exist_ok=True)
        self.sampler = Sampler(
            Roots(str(self.sysfs), str(self.root / "proc"), str(self.root / "cgroup")),
            self.coefficients,
        )
        self.look_at_machine()

    @property
    def sysfs(self) -> Path:
        return self.root / "sys"

    @property
    def cgroup(self) -> Path:
        return self.root / "cgroup"

    def look_at_machine(self) -> None:
        self.machine = discover(SysfsHost(str(self.sysfs))).machine
        self.cpus = energy_cpus(self.machine)

    def take(self) -> Sample:
        return self.sampler.take(self.machine, self.cpus)

    def take_anew(self) -> Sample:
        """As after a minute, when everything is looked for again."""
        self.sampler._looked = None
        return self.take()

    def stat(self, busy: Mapping[int, int], idle: Mapping[int, int]) -> None:
        """What /proc/stat shows, hundredths of a second by CPU."""
        lines = [f"cpu{cpu} {busy[cpu]} 0 0 {idle[cpu]} 0 0 0 0 0 0" for cpu in busy]
        put(self.root, "proc/stat", "\n".join(["cpu 9 9 9 9", *lines, "intr 1", "ctxt 2"]))

    def zone(self, folder: str, name: str, uj: int) -> None:
        put(self.sysfs, f"{folder}/name", name)
        put(self.sysfs, f"{folder}/energy_uj", uj)
        put(self.sysfs, f"{folder}/max_energy_range_uj", RANGE)

    def v2(self, path: str, us: int) -> None:
        """A cgroup of version 2, with its time."""
        put(
            self.root,
            f"cgroup/{path}/cpu.stat" if path else "cgroup/cpu.stat",
            f"usage_usec {us}\nuser_usec 0\nsystem_usec 0",
        )

    def v1(self, path: str, us: int) -> None:
        """One of version 1, which counts ns."""
        put(self.root, f"cgroup/cpu,cpuacct/{path}/cpuacct.usage", us * 1000)

    def mount_v2(self, folder: str = "") -> None:
        put(self.root, f"cgroup/{folder}cgroup.controllers", "cpuset cpu io memory pids")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Two packages with meters, some CPU time, and a container under version 2."""
    made = complete(tmp_path)
    yield made
    made.sampler.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Box]:
    """The same machine without a meter, with coefficients of an estimate."""
    made = Box(tmp_path, coefficients=COEFFICIENTS)
    made.stat(dict.fromkeys(range(8), 100), dict.fromkeys(range(8), 1000))
    yield made
    made.sampler.close()


CONTAINER_A = f"kubepods/burstable/pod{UID_A}/{A}"


def complete(root: Path) -> Box:
    made = Box(root)
    made.zone(f"{RAPL}/intel-rapl:0", "package-0", 500)
    made.zone(f"{RAPL}/intel-rapl:1", "package-1", 600)
    made.stat(dict.fromkeys(range(8), 100), dict.fromkeys(range(8), 1000))
    made.mount_v2()
    made.v2(CONTAINER_A, 7_000)
    return made


READINGS = {f"{RAPL}/intel-rapl:0/energy_uj": 500, f"{RAPL}/intel-rapl:1/energy_uj": 600}
BUSY, IDLE = dict.fromkeys(range(8), 100 * TICK_US), dict.fromkeys(range(8), 1000 * TICK_US)
USAGE = {A: 7_000}


def seen(
    sample: Sample,
) -> tuple[Mapping[str, int | None], Mapping[int, int], Mapping[int, int], Mapping[str, int]]:
    return sample.readings, sample.busy_us, sample.idle_us, sample.usage_us


# --- sources ---


def test_a_look_sees_everything(box: Box) -> None:
    """Meters, CPU time and containers; the clock goes on; nothing is wrong."""
    first, second = box.take(), box.take()
    assert seen(first) == seen(second) == (READINGS, BUSY, IDLE, USAGE)
    assert second.at_us >= first.at_us > 0
    assert box.sampler.faults == {}
    assert [meter.place for meter in box.sampler.meters] == ["package-0", "package-1"]
    assert list(box.sampler.containers.values()) == [ContainerPath(A, "", UID_A)]
    assert box.sampler.dropped_cgroups == 0
    assert not box.sampler.estimating


def test_without_sysfs_the_rest_is_measured(box: Box) -> None:
    """Field report 37: and why there are no meters is told."""
    shutil.rmtree(box.sysfs)
    assert seen(box.take()) == ({}, BUSY, IDLE, USAGE)
    assert box.sampler.faults == {"meters": f"{box.sysfs}: is not a folder"}
    assert box.sampler.meters == ()


def test_without_meters_the_rest_is_measured(box: Box) -> None:
    """Field report 37: that is no fault, but told with every source that was asked for."""
    shutil.rmtree(box.sysfs / RAPL)
    assert seen(box.take()) == ({}, BUSY, IDLE, USAGE)
    assert box.sampler.faults == {}
    assert [source for source, _ in box.sampler.found.absent] == [
        "rapl",
        "amd_energy",
        "amd_hsmp_hwmon",
        "hwmon",
        "battery",
    ]


def test_without_procfs_the_rest_is_measured(box: Box) -> None:
    """Field report 37: and why there is no CPU time is told."""
    shutil.rmtree(box.root / "proc")
    assert seen(box.take()) == (READINGS, {}, {}, USAGE)
    assert box.sampler.faults == {"cpu-time": f"{box.root / 'proc'}: is not a folder"}


def test_without_statistics_the_rest_is_measured(box: Box) -> None:
    """Field report 37: procfs is there, its file is not, or is a folder."""
    stat = box.root / "proc/stat"
    stat.unlink()
    assert seen(box.take()) == (READINGS, {}, {}, USAGE)
    assert box.sampler.faults == {"cpu-time": f"{stat}: No such file or directory"}
    stat.mkdir()
    assert seen(box.take()) == (READINGS, {}, {}, USAGE)
    assert box.sampler.faults == {"cpu-time": f"{stat}: Is a directory"}


def test_without_cgroups_the_rest_is_measured(box: Box) -> None:
    """Field reports 37, 58: and why there are no containers is told."""
    shutil.rmtree(box.cgroup)
    assert seen(box.take()) == (READINGS, BUSY, IDLE, {})
    assert box.sampler.faults == {"cgroups": f"{box.cgroup}: is not a folder"}
    assert dict(box.sampler.containers) == {}


def test_without_cgroups_of_cpu_time_the_rest_is_measured(box: Box) -> None:
    """Field reports 37, 58: cgroups are mounted, their CPU time is not."""
    shutil.rmtree(box.cgroup)
    (box.cgroup / "memory").mkdir(parents=True)
    assert seen(box.take()) == (READINGS, BUSY, IDLE, {})
    assert box.sampler.faults == {"cgroups": f"{box.cgroup}: no cgroup file system with CPU time"}


def test_without_anything_a_look_is_empty(tmp_path: Path) -> None:
    """Field report 37: nothing is raised, and each source says why."""
    sampler = Sampler(Roots(*(str(tmp_path / name) for name in ("sys", "proc", "cgroup"))))
    for _ in range(2):
        assert seen(sampler.take(Machine(), ())) == ({}, {}, {}, {})
    assert sorted(sampler.faults) == ["cgroups", "cpu-time", "meters"]
    sampler.close()


def test_what_is_not_to_be_read_is_no_fault(box: Box) -> None:
    """A tree alone, without procfs and cgroups beside it."""
    box.sampler = Sampler(Roots(str(box.sysfs), "", ""))
    assert seen(box.take()) == (READINGS, {}, {}, {})
    assert box.sampler.faults == {}


def test_a_source_that_comes_later_is_found(box: Box) -> None:
    """Once everything is looked for anew; its fault is gone then."""
    for name in ("sys", "proc", "cgroup"):
        (box.root / name).rename(box.root / f"{name}-later")
    assert seen(box.take()) == ({}, {}, {}, {})
    assert sorted(box.sampler.faults) == ["cgroups", "cpu-time", "meters"]
    for name in ("sys", "proc", "cgroup"):
        (box.root / f"{name}-later").rename(box.root / name)
    assert seen(box.take_anew()) == (READINGS, BUSY, IDLE, USAGE)
    assert box.sampler.faults == {}


def test_a_meter_that_comes_later_is_found(box: Box) -> None:
    """As after a driver was loaded; one that is gone is no meter any more."""
    box.take()
    box.zone(f"{RAPL}/intel-rapl:2", "psys", 9)
    assert box.take().readings == READINGS
    assert box.take_anew().readings == {**READINGS, f"{RAPL}/intel-rapl:2/energy_uj": 9}
    assert [meter.zone for meter in box.sampler.meters] == ["package", "package", "psys"]
    shutil.rmtree(box.sysfs / RAPL / "intel-rapl:2")
    assert box.take_anew().readings == READINGS


def test_meters_that_are_gone_keep_no_descriptor(box: Box) -> None:
    """However often drivers come and go."""
    box.take()
    held = len(os.listdir("/proc/self/fd"))
    for number in range(2, 6):
        box.zone(f"{RAPL}/intel-rapl:{number}", "psys", 9)
        box.take_anew()
        shutil.rmtree(box.sysfs / RAPL / f"intel-rapl:{number}")
        assert box.take_anew().readings == READINGS
        assert len(os.listdir("/proc/self/fd")) == held


def test_a_meter_that_cannot_be_read_costs_itself_only(box: Box) -> None:
    """Field report 37: None, which is not 0."""
    put(box.sysfs, f"{RAPL}/intel-rapl:0/energy_uj", "")
    assert seen(box.take()) == (
        {**READINGS, f"{RAPL}/intel-rapl:0/energy_uj": None},
        BUSY,
        IDLE,
        USAGE,
    )


def test_frequencies_are_those_of_cpus_that_ran(tmp_path: Path) -> None:
    """A1: at the first look every CPU, from then on only those whose time went on."""
    box = Box(
        tmp_path,
        evolve(
            PLAIN, driver="acpi-cpufreq", governors="performance", governor="performance", epp=None
        ),
    )
    for cpu in range(8):
        put(box.sysfs, f"{CPU}/cpufreq/policy{cpu}/scaling_cur_freq", 1_000_000 + cpu)
    busy, idle = dict.fromkeys(range(8), 100), dict.fromkeys(range(8), 1000)
    box.stat(busy, idle)
    assert box.take().khz == {cpu: 1_000_000 + cpu for cpu in range(8)}
    assert box.take().khz == {}
    box.stat({**busy, 2: 101, 5: 200}, idle)
    assert box.take().khz == {2: 1_000_002, 5: 1_000_005}
    box.sampler.close()


def test_closing_leaves_no_descriptor(box: Box) -> None:
    """After any number of looks; it can be closed again, and before the first."""
    before = len(os.listdir("/proc/self/fd"))
    box.sampler.close()
    for _ in range(3):
        box.take_anew()
    held = len(os.listdir("/proc/self/fd"))
    box.take_anew()
    assert len(os.listdir("/proc/self/fd")) == held > before
    box.sampler.close()
    box.sampler.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_boot_is_known_by_its_id(tmp_path: Path) -> None:
    """Nothing where nobody says."""
    put(tmp_path, "sys/kernel/random/boot_id", "6a3f0b1e-0000-4000-8000-000000000000")
    assert boot_id(str(tmp_path)) == "6a3f0b1e-0000-4000-8000-000000000000"
    assert boot_id(str(tmp_path / "sys")) == ""


def test_energy_cpus_are_the_online_ones(tmp_path: Path) -> None:
    """With their package, their hyperthreads that are online, and the highest frequency of their
    hardware.
    """
    box = Box(tmp_path, Tree(cpus=8, packages=2, offline=(3,)))
    assert box.cpus[0] == EnergyCpu(0, 0, 0, (1,), 3_700_000)
    assert [(cpu.id, cpu.package, cpu.siblings) for cpu in box.cpus[1:4]] == [
        (1, 0, (0,)),
        (2, 0, ()),
        (4, 1, (5,)),
    ]


# --- containers that come and go ---


def test_containers_that_come_and_go_are_found(box: Box) -> None:
    """Field reports 58, 59: with the next look, without waiting for everything to be looked for
    anew; of one that is gone nothing is left.
    """
    box.take()
    beside, other = f"kubepods/burstable/pod{UID_A}/{B}", f"kubepods/burstable/pod{UID_B}/{C}"
    for path, name in ((beside, B), (other, C)):
        box.v2(path, 55)
        assert box.take().usage_us[name] == 55
        assert path in box.sampler.containers
    for path, name in ((beside, B), (CONTAINER_A, A)):
        shutil.rmtree(box.cgroup / path)
        assert name not in box.take().usage_us
        assert path not in box.sampler.containers
    assert box.take().usage_us == {C: 55}
    assert box.sampler.containers == {other: ContainerPath(C, "", UID_B)}


def test_cgroups_that_are_no_containers_are_none(box: Box) -> None:
    """Field report 58: services, pods and what is inside a container have
    no time of their own here.
    """
    for path in (
        "system.slice/kubelet.service",
        "init.scope",
        f"kubepods/burstable/pod{UID_A}",
        f"{CONTAINER_A}/init.scope",
        f"kubepods/crio-conmon-{B}.scope",
    ):
        box.v2(path, 10**9)
    assert box.take().usage_us == USAGE


# --- containers of several cgroups ---

OVERHEAD = f"kata_overhead/{A}"


@pytest.mark.parametrize("version", [1, 2])
def test_cgroups_of_one_container_are_one(tmp_path: Path, version: int) -> None:
    """Kata: what its virtual machine's threads use, and beside the pod what else it needs; both are
    the container's, which is the pod's.
    """
    box = Box(tmp_path)
    write = Box.v1 if version == 1 else Box.v2
    if version == 1:
        box.v1("", 0)
    else:
        box.mount_v2()
    for path, us in ((CONTAINER_A, 7_000), (OVERHEAD, 500), (f"kubepods/pod{UID_B}/{B}", 30)):
        write(box, path, us)
    assert box.take().usage_us == {A: 7_500, B: 30}
    write(box, OVERHEAD, 900)
    assert box.take().usage_us == {A: 7_900, B: 30}
    assert {found.id: found.pod_uid for found in box.sampler.containers.values()} == {
        A: UID_A,
        B: UID_B,
    }
    assert len(box.sampler.containers) == 3
    box.sampler.close()


@pytest.mark.parametrize("path", [OVERHEAD, f"zz_overhead/{A}"])
def test_who_knows_its_pod_says_whose_a_container_is(box: Box, path: str) -> None:
    """Whichever path comes first: of two that have the same id the
    last one that is met names it.
    """
    box.v2(path, 500)
    box.take()
    assert list(box.sampler.containers.values())[-1] == ContainerPath(A, "", UID_A)


def test_of_several_cgroups_one_that_goes_loses_nothing(box: Box) -> None:
    """The container goes on from what both had used; if it is made anew it counts on from there."""
    box.v2(OVERHEAD, 500)
    assert box.take().usage_us == {A: 7_500}
    shutil.rmtree(box.cgroup / OVERHEAD)
    box.v2(CONTAINER_A, 7_100)
    for _ in range(2):
        assert box.take().usage_us == {A: 7_600}
    box.v2(OVERHEAD, 20)
    assert box.take_anew().usage_us == {A: 7_620}
    shutil.rmtree(box.cgroup / CONTAINER_A)
    assert box.take().usage_us == {A: 7_620}
    shutil.rmtree(box.cgroup / OVERHEAD)
    assert box.take().usage_us == {}
    box.v2(CONTAINER_A, 3)
    assert box.take_anew().usage_us == {A: 3}


def test_a_container_that_begins_again_begins_at_nothing(box: Box) -> None:
    """Of one cgroup alone nothing is kept: what it had used before it
    was made anew is another's.
    """
    assert box.take().usage_us == {A: 7_000}
    shutil.rmtree(box.cgroup / CONTAINER_A)
    assert box.take().usage_us == {}
    box.v2(CONTAINER_A, 40)
    assert box.take_anew().usage_us == {A: 40}


def test_a_cgroup_in_one_of_the_same_container_counts_once(box: Box) -> None:
    """What is in it is in the outer one's time, however deep; also beside a third one elsewhere."""
    box.v2(f"{CONTAINER_A}/docker/{A}", 6_000)
    box.v2(f"{CONTAINER_A}/docker/{A}/x/{A}", 5_000)
    assert box.take().usage_us == {A: 7_000}
    box.v2(OVERHEAD, 500)
    assert box.take_anew().usage_us == {A: 7_500}
    shutil.rmtree(box.cgroup / CONTAINER_A / "docker")
    assert box.take_anew().usage_us == {A: 7_500}


def test_inner_and_outer_containers_are_both_read(box: Box) -> None:
    """Each with the whole time of its cgroup, and the inner one says in which it is; one that comes
    beside it is found with the next look.
    """
    inner, other = f"{CONTAINER_A}/docker/{B}", f"{CONTAINER_A}/docker/{C}"
    box.v2(inner, 2_000)
    assert box.take().usage_us == {A: 7_000, B: 2_000}
    assert box.sampler.containers[inner] == ContainerPath(B, "docker", UID_A, A)
    box.v2(other, 1)
    assert box.take().usage_us == {A: 7_000, B: 2_000, C: 1}
    shutil.rmtree(box.cgroup / inner)
    assert box.take().usage_us == {A: 7_000, C: 1}


def test_a_container_of_a_unit_is_one(box: Box) -> None:
    """Podman's, in a service of systemd: its payload is a container, what watches it is not."""
    box.v2(f"system.slice/web.service/libpod-payload-{B}", 900)
    box.v2("system.slice/web.service/runtime", 10)
    assert box.take().usage_us == {A: 7_000, B: 900}
    assert box.sampler.containers[f"system.slice/web.service/libpod-payload-{B}"] == ContainerPath(
        B, "podman", ""
    )


# --- batteries ---


def charge(box: Box, *batteries: tuple[str, object]) -> None:
    """The batteries of the machine, each with its state and what it shows, µW."""
    for number, (status, power) in enumerate(batteries):
        for file, value in (("type", "Battery"), ("status", status), ("power_now", power)):
            put(box.sysfs, f"class/power_supply/BAT{number}/{file}", value)


def test_batteries_are_a_meter_while_they_are_emptied(box: Box) -> None:
    """Field report 37: meanwhile they are none, rather than one that is lost; the other meters are
    there all the while.
    """
    name = "class/power_supply/BAT0+BAT1"
    packages = ["package-0", "package-1"]
    for states, power in (
        ((("Full", 0), ("Full", 0)), None),
        ((("Discharging", 5), ("Full", 0)), 5),
        ((("Charging", 9), ("Discharging", 5)), None),
        ((("Discharging", "x"), ("Discharging", 5)), None),
        ((("Discharging", 6), ("Discharging", 5)), 11),
    ):
        charge(box, *states)
        sample = box.take_anew()
        assert sample.readings == {**READINGS, name: power}
        assert [meter.place for meter in box.sampler.meters] == [
            *packages,
            *(["node"] if power else []),
        ]
        assert box.sampler.faults == {}


# --- estimates ---


def told(sample: Sample) -> dict[str, int]:
    """The readings of meters that have one."""
    return {name: uj for name, uj in sample.readings.items() if uj is not None}


def test_without_meters_packages_are_estimated(bare: Box) -> None:
    """Field report 37: labelled so, from 0, and never less than before."""
    assert bare.take().readings == {"estimated/package-0": 0, "estimated/package-1": 0}
    assert bare.sampler.estimating
    assert bare.sampler.meters == tuple(
        Meter(f"estimated/package-{number}", "package", "estimated", number) for number in (0, 1)
    )
    last = {"estimated/package-0": 0, "estimated/package-1": 0}
    for _ in range(5):
        readings = told(bare.take())
        assert all(readings[name] >= uj for name, uj in last.items())
        last = readings
    assert list(bare.sampler.faults) == ["cgroups"]


def test_estimated_energy_is_standing_and_what_ran(bare: Box) -> None:
    """20 W of each package, and 5 W of a core for as long as it ran, within a µJ of rounding for
    each look.
    """
    first = bare.take()
    second = bare.take()
    elapsed = second.at_us - first.at_us
    assert set(second.readings.values()) == {20 * elapsed}
    bare.stat({**dict.fromkeys(range(8), 100), 0: 103, 2: 104}, dict.fromkeys(range(8), 1000))
    third = bare.take()
    elapsed = third.at_us - first.at_us
    assert abs(told(third)["estimated/package-0"] - (20 * elapsed + 5 * 7 * TICK_US)) <= 2
    assert abs(told(third)["estimated/package-1"] - 20 * elapsed) <= 2


def test_without_coefficients_nothing_is_estimated(bare: Box) -> None:
    """Field report 37: no silent number."""
    bare.sampler.coefficients = None
    assert [bare.take().readings for _ in range(2)] == [{}, {}]
    assert not bare.sampler.estimating
    assert bare.sampler.meters == ()


def test_with_a_meter_nothing_is_estimated(bare: Box) -> None:
    """Also where the meter cannot be read; once it is found the estimate ends."""
    bare.take()
    bare.zone(f"{RAPL}/intel-rapl:0", "package-0", 5)
    path = f"{RAPL}/intel-rapl:0/energy_uj"
    assert bare.take_anew().readings == {path: 5}
    assert [meter.source for meter in bare.sampler.meters] == ["rapl"]
    put(bare.sysfs, path, "")
    assert bare.take().readings == {path: None}
    assert not bare.sampler.estimating


def test_an_estimate_needs_no_other_source(bare: Box) -> None:
    """Without procfs it is the standing power alone, without sysfs that of the CPUs that were known
    before.
    """
    shutil.rmtree(bare.root / "proc")
    shutil.rmtree(bare.sysfs)
    first, second = bare.take(), bare.take()
    assert set(second.readings.values()) == {20 * (second.at_us - first.at_us)}
    assert sorted(bare.sampler.faults) == ["cgroups", "cpu-time", "meters"]


# --- whole cases ---

INTERVAL_US = 10 * SECOND
#: Hundredths of a second in ten seconds, by CPU. Package 0 is busy for half the time, package 1 for
#: a quarter.
RAN = {cpu: 500 if cpu < 4 else 250 for cpu in range(8)}
#: CPU time of the containers in them: of 30 s that ran, 15 and 9; 6 are the system's.
USED = {A: 15 * SECOND, B: 9 * SECOND}


@frozen
class Containers:
    """A layout of cgroups: where A and B are, how a cgroup is written, what else is there."""

    paths: tuple[str, str]
    write: Callable[[Box, str, int], None]
    prepare: Callable[[Box], None] = lambda _box: None
    #: Cgroups that hold the others' time, too, or are no container's.
    others: tuple[str, ...] = ()


def mount_hybrid(box: Box) -> None:
    """Version 2 beside version 1, with the same folders and no word of their time that counts."""
    box.mount_v2("unified/")
    for name in (A, B):
        put(box.root, f"cgroup/unified/docker/{name}/cpu.stat", "usage_usec 999999999")


SLICE = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
NODE = f"system.slice/docker-{KIND}.scope"
INNER = f"{NODE}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod"
CGROUPS = {
    "v2": Containers(
        (
            f"{SLICE}{UID_A.replace('-', '_')}.slice/cri-containerd-{A}.scope",
            f"kubepods.slice/kubepods-pod{UID_B.replace('-', '_')}.slice/crio-{B}.scope",
        ),
        Box.v2,
        Box.mount_v2,
        ("", "kubepods.slice", "system.slice/kubelet.service"),
    ),
    "v1": Containers(
        (f"kubepods/burstable/pod{UID_A}/{A}", f"kubepods/pod{UID_B}/{B}"),
        Box.v1,
        others=("", "kubepods", "system.slice/kubelet.service"),
    ),
    "hybrid": Containers((f"docker/{A}", f"docker/{B}"), Box.v1, mount_hybrid, ("", "docker")),
    "kind": Containers(
        (
            f"{INNER}{UID_A.replace('-', '_')}.slice/cri-containerd-{A}.scope",
            f"{INNER}{UID_B.replace('-', '_')}.slice/cri-containerd-{B}.scope",
        ),
        Box.v2,
        Box.mount_v2,
        ("", NODE, f"{NODE}/kubelet.slice"),
    ),
}


def twin(box: Box, more: int) -> None:
    """Two sockets, numbered against their packages, and the twin that shows the same."""
    for number, package, uj in ((0, 1, 60), (1, 0, 100)):
        box.zone(f"{RAPL}/intel-rapl:{number}", f"package-{package}", 5_000 + more * uj * JOULE)
        box.zone(
            f"{MMIO}/intel-rapl-mmio:{package}", f"package-{package}", 5_000 + more * uj * JOULE
        )


def psys(box: Box, more: int) -> None:
    """The whole platform beside two sockets; the counter of one wraps."""
    twin(box, more)
    box.zone(f"{RAPL}/intel-rapl:1", "package-0", 60 * JOULE if more else RANGE - 40 * JOULE)
    box.zone(f"{RAPL}/intel-rapl:2", "psys", 7_000 + more * 240 * JOULE)


def amd_dies(box: Box, more: int) -> None:
    """Two dies in each socket, which show the one counter of their package."""
    for number, (package, die) in enumerate(itertools.product((0, 1), (0, 1))):
        box.zone(
            f"{RAPL}/intel-rapl:{number}",
            f"package-{package}-die-{die}",
            5_000 + package + more * (100, 60)[package] * JOULE,
        )


def no_meter(_box: Box, more: int) -> None:
    """A virtual machine."""


def part(
    meter: Meter, uj: int, busy: tuple[int, int], system_uj: int, unattributed_uj: int, load: float
) -> MeterEnergy:
    """The expected energy of a meter, J."""
    return MeterEnergy(
        meter,
        uj * JOULE,
        dict(zip((A, B), busy, strict=True)),
        system_uj,
        {},
        unattributed_uj,
        load,
        load,
        INTERVAL_US,
    )


def package(path: str, number: int) -> Meter:
    return Meter(f"{RAPL}/{path}/energy_uj", "package", "rapl", number, None, RANGE)


#: Half of 100 J is idle. Of the other half, 20 CPU seconds, the containers had 16 (24 of 30 over
#: both packages), as 15 to 9.
PACKAGE_0 = (100, (25 * JOULE, 15 * JOULE), 10 * JOULE, 50 * JOULE, 2.0)
#: Three quarters of 60 J are idle. Of the last one, 10 CPU seconds, the containers had 8.
PACKAGE_1 = (60, (7_500_000, 4_500_000), 3 * JOULE, 45 * JOULE, 1.0)
#: Of 80 CPU seconds 30 are busy: 90 of 240 J.
PLATFORM = (240, (45 * JOULE, 27 * JOULE), 18 * JOULE, 150 * JOULE, 3.0)
METERS: dict[str, tuple[Callable[[Box, int], None], tuple[MeterEnergy, ...]]] = {
    "two sockets with a twin": (
        twin,
        (
            part(package("intel-rapl:1", 0), *PACKAGE_0),
            part(package("intel-rapl:0", 1), *PACKAGE_1),
        ),
    ),
    "psys": (
        psys,
        (
            part(package("intel-rapl:1", 0), *PACKAGE_0),
            part(package("intel-rapl:0", 1), *PACKAGE_1),
            part(
                Meter(f"{RAPL}/intel-rapl:2/energy_uj", "psys", "rapl", None, None, RANGE),
                *PLATFORM,
            ),
        ),
    ),
    "amd dies": (
        amd_dies,
        (
            part(package("intel-rapl:0", 0), *PACKAGE_0),
            part(package("intel-rapl:2", 1), *PACKAGE_1),
        ),
    ),
    "no meter": (no_meter, ()),
}


def conserved(report: EnergyReport) -> bool:
    """Whether every meter's energy is told to the µJ."""
    return all(
        part.uj
        == sum(part.busy.values()) + part.system_uj + sum(part.idle.values()) + part.unattributed_uj
        for part in report.meters
    )


def two_looks(
    box: Box, containers: Containers, meters: Callable[[Box, int], None]
) -> tuple[Sample, Sample]:
    """A recorded case, looked at before and after its ten seconds, whatever time the test takes for
    it.
    """
    containers.prepare(box)
    samples = []
    for more in (0, 1):
        meters(box, more)
        box.stat(
            {cpu: 7_000 + more * RAN[cpu] for cpu in RAN},
            {cpu: 90_000 + more * (1000 - RAN[cpu]) for cpu in RAN},
        )
        for path in containers.others:
            containers.write(box, path, more * 10**9)
        for path, (name, first) in zip(containers.paths, ((A, 123_456), (B, 0)), strict=True):
            containers.write(box, path, first + more * USED[name])
        samples.append(evolve(box.take(), at_us=more * INTERVAL_US, slept_us=0))
    return samples[0], samples[1]


@pytest.mark.parametrize("meters", METERS)
@pytest.mark.parametrize("layout", CGROUPS)
def test_recorded_cases(tmp_path: Path, layout: str, meters: str) -> None:
    """Field reports 34, 38, 58: who used what of every meter, to the µJ, whatever the cgroups'
    version and the meters' layout; no meter, no energy.
    """
    change, expected = METERS[meters]
    box = Box(tmp_path)
    before, after = two_looks(box, CGROUPS[layout], change)
    report = attribute(
        before,
        after,
        EnergyAllocation(box.sampler.meters, box.cpus, dict.fromkeys((A, B), Consumer())),
        EnergyPolicy(),
    )
    box.sampler.close()
    assert box.sampler.faults == {}
    assert report == EnergyReport(
        INTERVAL_US,
        expected,
        USED,
        {cpu: ticks * TICK_US for cpu, ticks in RAN.items()},
        {cpu: (1000 - ticks) * TICK_US for cpu, ticks in RAN.items()},
    )
    assert conserved(report)


#: Layout → UIDs of the pods of A and B, and the containers around them.
FOUND = {
    "v2": (UID_A, UID_B, ()),
    "v1": (UID_A, UID_B, ()),
    "hybrid": ("", "", ()),
    "kind": (UID_A, UID_B, (KIND,)),
}


@pytest.mark.parametrize("layout", FOUND)
def test_containers_of_recorded_cases(tmp_path: Path, layout: str) -> None:
    """Field report 58: their ids, their pods and whom they are in, none else; the node of kind is a
    container too.
    """
    box = Box(tmp_path)
    _, after = two_looks(box, CGROUPS[layout], no_meter)
    box.sampler.close()
    *uids, outer = FOUND[layout]
    assert after.usage_us == {A: 123_456 + USED[A], B: USED[B], **dict.fromkeys(outer, 10**9)}
    assert {
        (found.id, found.pod_uid, found.inside) for found in box.sampler.containers.values()
    } == {
        *((name, uid, "".join(outer)) for name, uid in zip((A, B), uids, strict=True)),
        *((name, "", "") for name in outer),
    }


@pytest.mark.parametrize("meters", METERS)
def test_a_node_in_a_container_has_what_those_in_it_did_not_use(
    tmp_path: Path, meters: str
) -> None:
    """Field report 58, kind: its kubelet and its runtime had 3 of the 6 s that are no container's;
    A and B have what they have without it.
    """
    change, expected = METERS[meters]
    box, own = Box(tmp_path), 3 * SECOND
    before, after = two_looks(box, CGROUPS["kind"], change)
    after = evolve(
        after, usage_us={**after.usage_us, KIND: before.usage_us[KIND] + USED[A] + USED[B] + own}
    )
    consumers = {KIND: Consumer(), A: Consumer(inside=KIND), B: Consumer(inside=KIND)}
    report = attribute(
        before, after, EnergyAllocation(box.sampler.meters, box.cpus, consumers), EnergyPolicy()
    )
    box.sampler.close()
    assert report.usage_us == {**USED, KIND: own}
    for found, part in zip(report.meters, expected, strict=True):
        assert (found.uj, found.unattributed_uj) == (part.uj, part.unattributed_uj)
        assert found.busy == {**part.busy, KIND: part.system_uj // 2}
        assert found.system_uj == part.system_uj - part.system_uj // 2
    assert conserved(report)


def test_independent_dies_are_divided_by_themselves(tmp_path: Path) -> None:
    """Field report 34: Intel's packages of several dies; each die's energy goes to what ran on its
    CPUs, here a container that owns them.
    """
    box = Box(tmp_path)
    for cpu in (2, 3):
        put(box.sysfs, f"{CPU}/cpu{cpu}/topology/die_id", 1)
    box.look_at_machine()

    def dies(box: Box, more: int) -> None:
        for number, uj in enumerate((40, 80)):
            box.zone(
                f"{RAPL}/intel-rapl:{number}",
                f"package-0-die-{number}",
                5_000 * (1 + number) + more * uj * JOULE,
            )

    before, after = two_looks(box, CGROUPS["v2"], dies)
    box.sampler.close()
    owners = {A: Consumer(), B: Consumer(frozenset({2, 3}))}
    report = attribute(
        before, after, EnergyAllocation(box.sampler.meters, box.cpus, owners), EnergyPolicy()
    )
    assert [(part.meter.place, part.uj) for part in report.meters] == [
        ("package-0-die-0", 40 * JOULE),
        ("package-0-die-1", 80 * JOULE),
    ]
    first, second = report.meters
    # die 0: 10 CPU seconds ran of 20; A's 15 went over the 20 that ran on shared CPUs, half of them
    # here
    assert (first.busy, first.system_uj, first.idle, first.unattributed_uj) == (
        {A: 15 * JOULE},
        5 * JOULE,
        {},
        20 * JOULE,
    )
    # die 1: 10 CPU seconds ran of 20; B had 9 of them, and owns the die
    assert (second.busy, second.system_uj, second.idle, second.unattributed_uj) == (
        {B: 36 * JOULE},
        4 * JOULE,
        {B: 40 * JOULE},
        0,
    )
    assert conserved(report)


def test_an_estimated_case_adds_up(bare: Box) -> None:
    """Field reports 37, 58: an estimate is divided as a measurement is, and each of its meters says
    what it is.
    """
    CGROUPS["v2"].prepare(bare)
    samples = []
    for more in (0, 1):
        bare.stat(
            dict.fromkeys(range(8), 7_000 + more * 3), dict.fromkeys(range(8), 9_000 + more * 3)
        )
        for path, first in zip(CGROUPS["v2"].paths, (5, 6), strict=True):
            bare.v2(path, first + more * TICK_US)
        samples.append(bare.take())
    before, after = samples
    after = evolve(after, at_us=before.at_us + INTERVAL_US, slept_us=before.slept_us)
    report = attribute(
        before,
        after,
        EnergyAllocation(bare.sampler.meters, bare.cpus, dict.fromkeys((A, B), Consumer())),
        EnergyPolicy(),
    )
    assert [(part.meter.source, part.meter.place, part.fault) for part in report.meters] == [
        ("estimated", "package-0", None),
        ("estimated", "package-1", None),
    ]
    for found in report.meters:
        assert found.uj >= 5 * 12 * TICK_US - 1
        assert found.busy[A] == found.busy[B] > 0
    assert conserved(report)


def test_a_battery_that_is_charged_is_said_to_be_no_meter_meanwhile(tmp_path: Path) -> None:
    """Who asks why nothing measures is told; it is no problem."""
    model = build_machine(MachineSpec(cores=2))
    write_tree(KernelModel(model), tmp_path)
    for file, text in {"type": "Battery", "status": "Charging", "power_now": 9_500_000}.items():
        put(tmp_path, f"sys/class/power_supply/BAT0/{file}", text)
    sampler = Sampler(Roots(str(tmp_path / "sys"), "/proc", str(tmp_path / "none")))
    sampler.take(model, ())
    condition = energy_condition(sampler.meters, sampler.absent, ())
    sampler.close()
    assert (sampler.meters, sampler.resting) == ((), True)
    assert "battery: charged, or none is emptied" in condition.message
