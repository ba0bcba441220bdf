"""Totals of energy: they add up, never fall, outlive a restart, and are let go only once everybody
has been told (field reports 33, 58, 61, 65).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st

from kpm.energy.ledger import MOST_ENDED, Account, Ledger
from kpm.energy.names import Identity
from kpm_planner.energy.attribution import EnergyReport, MeterEnergy
from kpm_planner.energy.meters import Meter
from kpm_planner.model.problems import Code

SECOND = 1_000_000
PACKAGE, SECOND_PACKAGE, DRAM = (
    Meter("p0", "package", "rapl", 0),
    Meter("p1", "package", "rapl", 1),
    Meter("d0", "dram", "rapl", 0),
)
CORE, PSYS, PLATFORM = (
    Meter("c0", "core", "rapl", 0),
    Meter("s", "psys"),
    Meter("h", "platform", "hwmon", power=True),
)
UID, OTHER_UID = "0a1b2c3d-0000-4000-8000-000000000001", "0a1b2c3d-0000-4000-8000-000000000002"
APP = Identity("a" * 64, "containerd", "ns", "pod", UID, "app", "exclusive", "fast")
SIDE = Identity("b" * 64, "containerd", "ns", "pod", UID, "side", "shared", "slow")
ALONE = Identity("c" * 64, "docker")


def part(
    meter: Meter,
    busy: Mapping[Identity, int] | None = None,
    idle: Mapping[Identity, int] | None = None,
    system: int = 0,
    nobody: int = 0,
) -> MeterEnergy:
    """The energy of one meter in an interval, by container."""
    ran, owned = ({who.id: uj for who, uj in (amounts or {}).items()} for amounts in (busy, idle))
    return MeterEnergy(
        meter, sum(ran.values()) + sum(owned.values()) + system + nobody, ran, system, owned, nobody
    )


def by_id(*who: Identity) -> dict[str, Identity]:
    """The containers that are there."""
    return {item.id: item for item in who}


@define
class Book:
    """A ledger and its clock."""

    ledger: Ledger = field(factory=Ledger)
    now: float = 1000.0

    def add(
        self,
        *parts: MeterEnergy,
        who: Iterable[Identity] = (),
        used: Mapping[Identity, int] | None = None,
        seconds: int = 10,
        lost: Iterable[Meter] = (),
        since: Mapping[Meter, int] | None = None,
    ) -> None:
        """Book an interval. lost: meters that could not be read at its end; since: seconds since a
        meter was read, where that is longer ago.
        """
        self.now += seconds
        readings = {item.meter.id: None if item.meter in lost else 5 for item in parts}
        usage = {name.id: us for name, us in (used or {}).items()}
        passed = tuple(
            evolve(item, elapsed_us=max((since or {}).get(item.meter, 0), seconds, 1) * SECOND)
            for item in parts
        )
        self.ledger.add(
            EnergyReport(seconds * SECOND, passed, usage), by_id(*who), readings, self.now
        )

    def restart(self) -> None:
        """The same ledger out of its file."""
        self.ledger = again(self.ledger, self.now)


def again(ledger: Ledger, now: float = 0.0) -> Ledger:
    """As it is read from a file."""
    return Ledger.of_document(json.loads(json.dumps(ledger.as_document())), now)


def numbers(ledger: Ledger) -> dict[tuple[Any, ...], int]:
    """Every number that a reader takes for a counter."""
    found: dict[tuple[Any, ...], int] = {}
    for kind, accounts in (
        ("container", ledger.containers),
        ("pod", ledger.pods),
        ("pool", ledger.pools),
    ):
        for name, account in accounts.items():
            found[kind, name, "us"] = account.usage_us
            for zone, (busy, idle) in account.zones.items():
                found[kind, name, zone, "busy"], found[kind, name, zone, "idle"] = busy, idle
    for name, meter in ledger.meters.items():
        found |= {
            ("meter", name, word): getattr(meter, word)
            for word in ("uj", "busy_uj", "system_uj", "unattributed_uj")
        }
        found |= {("meter", name, "fault", code): times for code, times in meter.faults.items()}
    return found


def sums(accounts: Iterable[Account]) -> dict[str, list[int]]:
    """Zone → busy and idle of all accounts together."""
    found: dict[str, list[int]] = {}
    for account in accounts:
        for zone, both in account.zones.items():
            known = found.setdefault(zone, [0, 0])
            known[0], known[1] = known[0] + both[0], known[1] + both[1]
    return found


# --- they add up ---


def test_containers_pods_and_pools_have_the_same_energy() -> None:
    """Field report 58: each µJ is in one container, one pod and one pool,
    busy or idle, zone by zone.
    """
    book = Book()
    book.add(
        part(PACKAGE, {APP: 7, SIDE: 5}, {APP: 3}, 2, 1),
        part(SECOND_PACKAGE, {SIDE: 11}),
        part(DRAM, {APP: 1}, {SIDE: 4}),
        who=(APP, SIDE),
    )
    ledger = book.ledger
    assert ledger.containers[APP.id].zones == {"package": [7, 3], "dram": [1, 0]}
    assert ledger.containers[SIDE.id].zones == {"package": [16, 0], "dram": [0, 4]}
    assert ledger.pods[UID].zones == {"package": [23, 3], "dram": [1, 4]}
    assert {key: pool.zones["package"] for key, pool in ledger.pools.items()} == {
        ("exclusive", "fast"): [7, 3],
        ("shared", "slow"): [16, 0],
    }
    assert (
        sums(ledger.containers.values())
        == sums(ledger.pods.values())
        == sums(ledger.pools.values())
    )


def test_a_meter_is_what_ran_and_what_stood_idle() -> None:
    """Energy = busy of containers + system + idle of owners + nobody's."""
    book = Book()
    for _ in range(3):
        book.add(part(PACKAGE, {APP: 7}, {SIDE: 3}, 2, 1), who=(APP, SIDE))
    meter = book.ledger.meters["p0"]
    assert (meter.uj, meter.busy_uj, meter.system_uj, meter.unattributed_uj) == (39, 27, 6, 3)
    both = sums(book.ledger.containers.values())["package"]
    assert meter.uj == sum(both) + meter.system_uj + meter.unattributed_uj
    assert meter.busy_uj == both[0] + meter.system_uj


