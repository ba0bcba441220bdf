"""What a scrape gets, read back as Prometheus reads it: names, labels, types, sums; and whatever
Kubernetes or a process calls itself (Kepler's names: docs/user/migrating.md).
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Line

from kpm.energy.exposition import Exposed, Family, build_labels, escaped, expose, labels, render
from kpm.energy.ledger import Ledger
from kpm.energy.names import Identity
from kpm.energy.processes import ProcessAccount
from kpm_planner.energy.attribution import (
    EnergyAllocation,
    EnergyPolicy,
    EnergyReport,
    Sample,
    attribute,
)
from kpm_planner.energy.meters import Meter
from kpm_planner.energy.shares import Consumer, EnergyCpu
from kpm_planner.model.agent_settings import METRIC_LEVELS, METRIC_NAMES
from kpm_planner.model.problems import Code

SECOND = 1_000_000
RAPL = "class/powercap/intel-rapl"
PACKAGES = tuple(
    Meter(f"{RAPL}:{number}/energy_uj", "package", "rapl", number) for number in range(2)
)
PARTS = tuple(
    Meter(f"{RAPL}:0:{number}/energy_uj", zone, "rapl", 0)
    for number, zone in enumerate(("core", "uncore", "dram"))
)
PSYS = Meter(f"{RAPL}:2/energy_uj", "psys", "rapl")
#: Two supplies, each with two rails of the same names.
RAILS = tuple(
    Meter(f"class/hwmon/hwmon{chip}/power{number}_input", zone, "hwmon", power=True)
    for chip in (0, 1)
    for number, zone in enumerate(("platform", "power +12v", "{part package,"), 1)
)
ALL = (*PACKAGES, *PARTS, PSYS)
CPUS = tuple(EnergyCpu(number, number // 2) for number in range(4))
OWNED, SHARED, GONE = (
    Identity(
        letter * 64,
        runtime,
        "space",
        f"pod-{letter}",
        f"uid-{letter}",
        f"name-{letter}",
        pool,
        profile,
    )
    for letter, runtime, pool, profile in (
        ("a", "containerd", "exclusive", "performance"),
        ("b", "crio", "shared", "power"),
        ("c", "docker", "shared", "power"),
    )
)
PROCESSES = {
    (7, 70): ProcessAccount(
        7,
        "worker",
        "/usr/bin/worker",
        OWNED.id,
        100,
        5_000_000,
        {"package": 3_000_000, "dram": 5},
        {"package": 300_000, "dram": 1},
    ),
    (8, 70): ProcessAccount(
        8, "kubelet", "/usr/bin/kubelet", "", 100, 2_000_000, {"package": 1_000_000}
    ),
}


def attributed(meters: tuple[Meter, ...], who: Iterable[Identity], idle: str) -> EnergyReport:
    """An interval of ten seconds in which everybody ran."""
    present = tuple(who)
    consumers = {
        item.id: Consumer(frozenset({0}) if item is OWNED else frozenset(), 500) for item in present
    }
    before = Sample(
        0,
        dict.fromkeys((meter.id for meter in meters), 1),
        dict.fromkeys(range(4), 0),
        dict.fromkeys(range(4), 0),
        dict.fromkeys(consumers, 0),
    )
    ran = {item.id: (number + 1) * 1_234_567 for number, item in enumerate(present)}
    energy = {
        meter.id: 123_456_789 * (3 if meter.zone == "psys" else 1) + number
        for number, meter in enumerate(meters)
    }
    after = Sample(
        10 * SECOND,
        energy,
        dict.fromkeys(range(4), 4_000_003),
        dict.fromkeys(range(4), 5_900_001),
        ran,
    )
    return attribute(before, after, EnergyAllocation(meters, CPUS, consumers), EnergyPolicy(idle))


def booked(
    meters: tuple[Meter, ...] = ALL,
    idle: str = "requests",
    who: tuple[Identity, ...] = (OWNED, SHARED, GONE),
) -> Ledger:
    """Two intervals; in the second one GONE has gone."""
    ledger = Ledger()
    for number, present in enumerate((who, tuple(item for item in who if item is not GONE))):
        report = attributed(meters, present, idle)
        ledger.add(
            report,
            {item.id: item for item in present},
            {meter.id: 5 for meter in meters},
            10.0 * number,
        )
    return ledger


def full(meters: tuple[Meter, ...] = ALL, **changes: Any) -> Exposed:
    """All levels by all names."""
    what = Exposed(
        "node-1",
        METRIC_LEVELS,
        METRIC_NAMES,
        20_000,
        booked(meters),
        meters,
        PROCESSES,
        0.25,
        (labels(processor="0", vendor_id="", model_name='A "CPU"', physical_id="0", core_id="0"),),
        build_labels(),
    )
    return evolve(what, **changes)


def text_of(what: Exposed) -> str:
    """What is told."""
    return render(expose(what)[0]).decode()


def parsed(text: str) -> dict[str, Metric]:
    """Family → metric, as its TYPE line calls it."""
    found = list(text_string_to_metric_families(text))
    names = [f"{item.name}_total" if item.type == "counter" else item.name for item in found]
    assert not [name for name, times in Counter(names).items() if times > 1]
    return dict(zip(names, found, strict=True))


def told(what: Exposed) -> dict[str, Metric]:
    """The families of an exposition."""
    return parsed(text_of(what))


def names_of(metric: Metric) -> set[frozenset[str]]:
    """The sets of labels that its series have."""
    return {frozenset(line.labels) for line in metric.samples}


def only(metric: Metric, **wanted: str) -> list[Line]:
    """The series that have these labels."""
    return [line for line in metric.samples if wanted.items() <= line.labels.items()]


def total(metric: Metric, **wanted: str) -> float:
    """Their sum, as exactly as floats allow."""
    return math.fsum(line.value for line in only(metric, **wanted))


# --- names, labels, types ---

ZONE = frozenset({"zone"})
KPM_METER = frozenset({"zone", "place", "source", "path"})
KPM_POD = frozenset({"namespace", "pod", "pod_uid", "pool", "profile", "state"})
KPM_CONTAINER = frozenset(
    {"namespace", "pod", "container", "container_id", "pool", "profile", "state"}
)
KEPLER_POD = frozenset({"pod_id", "pod_name", "pod_namespace", "state", "node_name"})
KEPLER_CONTAINER = frozenset(
    {"container_id", "container_name", "runtime", "state", "pod_id", "node_name"}
)
KEPLER_PROCESS = frozenset(
    {"pid", "comm", "exe", "type", "state", "container_id", "vm_id", "node_name"}
)
OLD_CONTAINER = frozenset(
    {"container_id", "container_name", "container_namespace", "pod_name", "mode", "source"}
)
OLD_NODE = frozenset({"instance", "package", "mode", "source"})
EXPECTED: dict[tuple[str, str], dict[str, frozenset[str]]] = {
    ("kpm", "node"): {
        **{
            f"kpm_node_{word}_joules_total": KPM_METER
            for word in ("energy", "busy", "system", "unattributed")
        },
        "kpm_node_power_watts": KPM_METER,
        "kpm_meter_up": KPM_METER,
        "kpm_pool_joules_total": frozenset({"pool", "profile", "mode"}) | ZONE,
    },
    ("kpm", "pod"): {
        "kpm_pod_joules_total": KPM_POD | {"mode"} | ZONE,
        "kpm_pod_power_watts": KPM_POD | ZONE,
        "kpm_pod_cpu_seconds_total": KPM_POD,
    },
    ("kpm", "container"): {
        "kpm_container_joules_total": KPM_CONTAINER | {"mode"} | ZONE,
        "kpm_container_power_watts": KPM_CONTAINER | ZONE,
        "kpm_container_cpu_seconds_total": KPM_CONTAINER,
    },
    ("kpm", "process"): {
        "kpm_process_joules_total": frozenset({"pid", "comm", "container_id"}) | ZONE,
        "kpm_process_power_watts": frozenset({"pid", "comm", "container_id"}) | ZONE,
        "kpm_process_cpu_seconds_total": frozenset({"pid", "comm", "container_id"}),
    },
    ("kepler", "node"): {
        **{
            f"kepler_node_cpu_{word}": frozenset({"zone", "path", "node_name"})
            for part in ("", "active_", "idle_")
            for word in (f"{part}joules_total", f"{part}watts")
        },
        "kepler_node_cpu_usage_ratio": frozenset({"node_name"}),
        "kepler_node_cpu_info": frozenset(
            {"processor", "vendor_id", "model_name", "physical_id", "core_id"}
        ),
        "kepler_build_info": frozenset({"arch", "branch", "revision", "version", "goversion"}),
    },
    ("kepler", "pod"): {
        "kepler_pod_cpu_joules_total": KEPLER_POD | ZONE,
        "kepler_pod_cpu_watts": KEPLER_POD | ZONE,
    },
    ("kepler", "container"): {
        "kepler_container_cpu_joules_total": KEPLER_CONTAINER | ZONE,
        "kepler_container_cpu_watts": KEPLER_CONTAINER | ZONE,
        "kepler_container_cpu_seconds_total": KEPLER_CONTAINER,
    },
    ("kepler", "process"): {
        "kepler_process_cpu_joules_total": KEPLER_PROCESS | ZONE,
        "kepler_process_cpu_seconds_total": KEPLER_PROCESS - {"state"},
    },
    ("kepler-0.7", "node"): {
        **{
            f"kepler_node_{zone}_joules_total": OLD_NODE
            for zone in ("core", "package", "dram", "uncore", "platform")
        },
        "kepler_exporter_build_info": frozenset({"arch", "branch", "os", "revision", "version"}),
    },
    ("kepler-0.7", "container"): {
        f"kepler_container_{zone}joules_total": OLD_CONTAINER
        for zone in ("", "core_", "package_", "dram_", "uncore_", "other_")
    },
}


@pytest.mark.parametrize(("name", "level"), EXPECTED, ids=lambda word: word)
def test_families_have_the_names_labels_and_types_of_their_line(name: str, level: str) -> None:
    """The names of Kepler 0.10 and 0.7, name by name; exactly these labels on every series; energy
    and time are counters, power and the rest gauges.
    """
    found = told(full(names=(name,), levels=(level,)))
    expected = EXPECTED[name, level]
    assert {family: names_of(metric) for family, metric in found.items() if family in expected} == {
        family: {names} for family, names in expected.items()
    }
    for family, metric in found.items():
        assert metric.type == ("counter" if family.endswith("_total") else "gauge")
        assert family.endswith(
            ("_joules_total", "_seconds_total", "_faults_total", "_watts", "_ratio", "_info", "_up")
        )
        assert metric.documentation


def test_nothing_else_is_told() -> None:
    """What is not in the lists above is nobody's: each further family
    is found by this test first.
    """
    expected = {family for families in EXPECTED.values() for family in families}
    assert set(told(full())) - expected <= {
        "kpm_meter_faults_total",
        "kepler_process_cpu_watts",
        "kepler_node_other_joules_total",
        "kepler_container_platform_joules_total",
    }


def test_processes_have_power_by_the_names_of_kepler() -> None:
    """Kepler 0.10: kepler_process_cpu_{joules_total,watts}; the dashboard's top ten of processes is
    by watts.
    """
    found = told(full(names=("kepler",), levels=("process",)))
    assert found["kepler_process_cpu_watts"].type == "gauge"
    assert names_of(found["kepler_process_cpu_watts"]) == {KEPLER_PROCESS | ZONE}


def test_the_old_names_have_what_the_node_uses_beside_packages_and_memory() -> None:
    """Kepler 0.7: kepler_node_other_joules_total, where the platform is measured; containers have
    it by the old names already.
    """
    found = told(full(names=("kepler-0.7",), levels=("node",)))
    other = found["kepler_node_other_joules_total"]
    assert names_of(other) == {OLD_NODE}
    by_zone = {
        zone: total(found[f"kepler_node_{zone}_joules_total"])
        for zone in ("platform", "package", "dram")
    }
    assert total(other) == pytest.approx(
        by_zone["platform"] - by_zone["package"] - by_zone["dram"], rel=1e-6
    )


def test_paths_and_zones_are_the_meters() -> None:
    """Field report 34: zones of one name are told apart by path, and places by package."""
    found = told(full(names=("kepler", "kpm"), levels=("node",)))
    assert {
        (line.labels["zone"], line.labels["path"])
        for line in found["kepler_node_cpu_joules_total"].samples
    } == {(item.zone, f"/sys/{item.id}") for item in ALL}
    assert {
        (line.labels["zone"], line.labels["place"], line.labels["path"])
        for line in found["kpm_node_energy_joules_total"].samples
    } == {(item.zone, item.place, item.id) for item in ALL}


def test_containers_have_the_names_that_kubernetes_gave_them() -> None:
    """In all three lines."""
    found = told(full(levels=("container", "pod")))
    (ours,) = only(found["kpm_container_cpu_seconds_total"], container_id=OWNED.id)
    assert ours.labels == {
        "namespace": "space",
        "pod": "pod-a",
        "container": "name-a",
        "container_id": OWNED.id,
        "pool": "exclusive",
        "profile": "performance",
        "state": "running",
    }
    (theirs,) = only(found["kepler_container_cpu_seconds_total"], container_id=SHARED.id)
    assert theirs.labels == {
        "container_id": SHARED.id,
        "container_name": "name-b",
        "runtime": "crio",
        "state": "running",
        "pod_id": "uid-b",
        "node_name": "node-1",
    }
    (pod,) = only(found["kepler_pod_cpu_joules_total"], pod_id="uid-a", zone="package")
    assert (pod.labels["pod_name"], pod.labels["pod_namespace"]) == ("pod-a", "space")
    (old,) = only(found["kepler_container_joules_total"], container_id=SHARED.id, mode="dynamic")
    assert old.labels == {
        "container_id": SHARED.id,
        "container_name": "name-b",
        "container_namespace": "space",
        "pod_name": "pod-b",
        "mode": "dynamic",
        "source": "rapl",
    }


def test_the_source_of_the_old_names_is_the_meters_there_are_now() -> None:
    """A driver that is loaded later: what was told of a container before does not stick."""
    ledger = booked()
    told(full(names=("kepler-0.7",), ledger=ledger, meters=()))
    found = told(full(names=("kepler-0.7",), ledger=ledger))
    assert {line.labels["source"] for line in found["kepler_container_joules_total"].samples} == {
        "rapl"
    }


def test_what_has_ended_is_terminated_and_has_no_power() -> None:
    """Its totals are told once more, with the state that dashboards ask for; power is of those who
    run.
    """
    found = told(full(levels=("pod", "container")))
    for family in (
        "kpm_pod_joules_total",
        "kpm_container_joules_total",
        "kepler_pod_cpu_joules_total",
        "kepler_container_cpu_joules_total",
    ):
        assert {line.labels["state"] for line in found[family].samples} == {"running", "terminated"}
    assert {
        line.labels["state"]
        for line in only(found["kpm_container_joules_total"], container_id=GONE.id)
    } == {"terminated"}
    for family in (
        "kpm_pod_power_watts",
        "kpm_container_power_watts",
        "kepler_pod_cpu_watts",
        "kepler_container_cpu_watts",
    ):
        assert found[family].samples
        assert {line.labels["state"] for line in found[family].samples} == {"running"}


def test_processes_say_whose_they_are() -> None:
    """Kepler 0.10: type container or regular."""
    found = told(full(names=("kepler",), levels=("process",)))
    kinds = {
        line.labels["pid"]: (line.labels["type"], line.labels["container_id"], line.labels["comm"])
        for line in found["kepler_process_cpu_seconds_total"].samples
    }
    assert kinds == {"7": ("container", OWNED.id, "worker"), "8": ("regular", "", "kubelet")}
    assert total(found["kepler_process_cpu_joules_total"], pid="7", zone="package") == 3.0
    assert total(found["kepler_process_cpu_seconds_total"], pid="7") == 5.0


def test_faults_are_counted_by_meter_and_code() -> None:
    """A family that is absent while there are none."""
    assert "kpm_meter_faults_total" not in told(full())
    ledger = booked()
    ledger.meters[PSYS.id].faults[Code.ENERGY_RESET.value] = 3
    (line,) = told(full(ledger=ledger))["kpm_meter_faults_total"].samples
    assert (line.labels["code"], line.labels["path"], line.value) == ("energy-reset", PSYS.id, 3)


# --- form of the text ---


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Family → its series, in the order of the text."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("# HELP "):
            found.append((line.split(" ", 3)[2], []))
        elif not line.startswith("# TYPE "):
            found[-1][1].append(line)
    return found


@pytest.mark.parametrize("names", [METRIC_NAMES, METRIC_NAMES[::-1]], ids=["in order", "backwards"])
def test_each_family_is_one_block(names: tuple[str, ...]) -> None:
    """Prometheus wants the series of a family together, under one HELP and one TYPE, and no family
    without series.
    """
    found = blocks(text_of(full(names=names)))
    assert not [name for name, times in Counter(name for name, _ in found).items() if times > 1]
    for name, lines in found:
        assert lines
        assert {line.partition("{")[0] for line in lines} == {name}
    text = text_of(full(names=names))
    assert text.count("# HELP ") == text.count("# TYPE ") == len(found)


def twice(what: Exposed) -> dict[str, int]:
    """Series that are told more than once, and how often; values apart."""
    return {
        str(key): times
        for key, times in Counter(
            (line.name, tuple(sorted(line.labels.items())))
            for metric in told(what).values()
            for line in metric.samples
        ).items()
        if times > 1
    }


SERVERS: Mapping[str, tuple[Meter, ...]] = {
    "two packages, psys": ALL,
    "dies": tuple(Meter(f"{RAPL}:{die}/energy_uj", "package", "rapl", 0, die) for die in range(2)),
    "two supplies": (
        *PACKAGES,
        *(
            Meter(f"class/hwmon/hwmon{number}/power1_input", "platform", "hwmon", power=True)
            for number in range(2)
        ),
    ),
    "psys beside a sensor": (
        *PACKAGES,
        PSYS,
        Meter("class/hwmon/hwmon0/power1_input", "platform", "hwmon", power=True),
    ),
    "two supplies with their rails": (*PACKAGES, *RAILS),
    "rails alone": RAILS[1:3],
    "parts of a processor": tuple(
        Meter(f"class/hwmon/hwmon0/power{number}_input", "package", "hwmon", 0, power=True)
        for number in (1, 2)
    ),
}


@pytest.mark.parametrize("meters", SERVERS.values(), ids=list(SERVERS))
@pytest.mark.parametrize("name", METRIC_NAMES)
def test_no_series_is_told_twice(name: str, meters: tuple[Meter, ...]) -> None:
    """Field report 34: dies of a package, two power supplies: Prometheus drops all but one of
    series that are called the same.
    """
    assert not twice(full(meters, names=(name,)))


def test_promtool_has_nothing_to_say() -> None:
    """Names, units, help texts: its linter finds no fault with any family."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    ledger = booked()
    ledger.meters[PSYS.id].faults[Code.ENERGY_RESET.value] = 3
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=text_of(full(ledger=ledger)).encode(),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (0, "", "")


