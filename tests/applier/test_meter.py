"""Measured power of packages: counters that wrap, vanish, start anew, and are never wrong by more
than they are missing (field reports 33, 34).
"""

import errno
from collections.abc import Iterable
from pathlib import Path

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.discovery.discover import discover
from kpm_applier.measure.power import PowerMeter
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.machine import PowerZone
from tests.applier import rig
from tests.applier.power import LONG_SHORT, PLATFORM, RAPL, UW, bare, put_sensor, put_zone, zones_of
from tests.kpm.tree_samples import put

RANGE = 262_143_328_850


@define
class Box:
    """A tree with packages, its meter, and a clock."""

    root: Path
    meter: PowerMeter = field(init=False)
    zones: tuple[PowerZone, ...] = ()
    seconds: float = 100.0

    def __attrs_post_init__(self) -> None:
        self.meter = PowerMeter(SysfsHost(str(self.root)))
        self.zones = zones_of(self.root)

    def sample(
        self, *energies: int | str | None, after: float = 2.0, reach: int | str | None = RANGE
    ) -> dict[int, int]:
        """What the meter says after so many seconds, with the counters at these values; None for no
        counter.
        """
        self.seconds += after
        for zone, energy in zip(self.zones, energies, strict=True):
            for name, value in (("energy_uj", energy), ("max_energy_range_uj", reach)):
                (self.root / zone.id / name).unlink(missing_ok=True)
                if value is not None:
                    put(self.root, f"{zone.id}/{name}", value)
        return self.meter.sample(self.zones, self.seconds)


def box(root: Path, names: Iterable[str] = ("package-0",)) -> Box:
    bare(root)
    for number, name in enumerate(names):
        put_zone(root, f"{RAPL}/intel-rapl:{number}", name, LONG_SHORT)
    return Box(root)


def test_the_first_sample_is_nothing(tmp_path: Path) -> None:
    """Field report 33: power is a difference; a counter alone says nothing, and nothing is not
    0 W.
    """
    assert box(tmp_path).sample(5_000_000) == {}


def test_power_is_energy_over_time(tmp_path: Path) -> None:
    """µJ in seconds are µW; 300 J in two seconds are 150 W."""
    made = box(tmp_path)
    made.sample(5_000_000)
    assert made.sample(305_000_000) == {0: 150 * UW}
    assert made.sample(305_000_000, after=1) == {0: 0}
    assert made.sample(405_000_000, after=0.5) == {0: 200 * UW}


def test_packages_are_by_name(tmp_path: Path) -> None:
    """Field report 34: whatever their zones are numbered."""
    made = box(tmp_path, ("package-1", "package-0"))
    made.sample(0, 0)
    assert [zone.name for zone in made.zones] == ["package-0", "package-1"]
    assert made.sample(200_000_000, 100_000_000) == {0: 100 * UW, 1: 50 * UW}


def test_a_counter_that_wraps_once_is_exact(tmp_path: Path) -> None:
    """Field report 33: it fell, so it went once to the end of its range and on from 0."""
    made = box(tmp_path)
    made.sample(RANGE - 100_000_000)
    assert made.sample(200_000_000) == {0: 150 * UW}


@pytest.mark.parametrize("reach", [None, 0, "", "no number", -1, RANGE - 100_000_001])
def test_a_counter_that_falls_and_whose_range_is_not_known_is_no_sample(
    tmp_path: Path, reach: int | str | None
) -> None:
    """Field report 33: or is below what the counter has shown, and so cannot be its range; the
    sample after it counts again.
    """
    made = box(tmp_path)
    made.sample(RANGE - 100_000_000)
    assert made.sample(200_000_000, reach=reach) == {}
    assert made.sample(400_000_000, reach=reach) == {0: 100 * UW}


@pytest.mark.parametrize("energy", [None, "", "no number", 10**20], ids=str)
def test_a_counter_that_cannot_be_read_is_no_sample(
    tmp_path: Path, energy: int | str | None
) -> None:
    """Field report 37: the other package's is; after it, two samples are needed again."""
    made = box(tmp_path, ("package-0", "package-1"))
    made.sample(0, 0)
    assert made.sample(energy, 100_000_000) == {1: 50 * UW}
    assert made.sample(300_000_000, 200_000_000) == {1: 50 * UW}
    assert made.sample(400_000_000, 300_000_000) == {0: 50 * UW, 1: 50 * UW}