def test_a_container_outside_of_pods_is_in_no_pod() -> None:
    """It is in the pool without a name all the same, so that pools have everything."""
    book = Book()
    book.add(part(PACKAGE, {APP: 7, ALONE: 5}), who=(APP, ALONE), used={APP: 10, ALONE: 20})
    assert set(book.ledger.pods) == {UID}
    assert book.ledger.pools["", ""].zones == {"package": [5, 0]}
    assert sums(book.ledger.pools.values()) == sums(book.ledger.containers.values())
    assert {name: item.usage_us for name, item in book.ledger.containers.items()} == {
        APP.id: 10,
        ALONE.id: 20,
    }
    assert book.ledger.pods[UID].usage_us == 10


def test_power_is_of_the_last_interval_alone() -> None:
    """And of all meters of a zone together; a container that had nothing in it has none."""
    book = Book()
    book.add(
        part(PACKAGE, {APP: 40 * SECOND}, {SIDE: 10 * SECOND}),
        part(SECOND_PACKAGE, {APP: 20 * SECOND}),
        who=(APP, SIDE),
        seconds=10,
    )
    assert book.ledger.containers[APP.id].power_uw == {"package": [6 * SECOND, 0]}
    assert book.ledger.pods[UID].power_uw == {"package": [6 * SECOND, 1 * SECOND]}
    assert book.ledger.meters["p0"].power_uw == 5 * SECOND
    assert book.ledger.meters["p0"].busy_uw == 4 * SECOND
    book.add(part(PACKAGE, {SIDE: 4 * SECOND}), part(SECOND_PACKAGE), who=(APP, SIDE), seconds=2)
    assert not book.ledger.containers[APP.id].power_uw
    assert book.ledger.containers[SIDE.id].power_uw == {"package": [2 * SECOND, 0]}
    assert book.ledger.meters["p1"].power_uw == 0