# --- what is not measured is absent ---


def test_no_meter_no_energy() -> None:
    """Field report 37: a machine without meters has neither joules nor watts, not even 0; CPU time
    it has.
    """
    found = told(full((), processes={}))
    assert not [name for name, metric in found.items() if "joules" in name or "watts" in name]
    assert {
        "kpm_pod_cpu_seconds_total",
        "kpm_container_cpu_seconds_total",
        "kepler_container_cpu_seconds_total",
    } <= set(found)


def test_no_zone_no_series() -> None:
    """Field report 38: without dram, core, or psys nothing has their names."""
    text = text_of(full(PACKAGES, processes={}))
    assert "package" in text
    for zone in ("dram", "core", "psys", "platform", "other"):
        assert f'zone="{zone}"' not in text
        assert f"_{zone}_joules" not in text


def test_a_meter_that_is_not_read_has_energy_but_no_power() -> None:
    """And says so by kpm_meter_up."""
    ledger = booked()
    ledger.meters[PSYS.id].up = False
    found = told(full(ledger=ledger, levels=("node",)))
    assert only(found["kpm_node_energy_joules_total"], path=PSYS.id)
    for family in (
        "kpm_node_power_watts",
        "kepler_node_cpu_watts",
        "kepler_node_cpu_active_watts",
        "kepler_node_cpu_idle_watts",
    ):
        assert found[family].samples
        assert not only(found[family], zone="psys")
    assert {line.labels["path"]: line.value for line in found["kpm_meter_up"].samples} == {
        meter.id: meter is not PSYS for meter in ALL
    }


