"""Machines described by hand: built-in models, and packages × dies × cores × threads."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given

from kpm.formats.views import machine_view
from kpm.process.errors import InputError
from kpm.request.machines import (
    MODELS,
    CoreSpec,
    IdleStateSpec,
    MachineSpec,
    UncoreSpec,
    build_machine,
    described_machine,
    read_machine,
)
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.machine import TESTED_DRIVERS, Machine
from tests.kpm.cli_rig import examples
from tests.kpm.random_samples import machine_specs


def siblings(machine: Machine) -> list[tuple[int, ...]]:
    return [cpu.siblings for cpu in machine.cpus]


def places(machine: Machine) -> list[tuple[int | None, int | None, int | None]]:
    return [(cpu.package, cpu.die, cpu.core) for cpu in machine.cpus]


@pytest.mark.parametrize(
    ("name", "cpus", "online_domains", "driver", "idle", "uncore", "epp"),
    [
        ("xeon", 32, 32, "intel_pstate", ("POLL", "C1", "C1E", "C6"), 2, True),
        ("epyc", 32, 32, "amd-pstate-epp", ("POLL", "C1", "C2"), 0, True),
        ("opteron", 16, 16, "acpi-cpufreq", ("C1", "POLL", "C2"), 0, False),
        ("hybrid", 20, 20, "intel_pstate", ("POLL", "C1", "C1E", "C6"), 0, True),
        ("arm", 16, 8, "cppc_cpufreq", ("LPI-0", "LPI-1"), 0, False),
        ("vm", 8, 0, None, (), 0, False),
    ],
)
def test_models(
    name: str,
    cpus: int,
    online_domains: int,
    driver: str | None,
    idle: tuple[str, ...],
    uncore: int,
    epp: bool,
) -> None:
    machine = build_machine(MODELS[name])
    assert len(machine.cpus) == len(machine.online) == cpus
    assert len(machine.domains) == online_domains
    assert {domain.driver for domain in machine.domains} == ({driver} if driver else set())
    assert all(domain.managed for domain in machine.domains)
    assert machine.idle_names == idle
    assert len(machine.uncore) == uncore
    assert all((domain.settings.epp is not None) is epp for domain in machine.domains)
    assert machine.cpu_model


def test_models_are_few_enough_to_see() -> None:
    assert set(MODELS) == {"xeon", "epyc", "opteron", "hybrid", "arm", "vm"}
    assert all(len(build_machine(spec).cpus) <= 64 for spec in MODELS.values())
    assert {spec.driver for spec in MODELS.values() if spec.driver} <= TESTED_DRIVERS


def test_numbering() -> None:
    """split: the second threads follow all first ones, as on servers; adjacent: siblings are
    neighbours, as on hybrid machines.
    """
    spec = MachineSpec(packages=2, cores=2, threads=2)
    assert siblings(build_machine(spec)) == siblings(build_machine(evolve(spec, numbering="split")))
    assert siblings(build_machine(spec)) == [(0, 4), (1, 5), (2, 6), (3, 7)] * 2
    assert (
        siblings(build_machine(evolve(spec, numbering="adjacent")))
        == [(0, 1)] * 2 + [(2, 3)] * 2 + [(4, 5)] * 2 + [(6, 7)] * 2
    )
    assert [package for package, _, _ in places(build_machine(spec))] == [0, 0, 1, 1] * 2
    hybrid = MachineSpec(kinds=(CoreSpec(1, "P", 2), CoreSpec(2, "E", 1)))
    assert siblings(build_machine(hybrid)) == [(0, 1), (0, 1), (2,), (3,)]
    assert siblings(build_machine(evolve(hybrid, numbering="split"))) == [
        (0, 3),
        (1,),
        (2,),
        (0, 3),
    ]


def test_dies_are_in_packages() -> None:
    machine = build_machine(MachineSpec(packages=2, dies=2, cores=1))
    assert places(machine) == [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)]
    assert [
        entry.name
        for entry in build_machine(MachineSpec(packages=2, dies=2, uncore=UncoreSpec())).uncore
    ] == [
        "package_00_die_00",
        "package_00_die_01",
        "package_01_die_00",
        "package_01_die_01",
    ]
    assert [
        entry.name
        for entry in build_machine(MachineSpec(packages=2, uncore=UncoreSpec(layout="tpmi"))).uncore
    ] == ["uncore00", "uncore01"]


def test_unlike_cores_have_their_own_ranges() -> None:
    machine = build_machine(
        MachineSpec(
            min_mhz=500,
            max_mhz=3000,
            kinds=(
                CoreSpec(1, "P", 2, max_mhz=5000),
                CoreSpec(1, "E"),
                CoreSpec(1, "L", min_mhz=300, max_mhz=1000),
            ),
        )
    )
    assert [(domain.hardware_min_khz, domain.hardware_max_khz) for domain in machine.domains] == [
        (500000, 5000000)
    ] * 2 + [(500000, 3000000), (300000, 1000000)]
    assert [(domain.settings.min_khz, domain.settings.max_khz) for domain in machine.domains] == [
        (500000, 5000000)
    ] * 2 + [(500000, 3000000), (300000, 1000000)]


def test_frequency_domains_are_neighbours() -> None:
    machine = build_machine(MachineSpec(cores=5, driver="cppc_cpufreq", domain_size=2))
    assert [domain.cpus for domain in machine.domains] == [(0, 1), (2, 3), (4,)]
    assert [domain.id for domain in machine.domains] == [0, 2, 4]
    assert [cpu.domain for cpu in machine.cpus] == [0, 0, 2, 2, 4]


def test_a_domain_holds_cores_of_one_kind() -> None:
    """Cores of unlike ranges do not share a clock."""
    machine = build_machine(
        MachineSpec(
            driver="cppc_cpufreq",
            domain_size=4,
            kinds=(CoreSpec(3, "big", max_mhz=2500), CoreSpec(3, "little", max_mhz=1500)),
        )
    )
    kinds = {0: "big", 1: "big", 2: "big"}
    for domain in machine.domains:
        assert len({kinds.get(cpu, "little") for cpu in domain.cpus}) == 1, domain.cpus


def test_offline_cpus() -> None:
    """They are there, have no topology (the kernel hides it), and belong to no core; a domain lives
    while one of its CPUs does.
    """
    machine = build_machine(
        MachineSpec(cores=2, threads=2, driver="cppc_cpufreq", domain_size=2, offline="0-1,3")
    )
    assert machine.online == {2}
    assert [(cpu.online, cpu.siblings, cpu.package) for cpu in machine.cpus] == [
        (False, (), None),
        (False, (), None),
        (True, (2,), 0),
        (False, (), None),
    ]
    assert [domain.cpus for domain in machine.domains] == [(2, 3)]


def test_settings_of_drivers() -> None:
    smart = build_machine(MachineSpec(epp="power")).domains[0]
    assert (smart.governors, smart.settings.governor, smart.settings.epp) == (
        ("performance", "powersave"),
        "powersave",
        "power",
    )
    assert smart.epps[0] == "default"
    plain = build_machine(
        MachineSpec(driver="acpi-cpufreq", available_mhz=(2300, 1200), max_mhz=2300, min_mhz=1200)
    ).domains[0]
    assert (plain.settings.governor, plain.settings.epp, plain.epps, plain.available_khz) == (
        "schedutil",
        None,
        (),
        (1200000, 2300000),
    )
    chosen = build_machine(
        MachineSpec(
            driver="acpi-cpufreq", governors=("ondemand", "performance"), governor="ondemand"
        )
    ).domains[0]
    assert (chosen.governors, chosen.settings.governor) == (("ondemand", "performance"), "ondemand")


def test_no_driver_is_no_domain() -> None:
    machine = build_machine(MachineSpec(driver=None))
    assert machine.domains == ()
    assert {cpu.domain for cpu in machine.cpus} == {None}


def test_idle_states() -> None:
    machine = build_machine(
        MachineSpec(
            idle_driver="intel_idle", idle_states=(IdleStateSpec("POLL"), IdleStateSpec("C1", 2))
        )
    )
    assert [
        (state.index, state.name, state.latency_us, state.enabled, state.default_enabled)
        for state in machine.cpus[0].idle
    ] == [
        (0, "POLL", 0, True, True),
        (1, "C1", 2, True, True),
    ]
    assert machine.idle_driver == "intel_idle"
    assert build_machine(MachineSpec(idle_driver="intel_idle")).idle_driver is None


@given(machine_specs())
@examples(100)
def test_any_description_is_a_machine_that_hangs_together(spec: MachineSpec) -> None:
    machine = build_machine(spec)
    numbers = [cpu.id for cpu in machine.cpus]
    per_die = (
        sum(kind.cores * kind.threads for kind in spec.kinds)
        if spec.kinds
        else spec.cores * spec.threads
    )
    assert numbers == list(range(spec.packages * spec.dies * per_die))
    assert machine.online == set(numbers) - parse_cpulist(spec.offline)
    for cpu in machine.cpus:
        if cpu.online:
            assert cpu.id in cpu.siblings
            assert machine.online.issuperset(cpu.siblings)
            assert all(
                machine.by_id[other].siblings == cpu.siblings
                and machine.by_id[other].core == cpu.core
                for other in cpu.siblings
            )
        assert cpu.domain is None or cpu.id in machine.domain_by_id[cpu.domain].cpus
    covered = [cpu for domain in machine.domains for cpu in domain.cpus]
    assert len(covered) == len(set(covered))
    assert machine.online <= set(covered) or spec.driver is None
    for domain in machine.domains:
        assert machine.online.intersection(domain.cpus)
        khz = [
            domain.hardware_min_khz,
            domain.settings.min_khz,
            domain.settings.max_khz,
            domain.hardware_max_khz,
        ]
        assert khz == sorted(known for known in khz if known is not None)
        assert domain.settings.governor in domain.governors


# --- files ---


def described(content: Any) -> Machine:
    return described_machine(content, "m.json")


def test_a_description_says_the_same_as_its_class() -> None:
    content = {
        "packages": 2,
        "dies": 2,
        "kinds": [
            {"name": "P", "cores": 2, "threads": 2, "maxMHz": 4000},
            {"name": "E", "cores": 1, "minMHz": 500},
        ],
        "numbering": "split",
        "driver": "intel_cpufreq",
        "minMHz": 600,
        "maxMHz": 3000,
        "availableMHz": [600, 3000],
        "governors": ["performance", "schedutil"],
        "governor": "performance",
        "epp": "power",
        "domainSize": 2,
        "idleDriver": "acpi_idle",
        "idleStates": [{"name": "C1", "latencyUs": 3}],
        "uncore": {"minMHz": 900, "maxMHz": 2100, "layout": "tpmi"},
        "boost": False,
        "offline": "1,3-4",
        "architecture": "aarch64",
        "cpuModel": "x",
    }
    spec = MachineSpec(
        packages=2,
        dies=2,
        kinds=(CoreSpec(2, "P", 2, max_mhz=4000), CoreSpec(1, "E", min_mhz=500)),
        numbering="split",
        driver="intel_cpufreq",
        min_mhz=600,
        max_mhz=3000,
        available_mhz=(600, 3000),
        governors=("performance", "schedutil"),
        governor="performance",
        epp="power",
        domain_size=2,
        idle_driver="acpi_idle",
        idle_states=(IdleStateSpec("C1", 3),),
        uncore=UncoreSpec(900, 2100, "tpmi"),
        boost=False,
        offline="1,3-4",
        architecture="aarch64",
        cpu_model="x",
    )
    assert described(content) == build_machine(spec)
    assert described({}) == build_machine(MachineSpec())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_by_name_and_with_other_fields(name: str) -> None:
    assert described({"model": name}) == build_machine(MODELS[name])
    assert described({"model": name, "offline": "1", "cpuModel": "y"}) == build_machine(
        evolve(MODELS[name], offline="1", cpu_model="y")
    )
    assert described({"model": name, "uncore": None, "boost": None}) == build_machine(
        evolve(MODELS[name], uncore=None, boost=None)
    ), "null takes away"


def test_the_largest_machine() -> None:
    assert len(build_machine(MachineSpec(packages=4, cores=512, threads=2)).cpus) == 4096
    for spec in (
        MachineSpec(packages=4, cores=513, threads=2),
        MachineSpec(kinds=(CoreSpec(4097),)),
        MachineSpec(kinds=(CoreSpec(3000), CoreSpec(3000))),
    ):
        with pytest.raises(InputError, match="4096"):
            build_machine(spec)


def test_a_file_is_a_description_or_a_discovery(tmp_path: Path) -> None:
    machine = build_machine(MODELS["arm"])
    contents = {
        "d.json": '{"model": "arm"}',
        "d.yaml": "model: arm\n",
        "m.json": json.dumps(machine_view(machine)),
        "m.yaml": f"---\n{json.dumps(machine_view(machine), indent=1)}\n",
    }
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
        assert read_machine(str(tmp_path / name)) == machine