def test_a_meter_that_is_not_read_has_no_power_and_one_that_is_gone_neither() -> None:
    """Field reports 37, 38: never a silent 0 W; the energy stays, and faults are counted by
    code.
    """
    book = Book()
    book.add(part(PACKAGE, {APP: 70}), part(DRAM, {APP: 7}), who=(APP,))
    fault = evolve(part(DRAM), fault=Code.ENERGY_UNREADABLE)
    book.add(part(PACKAGE, {APP: 70}), fault, who=(APP,), lost=(DRAM,))
    dram = book.ledger.meters["d0"]
    assert (dram.up, dram.power_uw, dram.uj, dram.faults) == (
        False,
        None,
        7,
        {"energy-unreadable": 1},
    )
    assert (book.ledger.meters["p0"].up, book.ledger.meters["p0"].power_uw) == (True, 7)
    book.add(part(DRAM, {APP: 7}), who=(APP,))
    package = book.ledger.meters["p0"]
    assert (package.up, package.power_uw, package.busy_uw, package.uj) == (False, None, 0, 140)


def test_a_power_that_cannot_be_is_none() -> None:
    """Field reports 33, 37: a sensor that shows the value of an error has shown nothing: it is not
    up, and has no power, which is not 0 W; it is counted.
    """
    book = Book()
    book.add(part(PLATFORM, {APP: 70}), who=(APP,))
    book.add(evolve(part(PLATFORM), fault=Code.ENERGY_IMPLAUSIBLE), who=(APP,))
    sensor = book.ledger.meters["h"]
    assert (sensor.up, sensor.power_uw, sensor.uj, sensor.faults) == (
        False,
        None,
        70,
        {"energy-implausible": 1},
    )
    book.add(part(PLATFORM, {APP: 70}), who=(APP,))
    assert (sensor.up, sensor.power_uw, sensor.uj, sensor.faults) == (
        True,
        7,
        140,
        {"energy-implausible": 1},
    )