def test_a_meter_that_is_gone_is_told_no_more() -> None:
    """Its total is kept, for when it comes back."""
    assert not only(
        told(full(meters=PACKAGES, ledger=booked(), levels=("node",)))[
            "kpm_node_energy_joules_total"
        ],
        zone="psys",
    )


def test_without_an_owner_there_is_no_idle_energy() -> None:
    """Policy node: our names have no mode idle; the old ones have both, as ever; an owner's is told
    under policy owner.
    """
    ours = ("kpm_pod_joules_total", "kpm_container_joules_total", "kpm_pool_joules_total")
    found = told(full(ledger=booked(idle="node")))
    assert {line.labels["mode"] for family in ours for line in found[family].samples} == {"busy"}
    assert {line.labels["mode"] for line in found["kepler_container_joules_total"].samples} == {
        "dynamic",
        "idle",
    }
    assert total(found["kepler_container_joules_total"], mode="idle") == 0
    owner = told(full(ledger=booked(idle="owner")))
    for family in ours:
        idle = only(owner[family], mode="idle", zone="package")
        assert {line.labels["pool"] for line in idle} == {"exclusive"}
        assert all(line.value > 0 for line in idle)


def test_nothing_known_nothing_told() -> None:
    """Before the first look."""
    assert text_of(Exposed("n", METRIC_LEVELS, METRIC_NAMES, 100, Ledger())) == ""