def test_a_counter_that_only_root_may_read_is_no_sample(tmp_path: Path) -> None:
    """Field report 37: EACCES, as since 5.10."""
    made = box(tmp_path)
    made.meter = PowerMeter(
        rig.Probe(
            SysfsHost(str(tmp_path)),
            deny=lambda _verb, path: errno.EACCES if path.endswith("energy_uj") else None,
        )
    )
    assert made.sample(0) == {}
    assert made.sample(100_000_000) == {}


def test_dies_of_a_package_are_added(tmp_path: Path) -> None:
    """Field report 34: each has its own counter; where one of them is not
    known, neither is their sum.
    """
    made = box(tmp_path, ("package-0-die-0", "package-0-die-1", "package-1-die-0"))
    made.sample(0, 0, 0)
    assert made.sample(100_000_000, 60_000_000, 10_000_000) == {0: 80 * UW, 1: 5 * UW}
    assert made.sample(200_000_000, None, 20_000_000) == {1: 5 * UW}
    assert made.sample(None, 180_000_000, 30_000_000) == {1: 5 * UW}


@pytest.mark.parametrize("after", [0.0, -1.0])
def test_no_time_is_no_sample(tmp_path: Path, after: float) -> None:
    """Nor is one whose clock went back."""
    made = box(tmp_path)
    made.sample(0)
    assert made.sample(100_000_000, after=after) == {}


def test_a_zone_that_comes_later_counts_from_then(tmp_path: Path) -> None:
    """And one that went is forgotten: when it is back, nobody knows how often it has wrapped."""
    made = box(tmp_path, ("package-0", "package-1"))
    both = made.zones
    made.zones = both[:1]
    made.sample(0)
    made.zones = both
    assert made.sample(100_000_000, 0) == {0: 50 * UW}
    assert made.sample(200_000_000, 100_000_000) == {0: 50 * UW, 1: 50 * UW}
    made.zones = both[:1]
    made.sample(300_000_000)
    made.zones = both
    assert made.sample(400_000_000, 400_000_000) == {0: 50 * UW}


def test_an_amd_socket_says_it_itself(tmp_path: Path) -> None:
    """The power that its firmware measures, at once; where it does not, the socket is not known."""
    for number in (0, 1):
        put_sensor(bare(tmp_path), f"{PLATFORM}/AMDI0097:0{number}/hwmon/hwmon{number}")
    host = SysfsHost(str(tmp_path))
    zones = discover(host).machine.power_zones
    put(tmp_path, f"{zones[1].id}/power1_input", 120 * UW)
    assert PowerMeter(host).sample(zones, 1.0) == {0: 90 * UW, 1: 120 * UW}
    (tmp_path / zones[0].id / "power1_input").unlink()
    assert PowerMeter(host).sample(zones, 1.0) == {1: 120 * UW}


def test_only_counters_are_read(tmp_path: Path) -> None:
    """A1: one a zone, the range only where the counter fell, nothing
    else; and nothing is written.
    """
    made = box(tmp_path, ("package-0", "package-1"))
    host = rig.Probe(SysfsHost(str(tmp_path)))
    made.meter = PowerMeter(host)
    made.sample(5, 5)
    made.sample(6, 6)
    assert set(host.reads) == {f"{zone.id}/energy_uj" for zone in made.zones}
    made.sample(4, 7)
    assert set(host.reads) - {f"{zone.id}/energy_uj" for zone in made.zones} == {
        f"{made.zones[0].id}/max_energy_range_uj"
    }
    assert host.writes == []


@given(
    st.integers(1, RANGE),
    st.lists(
        st.tuples(st.integers(0, RANGE), st.sampled_from((0.5, 1.0, 7.0))), min_size=1, max_size=8
    ),
)
def test_what_is_told_is_never_negative_and_never_above_the_range(
    reach: int, steps: list[tuple[int, float]]
) -> None:
    """Field report 33: whatever the counter does between two samples, among it a start from 0; at
    most one range is told as taken.
    """
    with rig.state_folder() as name:
        made = box(Path(name))
        for energy, after in steps:
            shown = energy % (reach + 1)
            assert all(
                0 <= uw <= reach / after + 1
                for uw in made.sample(shown, after=after, reach=reach).values()
            )
