"""Energy performance bias on files: taken in, written, restored, and left out where it is EPP."""

from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.kernel_model.texts import parse_bias
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import EPB_WORDS
from kpm_planner.model.target import SETTINGS, Target
from tests.applier import rig
from tests.trees import write_tree

FEATURES = "cpu:type:x86,ven0000fam0006mod003F:feature:,0000,0001"


def biased(machine: Machine, *texts: str) -> Machine:
    """A machine whose CPUs have these biases, by turns."""
    return evolve(
        machine,
        cpus=tuple(
            evolve(cpu, epb=texts[number % len(texts)]) for number, cpu in enumerate(machine.cpus)
        ),
    )


def path(cpu: int) -> str:
    return f"{CPU_ROOT}/cpu{cpu}/power/energy_perf_bias"


@given(
    st.lists(st.integers(0, 15), min_size=3, max_size=3),
    st.lists(st.none() | st.integers(0, 15), min_size=3, max_size=3),
)
def test_each_cpu_gets_its_own_and_has_its_own_again(
    before: list[int], asked: list[int | None]
) -> None:
    """A3, A7: nothing is written twice, and a restore leaves what was there."""
    model = KernelModel(biased(rig.intel(3), *map(str, before)))
    shown = [model.read(path(cpu)) for cpu in range(3)]
    targets = {cpu: Target(epb=value) for cpu, value in enumerate(asked)}
    with rig.state_folder() as folder, rig.applier(model, folder) as handle:
        report = handle.apply(rig.plan(handle.machine, targets))
        wanted = [now if value is None else value for now, value in zip(before, asked, strict=True)]
        assert [int(model.read(path(cpu))) for cpu in range(3)] == wanted
        changed = [now != then for now, then in zip(wanted, before, strict=True)]
        assert len(report.writes) == sum(changed)
        assert not handle.apply(rig.plan(handle.machine, targets)).writes
        assert [cpu.epb for cpu in handle.machine.cpus] == list(map(str, before))
        assert handle.restore().settled
    assert [model.read(path(cpu)) for cpu in range(3)] == shown


def test_no_pass_in_which_nothing_changes_reads_a_bias(tmp_path: Path) -> None:
    """Reading it interrupts its CPU (A1); the other files are compared each time."""
    read: list[str] = []

    class Noting(KernelModel):
        def read(self, path: str) -> bytes:
            read.append(path)
            return super().read(path)

    model = Noting(biased(rig.intel(2), "6"))
    targets = dict.fromkeys(range(2), Target(max_khz=2_000_000, epb=0))
    with rig.applier(model, str(tmp_path)) as handle:
        wanted = rig.plan(handle.machine, targets)
        assert handle.apply(wanted).settled
        handle.apply(wanted)
        read.clear()
        assert not handle.apply(wanted).writes
    assert not [path for path in read if path.endswith("energy_perf_bias")]
    assert [path for path in read if path.endswith("scaling_max_freq")]


@pytest.mark.parametrize(
    ("features", "managed"),
    [
        ("", True),
        (FEATURES, True),
        (f"{FEATURES},01C7,01CA", True),
        (f"{FEATURES},01CA,01D0", True),
        (f"{FEATURES},01C7,01D0", False),
        (f"{FEATURES},01C7", False),
    ],
)
@pytest.mark.parametrize("driver", ["intel_pstate", "acpi-cpufreq"])
def test_where_epp_is_kept_in_the_same_register_there_is_no_bias(
    tmp_path: Path, features: str, driver: str, managed: bool
) -> None:
    """CPUs with HWP and without a register for EPP, under a driver that shows an EPP."""
    machine = biased(rig.machine([rig.domain(0, driver=driver)]), "6")
    host = write_tree(KernelModel(machine), tmp_path)
    (tmp_path / "sys" / CPU_ROOT / "modalias").write_text(f"{features}\n")
    found = discover(host)
    has_it = managed or driver == "acpi-cpufreq"
    assert [cpu.epb for cpu in found.machine.cpus] == ["6" if has_it else None]
    assert ("epb:0" in {group.key for group in found.groups}) == has_it


@pytest.mark.parametrize("text", ["", "16", "-1", "normal", "6 7", "0x6", "n/a", "1" * 40])
def test_a_file_that_shows_no_bias_is_not_managed(tmp_path: Path, text: str) -> None:
    """The machine goes on without it."""
    host = write_tree(KernelModel(biased(rig.intel(1), "6")), tmp_path)
    (tmp_path / "sys" / path(0)).write_text(f"{text}\n")
    found = discover(host)
    assert found.machine.cpus[0].epb is None
    assert "epb:0" not in {group.key for group in found.groups}


def test_the_model_takes_what_the_kernel_takes() -> None:
    """Words, numbers of any base, nothing above 15 (kernel, intel_epb.c)."""
    assert {word: parse_bias(f"{word}\n", "") for word in EPB_WORDS} == {
        word: str(value) for word, value in EPB_WORDS.items()
    }
    assert [parse_bias(text, "") for text in ("0xf", "017", "9\n")] == ["15", "15", "9"]
    for text in ("16", "-1", "Normal", "", "1" * 40):
        with pytest.raises(OSError, match="Invalid argument"):
            parse_bias(text, "")


@pytest.mark.parametrize(("limit", "us"), [(None, None), ("0", None), ("n/a", 0), ("20", 20)])
def test_what_the_model_shows_is_told_as_it_is_asked(limit: str | None, us: int | None) -> None:
    """Numbers are numbers, and no limit is nothing."""
    machine = biased(rig.intel(1), "6")
    cpus = tuple(evolve(cpu, resume_latency=limit) for cpu in machine.cpus)
    model = KernelModel(evolve(machine, cpus=cpus))
    shown = model.shown_by(0, model.policies[0])
    assert (shown["latency_us"], shown["epb"]) == (us, 6)
    assert shown.keys() == {item.name for item in SETTINGS}