# --- sums ---


def test_the_energy_of_a_zone_is_that_of_all_who_used_it() -> None:
    """Σ pods + system + nobody's = what the meters measured, within what a float can say."""
    found = told(full())
    for zone in ("package", "dram", "psys"):
        parts = total(found["kpm_pod_joules_total"], zone=zone) + total(
            found["kpm_node_system_joules_total"], zone=zone
        )
        whole = total(found["kpm_node_energy_joules_total"], zone=zone)
        assert whole > 0
        assert parts + total(
            found["kpm_node_unattributed_joules_total"], zone=zone
        ) == pytest.approx(whole, rel=1e-12)
        for family in ("kpm_container_joules_total", "kpm_pool_joules_total"):
            assert total(found[family], zone=zone) == pytest.approx(
                total(found["kpm_pod_joules_total"], zone=zone), rel=1e-12
            )


def test_pools_have_the_energy_also_of_those_who_were_let_go() -> None:
    """So that the sum holds for ever, and for containers outside of pods."""
    ledger = booked(who=(OWNED, evolve(SHARED, pod_uid=""), GONE))
    ledger.forget_told((), 10**6, keep_s=600)
    found = told(full(ledger=ledger))
    assert not only(found["kpm_container_joules_total"], container_id=GONE.id)
    parts = sum(
        total(found[family], zone="package")
        for family in (
            "kpm_pool_joules_total",
            "kpm_node_system_joules_total",
            "kpm_node_unattributed_joules_total",
        )
    )
    assert parts == pytest.approx(
        total(found["kpm_node_energy_joules_total"], zone="package"), rel=1e-12
    )