def test_power_is_over_the_time_in_which_the_energy_passed() -> None:
    """A meter that is read again after a minute: all its energy counts, and its power is a
    minute's, of everybody and in every zone.
    """
    book = Book()
    late = dict.fromkeys((PACKAGE, PSYS), 60)
    book.add(
        part(PACKAGE, {APP: 30 * SECOND}),
        part(PSYS, {APP: 90 * SECOND}, system=30 * SECOND),
        who=(APP,),
        seconds=10,
        since=late,
    )
    zones, power = book.ledger.containers[APP.id].zones, book.ledger.containers[APP.id].power_uw
    assert (zones["package"], zones["psys"]) == ([30 * SECOND, 0], [90 * SECOND, 0])
    assert (
        book.ledger.meters["s"].power_uw,
        book.ledger.meters["s"].busy_uw,
        book.ledger.meters["p0"].power_uw,
    ) == (2 * SECOND, 2 * SECOND, SECOND // 2)
    assert (power["package"], power["psys"]) == ([SECOND // 2, 0], [SECOND * 3 // 2, 0])
    assert power.get("other", [0, 0])[0] <= SECOND


def test_an_interval_of_no_length_books_nothing_but_meets_containers() -> None:
    """A clock that stands still divides by nothing."""
    book = Book()
    book.add(part(PACKAGE, {APP: 7}), who=(APP,), used={APP: 5}, seconds=0)
    assert book.ledger.containers[APP.id].zones == {}
    assert book.ledger.pods[UID].usage_us == 0
    assert not book.ledger.meters


# --- what the platform uses beside packages and memory ---


def test_other_is_what_the_platform_uses_beside_packages_and_memory() -> None:
    """Of each container; core lies in package and is not taken off again."""
    book = Book()
    book.add(
        part(PSYS, {APP: 100, SIDE: 50}),
        part(PACKAGE, {APP: 50, SIDE: 30}),
        part(SECOND_PACKAGE, {APP: 10}),
        part(DRAM, {APP: 5, SIDE: 5}),
        part(CORE, {APP: 40}),
        who=(APP, SIDE),
    )
    assert {name: item.zones["other"] for name, item in book.ledger.containers.items()} == {
        APP.id: [35, 0],
        SIDE.id: [15, 0],
    }
    assert book.ledger.pods[UID].zones["other"] == [50, 0]


def test_other_is_never_below_nothing_and_absent_where_the_platform_is_not_measured() -> None:
    """Field reports 38, 68: a platform that shows less than its packages; no zone, no series."""
    book = Book()
    book.add(part(PACKAGE, {APP: 50}), part(DRAM, {APP: 5}), who=(APP,))
    assert "other" not in book.ledger.containers[APP.id].zones
    book.add(part(PSYS, {APP: 40}), part(PACKAGE, {APP: 50}), who=(APP,))
    assert book.ledger.containers[APP.id].zones.get("other", [0, 0]) == [0, 0]


@pytest.mark.parametrize(("meters", "expected"), [((PLATFORM,), 60), ((PSYS, PLATFORM), 10)])
def test_of_two_that_measure_the_platform_one_counts(
    meters: tuple[Meter, ...], expected: int
) -> None:
    """Both show the same energy: psys where there is one, else the sensor."""
    amounts = {PSYS: 50, PLATFORM: 100}
    book = Book()
    book.add(
        *(part(meter, {APP: amounts[meter]}) for meter in meters),
        part(PACKAGE, {APP: 40}),
        who=(APP,),
    )
    assert book.ledger.containers[APP.id].zones["other"] == [expected, 0]


def test_parts_of_a_board_are_no_part_of_other() -> None:
    """They lie in the platform, and are not taken off it, nor added to it."""
    rail = Meter("r", "power +12v", "hwmon", power=True)
    book = Book()
    book.add(
        part(PLATFORM, {APP: 100}), part(rail, {APP: 80}), part(PACKAGE, {APP: 40}), who=(APP,)
    )
    assert book.ledger.containers[APP.id].zones == {
        "platform": [100, 0],
        "power +12v": [80, 0],
        "package": [40, 0],
        "other": [60, 0],
    }
    book.add(part(rail, {APP: 80}), part(PACKAGE, {APP: 40}), who=(APP,))
    assert book.ledger.containers[APP.id].zones["other"] == [60, 0]
    assert again(book.ledger).containers[APP.id].zones == book.ledger.containers[APP.id].zones


@pytest.mark.parametrize("lost", [PSYS, PACKAGE], ids=["platform", "package"])
def test_what_a_meter_catches_up_on_is_not_counted_as_other_again(lost: Meter) -> None:
    """Field report 34: one of the two is not read for five intervals; package, memory and other are
    together no more than the platform.
    """
    book = Book()
    amounts = {PSYS: 60, PACKAGE: 40}
    for _ in range(3):
        book.add(*(part(meter, {APP: uj}) for meter, uj in amounts.items()), who=(APP,))
    for _ in range(5):
        parts = (
            (
                evolve(part(meter), fault=Code.ENERGY_UNREADABLE)
                if meter is lost
                else part(meter, {APP: uj})
            )
            for meter, uj in amounts.items()
        )
        book.add(*parts, who=(APP,), lost=(lost,))
    book.add(
        *(part(meter, {APP: uj * (6 if meter is lost else 1)}) for meter, uj in amounts.items()),
        who=(APP,),
        since={lost: 60},
    )
    zones = book.ledger.containers[APP.id].zones
    assert (zones["psys"], zones["package"]) == ([540, 0], [360, 0])
    assert 60 <= zones["other"][0] <= 180


# --- who comes and goes ---


def test_the_pod_keeps_the_energy_of_a_container_that_is_let_go() -> None:
    """A pod's total does not fall while the pod lives, nor does its pool's."""
    book = Book()
    book.add(part(PACKAGE, {APP: 7, SIDE: 5}), who=(APP, SIDE), used={APP: 100, SIDE: 50})
    book.add(part(PACKAGE, {SIDE: 5}), who=(SIDE,), used={SIDE: 50})
    assert book.ledger.containers[APP.id].ended == book.now
    book.ledger.forget_told((), book.now + 601, keep_s=600)
    assert set(book.ledger.containers) == {SIDE.id}
    book.add(part(PACKAGE, {SIDE: 5}), who=(SIDE,))
    assert book.ledger.pods[UID].zones == {"package": [22, 0]}
    assert book.ledger.pods[UID].usage_us == 200
    assert sums(book.ledger.pools.values()) == {"package": [22, 0]}


def test_a_container_that_starts_again_is_another_one_in_the_same_pod() -> None:
    """Same name, new id: its own total begins at 0, the pod's goes on."""
    book = Book()
    book.add(part(PACKAGE, {APP: 7}), who=(APP,))
    new = evolve(APP, id="d" * 64)
    book.add(part(PACKAGE, {new: 3}), who=(new,))
    assert book.ledger.containers[APP.id].zones == {"package": [7, 0]}
    assert book.ledger.containers[APP.id].ended is not None
    assert book.ledger.containers[new.id].zones == {"package": [3, 0]}
    assert book.ledger.pods[UID].zones == {"package": [10, 0]}
    assert book.ledger.pods[UID].ended is None


def test_what_is_named_later_keeps_its_energy() -> None:
    """Found by UID in its cgroup's path first, then by the pod, then by its own status; labels are
    made anew each time.
    """
    book = Book()
    unnamed = Identity(APP.id, "containerd", pod_uid=UID)
    by_pod = evolve(APP, name="", pool="shared", profile="slow")
    for who in (unnamed, by_pod, APP):
        for account in (*book.ledger.containers.values(), *book.ledger.pods.values()):
            account.texts["kpm"] = "made for another name"
        book.add(part(PACKAGE, {who: 5}), who=(who,), used={who: 10})
        assert not book.ledger.containers[APP.id].texts
    assert book.ledger.containers[APP.id].identity == APP
    assert book.ledger.containers[APP.id].zones == {"package": [15, 0]}
    pod = book.ledger.pods[UID]
    assert (pod.identity.namespace, pod.identity.pod, pod.identity.pod_uid) == ("ns", "pod", UID)
    assert (pod.zones, pod.usage_us, pod.ended) == ({"package": [15, 0]}, 30, None)
    assert {key: pool.zones for key, pool in book.ledger.pools.items()} == {
        ("", ""): {"package": [5, 0]},
        ("shared", "slow"): {"package": [5, 0]},
        ("exclusive", "fast"): {"package": [5, 0]},
    }


def test_a_pod_is_named_by_any_of_its_containers() -> None:
    """One that the cluster does not know yet does not take the name away again."""
    book = Book()
    book.add(part(PACKAGE, {APP: 5}), who=(APP,))
    stray = Identity("e" * 64, "containerd", pod_uid=UID)
    book.add(part(PACKAGE, {APP: 5, stray: 5}), who=(stray, APP))
    assert book.ledger.pods[UID].identity.pod == "pod"
    assert book.ledger.pods[UID].zones == {"package": [15, 0]}


def test_a_pod_has_the_pool_that_its_containers_have_now() -> None:
    """First known by its UID, in the shared pool; then the kubelet gives it CPUs, then it has
    another profile.
    """
    book = Book()
    for who in (
        evolve(APP, name="", pool="shared", profile="slow"),
        APP,
        evolve(APP, profile="faster"),
    ):
        book.add(part(PACKAGE, {who: 5}), who=(who,))
    assert book.ledger.containers[APP.id].identity.profile == "faster"
    assert (book.ledger.pods[UID].identity.pool, book.ledger.pods[UID].identity.profile) == (
        "exclusive",
        "faster",
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["sandbox first", "sandbox last"])
def test_a_pods_sandbox_does_not_say_which_pool_it_is_in(order: tuple[int, int]) -> None:
    """Its pause container is in no status and so is known by the pod alone, as shared; the pod is
    in the pool of those that it runs.
    """
    sandbox = evolve(APP, id="5" * 64, name="", pool="shared", profile="slow")
    book = Book()
    for _ in range(2):
        book.add(part(PACKAGE, {APP: 5}), who=[(sandbox, APP)[place] for place in order])
    assert (book.ledger.pods[UID].identity.pool, book.ledger.pods[UID].identity.profile) == (
        "exclusive",
        "fast",
    )


def test_what_comes_back_has_not_ended() -> None:
    """A cgroup that was missed once: the total goes on, and nobody has been told of an end."""
    book = Book()
    for who in ((APP,), (), (APP,)):
        book.add(part(PACKAGE, dict.fromkeys(who, 5)), who=who)
    container = book.ledger.containers[APP.id]
    assert (container.ended, container.zones, book.ledger.pods[UID].ended) == (
        None,
        {"package": [10, 0]},
        None,
    )


# --- what has ended is told ---


def ended_book(count: int = 1) -> Book:
    """Pods that were there once."""
    book = Book()
    who = [
        evolve(APP, id=f"{number:064x}", pod=f"pod-{number}", pod_uid=f"uid-{number}")
        for number in range(count)
    ]
    book.add(part(PACKAGE, dict.fromkeys(who, 5)), who=who)
    book.add(part(PACKAGE))
    return book


def tell(ledger: Ledger, reader: str) -> None:
    """A reader has seen all that has ended."""
    for account in (*ledger.containers.values(), *ledger.pods.values()):
        if account.ended is not None:
            account.told.add(reader)


def test_it_is_kept_until_all_readers_have_been_told() -> None:
    """Field report 65: with two Prometheus servers the second one gets it too."""
    book = ended_book()
    tell(book.ledger, "a")
    book.ledger.forget_told(("a", "b"), book.now + 1, keep_s=600)
    assert len(book.ledger.containers) == len(book.ledger.pods) == 1
    tell(book.ledger, "b")
    book.ledger.forget_told(("a", "b"), book.now + 1, keep_s=600)
    assert not book.ledger.containers
    assert not book.ledger.pods


def test_a_reader_that_is_gone_is_not_waited_for() -> None:
    """Only those that still come count."""
    book = ended_book()
    tell(book.ledger, "a")
    book.ledger.forget_told(("a",), book.now + 1, keep_s=600)
    assert not book.ledger.pods


def test_with_no_reader_it_is_kept_for_a_time() -> None:
    """Nobody has been told, so that time alone ends it."""
    book = ended_book()
    book.ledger.forget_told((), book.now + 599, keep_s=600)
    assert len(book.ledger.pods) == 1
    book.ledger.forget_told((), book.now + 600, keep_s=600)
    assert not book.ledger.pods


def test_of_too_many_the_oldest_are_let_go() -> None:
    """Field report 59: a node of short-lived pods does not grow without end."""
    book = ended_book(MOST_ENDED)
    late = ended_book(3)
    for number, (container, pod) in enumerate(
        zip(late.ledger.containers.values(), late.ledger.pods.values(), strict=True)
    ):
        for account, accounts in ((container, book.ledger.containers), (pod, book.ledger.pods)):
            account.ended = book.now + 10
            accounts[f"late-{number}"] = account
    book.ledger.forget_told((), book.now + 11, keep_s=600)
    assert len(book.ledger.containers) == len(book.ledger.pods) == MOST_ENDED
    assert {"late-0", "late-1", "late-2"} <= book.ledger.pods.keys()


def test_who_is_there_is_never_let_go() -> None:
    """However long, and whoever has been told of an end that was none."""
    book = Book()
    for who in ((APP,), (), (APP,)):
        book.add(part(PACKAGE, dict.fromkeys(who, 5)), who=who)
        tell(book.ledger, "a")
    book.ledger.forget_told(("a",), book.now + 10**6, keep_s=600)
    assert set(book.ledger.containers) == {APP.id}
    assert set(book.ledger.pods) == {UID}


def test_who_ends_again_is_told_again() -> None:
    """What was told of the first end says nothing about the second."""
    book = Book()
    for who in ((APP,), ()):
        book.add(part(PACKAGE, dict.fromkeys(who, 5)), who=who)
    tell(book.ledger, "a")
    for who in ((APP,), ()):
        book.add(part(PACKAGE, dict.fromkeys(who, 5)), who=who)
    book.ledger.forget_told(("a",), book.now + 1, keep_s=600)
    assert book.ledger.containers[APP.id].zones == {"package": [10, 0]}


# --- over a restart ---


def test_everything_goes_on_after_a_restart() -> None:
    """The document is plain JSON and holds every counter."""
    book = Book()
    book.add(
        part(PACKAGE, {APP: 7, SIDE: 5, ALONE: 1}, {APP: 3}, 2, 1),
        part(PSYS, {APP: 30}),
        evolve(part(DRAM), fault=Code.ENERGY_RESET),
        who=(APP, SIDE, ALONE),
        used={APP: 10, SIDE: 1},
    )
    before = numbers(book.ledger)
    document = book.ledger.as_document()
    book.restart()
    assert numbers(book.ledger) == before
    assert json.dumps(book.ledger.as_document()) == json.dumps(document)
    assert {name: item.identity for name, item in book.ledger.containers.items()} == by_id(
        APP, SIDE, ALONE
    )
    book.add(part(PACKAGE, {APP: 1}), who=(APP, SIDE, ALONE))
    assert numbers(book.ledger)["container", APP.id, "package", "busy"] == 8
    assert numbers(book.ledger)["pod", UID, "package", "busy"] == 13


def test_after_a_restart_who_is_not_met_has_ended() -> None:
    """And who is met has not; pools never end."""
    book = Book()
    book.add(part(PACKAGE, {APP: 7, ALONE: 5}), who=(APP, ALONE))
    book.restart()
    book.add(part(PACKAGE), who=(ALONE,))
    assert book.ledger.containers[ALONE.id].ended is None
    assert book.ledger.containers[APP.id].ended is not None
    assert book.ledger.pods[UID].ended is not None
    assert all(pool.ended is None for pool in book.ledger.pools.values())


def test_a_pod_without_a_name_lives_on_after_a_restart() -> None:
    """The cluster has not said its name, but its container is there: it is not gone, and its total
    is not let go.
    """
    unnamed = Identity(APP.id, "containerd", pod_uid=UID)
    book = Book()
    book.add(part(PACKAGE, {unnamed: 5}), who=(unnamed,))
    book.restart()
    book.add(part(PACKAGE, {unnamed: 5}), who=(unnamed,))
    assert book.ledger.pods[UID].ended is None
    tell(book.ledger, "a")
    book.ledger.forget_told(("a",), book.now + 1, keep_s=600)
    book.add(part(PACKAGE, {unnamed: 5}), who=(unnamed,))
    assert book.ledger.pods[UID].zones == {"package": [15, 0]}


def test_names_of_all_kinds_outlive_a_restart() -> None:
    """Quotes, control characters, lone surrogates, and 253 characters."""
    who = Identity("f" * 64, "docker", 'a"b', "x\n\\\x00", "\ud800uid", "n" * 253, "{}", "")
    book = Book()
    book.add(part(PACKAGE, {who: 5}), who=(who,))
    assert again(book.ledger).containers[who.id].identity == who


# --- any history ---

METERS = (PACKAGE, SECOND_PACKAGE, DRAM, PSYS)
NAMED = (
    APP,
    SIDE,
    ALONE,
    evolve(APP, id="1" * 64, pod="other", pod_uid=OTHER_UID, profile="slow", pool="shared"),
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[Any, ...]:
    """An interval, a restart, or a scrape."""
    kind = draw(st.sampled_from(("add", "add", "add", "restart", "told", "late")))
    if kind != "add":
        return kind, draw(st.sampled_from("ab"))
    who = [
        draw(
            st.sampled_from(
                (
                    item,
                    evolve(item, name="", pool="shared", profile=""),
                    Identity(item.id, item.runtime, pod_uid=item.pod_uid),
                )
            )
        )
        for item in NAMED
        if draw(st.booleans())
    ]
    amounts = st.integers(0, 5)
    parts = tuple(
        part(
            meter,
            {item: draw(amounts) for item in who},
            {item: draw(amounts) for item in who},
            draw(amounts),
            draw(amounts),
        )
        for meter in METERS
        if draw(st.integers(0, 3))
    )
    return (
        kind,
        who,
        parts,
        {item: draw(amounts) for item in who},
        draw(st.sampled_from((10, 1, 0))),
    )


@given(st.lists(steps(), max_size=12))
def test_no_total_ever_falls_while_what_it_belongs_to_is_there(
    history: list[tuple[Any, ...]],
) -> None:
    """Whoever comes, goes, is named, or reads; and nobody is let go
    while its container is there.
    """
    book = Book()
    there: set[str] = set()
    uids: set[str] = set()
    known: dict[tuple[Any, ...], int] = {}
    for kind, *what in history:
        if kind == "add":
            who, parts, used, seconds = what
            book.add(*parts, who=who, used=used, seconds=seconds)
            there, uids = {item.id for item in who}, {item.pod_uid for item in who if item.pod_uid}
            assert {
                name for name, item in book.ledger.containers.items() if item.ended is None
            } == there
            assert {name for name, item in book.ledger.pods.items() if item.ended is None} == uids
        elif kind == "restart":
            book.restart()
        else:
            tell(book.ledger, what[0])
            book.now += 1000 if kind == "late" else 1
            ended = {
                name
                for accounts in (book.ledger.containers, book.ledger.pods)
                for name, item in accounts.items()
                if item.ended is not None
            }
            before = {*book.ledger.containers, *book.ledger.pods}
            book.ledger.forget_told(("a", "b"), book.now, keep_s=600)
            gone = before - {*book.ledger.containers, *book.ledger.pods}
            assert gone <= ended
            known = {key: value for key, value in known.items() if key[1] not in gone}
        after = numbers(book.ledger)
        assert not {
            key: (value, after.get(key))
            for key, value in known.items()
            if after.get(key, -1) < value
        }
        known = after


@given(st.lists(steps().filter(lambda step: step[0] == "add"), max_size=8))
def test_all_levels_add_up_after_any_history(history: list[tuple[Any, ...]]) -> None:
    """Containers and pools have the same; pods have all but what is in none; a meter is the sum of
    its parts.
    """
    book = Book()
    for _, who, parts, used, seconds in history:
        book.add(*parts, who=who, used=used, seconds=seconds)
    ledger = book.ledger
    containers = sums(ledger.containers.values())
    assert containers == sums(ledger.pools.values())
    assert (
        sums(
            (
                *ledger.pods.values(),
                *(item for item in ledger.containers.values() if not item.identity.pod_uid),
            )
        )
        == containers
    )
    for zone in ("package", "dram", "psys"):
        meters = [
            ledger.meters[meter.id]
            for meter in METERS
            if meter.zone == zone and meter.id in ledger.meters
        ]
        assert sum(item.uj - item.system_uj - item.unattributed_uj for item in meters) == sum(
            containers.get(zone, [0, 0])
        )
        assert (
            sum(item.busy_uj - item.system_uj for item in meters) == containers.get(zone, [0, 0])[0]
        )


def test_other_is_told_as_nothing_where_the_platform_is_measured() -> None:
    """What was measured and is nothing is 0, not absent: Kepler's boards ask for it."""
    book = Book()
    who = part(PSYS, {APP: 40}), part(PACKAGE, {APP: 50}), part(DRAM, {APP: 5})
    book.add(*who, who=(APP,))
    assert book.ledger.containers[APP.id].zones["other"] == [0, 0]