def test_the_energy_of_a_node_is_active_and_idle() -> None:
    """By Kepler's names, and by those of its 0.7 line; power too."""
    found = told(full(levels=("node",)))
    for meter in ALL:
        at = {"path": f"/sys/{meter.id}"}
        for word in ("joules_total", "watts"):
            whole, active, idle = (
                total(found[f"kepler_node_cpu_{part}{word}"], **at)
                for part in ("", "active_", "idle_")
            )
            assert active > 0
            assert idle > 0
            assert active + idle == pytest.approx(whole, rel=1e-12)
        assert total(found["kpm_node_busy_joules_total"], path=meter.id) == total(
            found["kepler_node_cpu_active_joules_total"], **at
        )
    old = found["kepler_node_package_joules_total"]
    assert total(old) == pytest.approx(
        total(found["kpm_node_energy_joules_total"], zone="package"), rel=1e-12
    )
    assert {(line.labels["package"], line.labels["mode"]) for line in old.samples} == {
        (package, mode) for package in "01" for mode in ("dynamic", "idle")
    }


def test_keplers_consumers_have_busy_energy_alone() -> None:
    """Kepler 0.10: idle energy is nobody's there; by our names it is the owner's, under a mode of
    its own.
    """
    found = told(full())
    for kind, uid in (("pod", "pod_uid"), ("container", "container_id")):
        theirs = {"pod": "pod_id", "container": "container_id"}[kind]
        for line in only(found[f"kpm_{kind}_joules_total"], mode="busy", zone="package"):
            assert (
                total(
                    found[f"kepler_{kind}_cpu_joules_total"],
                    zone="package",
                    **{theirs: line.labels[uid]},
                )
                == line.value
            )


def test_the_old_total_of_a_container_is_package_memory_and_other() -> None:
    """Zones that do not lie in each other: core and uncore are part of the package."""
    found = told(full(names=("kepler-0.7",)))
    for mode in ("dynamic", "idle"):
        for who in (OWNED, SHARED, GONE):
            at = {"container_id": who.id, "mode": mode}
            parts = sum(
                total(found[f"kepler_container_{zone}_joules_total"], **at)
                for zone in ("package", "dram", "other")
            )
            assert total(found["kepler_container_joules_total"], **at) == pytest.approx(
                parts, rel=1e-12
            )


def test_parts_of_a_board_have_zones_of_their_own() -> None:
    """By our names and those of Kepler that have zones: each meter by its path, and what containers
    used of all parts of one name together.
    """
    meters = (*PACKAGES, *RAILS)
    found = told(full(meters))
    for family in ("kpm_node_energy_joules_total", "kepler_node_cpu_joules_total"):
        assert Counter(line.labels["zone"] for line in found[family].samples) == Counter(
            meter.zone for meter in meters
        )
    for family in (
        "kpm_container_joules_total",
        "kpm_pod_joules_total",
        "kpm_pool_joules_total",
        "kepler_container_cpu_joules_total",
        "kepler_pod_cpu_joules_total",
    ):
        assert {line.labels["zone"] for line in found[family].samples} >= {
            "platform",
            "power +12v",
            "{part package,",
        }
    ledger = booked(meters)
    parts = [ledger.meters[meter.id] for meter in RAILS if meter.zone == "power +12v"]
    busy = math.fsum(
        line.value
        for line in only(found["kpm_container_joules_total"], zone="power +12v", mode="busy")
    )
    assert busy == pytest.approx(
        sum(item.busy_uj - item.system_uj for item in parts) / SECOND, rel=1e-9
    )


def test_the_old_names_have_no_parts_of_a_board() -> None:
    """They have no names for them; the machine is that of its supplies, and nothing of a part is
    added to anything.
    """
    whole = (*PACKAGES, RAILS[0], RAILS[3])
    with_rails, without = (
        told(full((*whole, *parts), names=("kepler-0.7",))) for parts in (RAILS[1:3], ())
    )
    assert set(with_rails) == set(without)
    for name, metric in without.items():
        assert {str(line.labels): line.value for line in with_rails[name].samples} == {
            str(line.labels): line.value for line in metric.samples
        }
    assert set(told(full(RAILS[1:3], names=("kepler-0.7",)))) == {"kepler_exporter_build_info"}


def test_the_old_names_tell_the_machine_once() -> None:
    """Kepler 0.7: psys and a sensor show the same energy; they have one name for both, and the
    first one has it.
    """
    both, psys = (
        told(full((*PACKAGES, PSYS, *more), names=("kepler-0.7",))) for more in ((RAILS[0],), ())
    )
    assert (
        total(both["kepler_node_platform_joules_total"])
        == total(psys["kepler_node_platform_joules_total"])
        > 0
    )
    supplies = told(full((*PACKAGES, RAILS[0], RAILS[3]), names=("kepler-0.7",)))[
        "kepler_node_platform_joules_total"
    ]
    whole = booked((*PACKAGES, RAILS[0], RAILS[3]))
    assert total(supplies) == pytest.approx(
        sum(whole.meters[meter.id].uj for meter in (RAILS[0], RAILS[3])) / SECOND, rel=1e-9
    )


def test_units_are_joules_watts_and_seconds() -> None:
    """From µJ, µW and µs."""
    found = told(full())
    ledger = booked()
    meter = ledger.meters[PACKAGES[0].id]
    assert total(found["kpm_node_energy_joules_total"], path=PACKAGES[0].id) == meter.uj / 1e6
    assert total(found["kpm_node_power_watts"], path=PACKAGES[0].id) == pytest.approx(
        123_456_788 / 10 / 1e6, rel=1e-6
    )
    assert (
        total(found["kpm_container_cpu_seconds_total"], container_id=OWNED.id)
        == 2 * 1_234_567 / 1e6
    )
    both = only(found["kpm_container_power_watts"], container_id=OWNED.id, zone="dram")
    assert both[0].value == pytest.approx(sum(ledger.containers[OWNED.id].power_uw["dram"]) / 1e6)


def test_large_totals_lose_nothing() -> None:
    """A year at a kilowatt, to the µJ as far as a float goes."""
    ledger = booked(PACKAGES)
    ledger.meters[PACKAGES[0].id].uj = 31_536_000_000 * SECOND + 1
    assert (
        total(
            told(full(PACKAGES, ledger=ledger))["kpm_node_energy_joules_total"], path=PACKAGES[0].id
        )
        == (31_536_000_000 * SECOND + 1) / 1e6
    )


# --- levels and names are chosen ---


@pytest.mark.parametrize(("name", "level"), EXPECTED, ids=lambda word: word)
def test_each_level_and_name_is_told_alone(name: str, level: str) -> None:
    """And all together they are all that is told."""
    alone = blocks(text_of(full(names=(name,), levels=(level,))))
    together = dict(blocks(text_of(full())))
    assert {family: lines for family, lines in together.items() if family in dict(alone)} == dict(
        alone
    )
    other = {
        family
        for key in EXPECTED
        if key != (name, level)
        for family, _ in blocks(text_of(full(names=(key[0],), levels=(key[1],))))
    }
    assert not other & dict(alone).keys()


def test_no_levels_or_no_names_is_nothing() -> None:
    """Neither is an error."""
    assert text_of(full(levels=())) == text_of(full(names=())) == ""


def series(what: Exposed) -> int:
    """How many series are told."""
    return sum(len(family.lines) for family in expose(what)[0])


def test_levels_beyond_the_most_series_are_left_out_the_last_first() -> None:
    """Field report 59: whole levels, never half of one; which, is said."""
    sizes = [series(full(levels=METRIC_LEVELS[:count])) for count in range(5)]
    for most in (
        0,
        1,
        sizes[1] - 1,
        sizes[1],
        sizes[2] - 1,
        sizes[2],
        sizes[3],
        sizes[4] - 1,
        sizes[4],
        sizes[4] + 1,
    ):
        families, left_out = expose(full(most=most))
        fitting = max(count for count in range(5) if sizes[count] <= most)
        assert left_out == METRIC_LEVELS[fitting:]
        assert render(families).decode() == text_of(full(levels=METRIC_LEVELS[:fitting]))


def test_what_is_named_first_stays() -> None:
    """The order of the settings is the order of importance; a small level after one that does not
    fit is left out too.
    """
    families, left_out = expose(
        full(levels=("process", "container", "node"), most=series(full(levels=("process",))))
    )
    assert left_out == ("container", "node")
    assert families


# --- hostile names ---

HOSTILE = [
    'a"b',
    "a\\b",
    "a\nb",
    "\\n",
    '\\"',
    "\\",
    '"',
    "\n",
    "a\x00b",
    "\x00",
    "\ud800",
    "a\udfffb",
    "n" * 253,
    "}",
    "{",
    '"} 1\nevil_total 1\n#',
    'x",mode="idle',
    "a,b=c",
    "# TYPE x counter",
    " padded ",
    "\ttab\r",
    "\u2028\x85\x1c",
    "\x7f\x1b[31m",
    "ü€😀",
    "%s{}",
    "\\\\n",
    "end\\",
]


def expected(text: str) -> str:
    """What a reader sees of it: lone surrogates are nothing that any text can hold."""
    return "".join("?" if "\ud800" <= char <= "\udfff" else char for char in text)


def round_trip(word: str) -> None:
    """Every label that comes from outside, through the text and back."""
    who = Identity(f"{word}id", word, word, word, word, word, word, word)
    ledger = booked(PACKAGES, who=(who,))
    processes = {(7, 1): ProcessAccount(7, word, word, word, 0, 5, {"package": 5})}
    info = (labels(processor="0", vendor_id="", model_name=word, physical_id="0", core_id=""),)
    what = Exposed(
        word,
        METRIC_LEVELS,
        METRIC_NAMES,
        10_000,
        ledger,
        PACKAGES,
        processes,
        0.5,
        info,
        labels(arch=word),
    )
    found = told(what)
    plain = told(
        evolve(
            what, node="n", ledger=booked(PACKAGES, who=(Identity("id", *["x"] * 7),)), processes={}
        )
    )
    assert {
        name: len(metric.samples) for name, metric in found.items() if "process" not in name
    } == {name: len(metric.samples) for name, metric in plain.items()}
    seen = expected(word)
    (pod,) = only(found["kpm_pod_cpu_seconds_total"])
    assert [pod.labels[name] for name in ("namespace", "pod", "pod_uid", "pool", "profile")] == [
        seen
    ] * 5
    (container,) = only(found["kepler_container_cpu_seconds_total"])
    assert [
        container.labels[name] for name in ("container_name", "runtime", "pod_id", "node_name")
    ] == [seen] * 4
    assert container.labels["container_id"] == f"{seen}id"
    (process,) = only(found["kepler_process_cpu_seconds_total"])
    assert [process.labels[name] for name in ("comm", "exe", "container_id", "node_name")] == [
        seen
    ] * 4
    assert [line.labels["model_name"] for line in found["kepler_node_cpu_info"].samples] == [seen]
    assert {
        line.labels["instance"] for line in found["kepler_node_package_joules_total"].samples
    } == {seen}


@pytest.mark.parametrize("word", HOSTILE, ids=ascii)
def test_no_name_breaks_the_text(word: str) -> None:
    """Quotes, line ends, NUL, what looks like more labels or more
    series: it comes back as it was.
    """
    round_trip(word)


@given(
    st.text(st.characters(codec=None, exclude_categories=()), min_size=1, max_size=12)
    | st.text('\\"\n{}=, #', min_size=1, max_size=12)
)
@example("\ud83d\ude00")
def test_any_text_comes_back_as_it_was(word: str) -> None:
    """A label's value, beside another one, so that neither runs into the other."""
    text = render(
        [Family("a_watts", "gauge", "Text.", [f"a_watts{{{labels(x=word, y='plain')}}} 1\n"])]
    ).decode()
    (metric,) = parsed(text).values()
    (line,) = metric.samples
    assert (line.labels, line.value) == ({"x": expected(word), "y": "plain"}, 1)
    assert "\n" not in escaped(word)


def test_promtool_reads_hostile_names_too() -> None:
    """Its parser is Prometheus's own."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    lines = [
        f"a_watts{{{labels(x=word, number=str(number))}}} 1\n"
        for number, word in enumerate(HOSTILE)
    ]
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=render([Family("a_watts", "gauge", "Text.", lines)]),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_labels_are_made_once_and_anew_when_what_they_say_changes() -> None:
    """Field report 59: a scrape of thousands of series costs little; a name or an end is told at
    the next one all the same.
    """
    ledger = booked(PACKAGES)
    what = full(PACKAGES, ledger=ledger)
    assert text_of(what) == text_of(what)
    texts = json.dumps(ledger.containers[OWNED.id].texts)
    text_of(what)
    assert json.dumps(ledger.containers[OWNED.id].texts) == texts
    new = evolve(OWNED, profile="other")
    ledger.add(attributed(PACKAGES, (new,), "owner"), {new.id: new}, {}, 30.0)
    found = told(what)
    assert {
        line.labels["profile"]
        for line in only(found["kpm_container_cpu_seconds_total"], container_id=OWNED.id)
    } == {"other"}
    assert {
        line.labels["state"]
        for line in only(found["kpm_container_cpu_seconds_total"], container_id=SHARED.id)
    } == {"terminated"}
