"""What a diff says to people: CPUs that change alike in one line, no line for what stays, and a
sign that says what a colour repeats.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

import kpm as kpm_package
from kpm.cli.changes import FASTER, OTHER, SLOWER, closing, rows
from kpm.process.letters import NAME, NEAREST
from kpm.request.machines import MODELS, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.changes import Reason, Write
from kpm_planner.model.why import Why
from tests.kpm.cli_rig import kpm
from tests.kpm.object_samples import as_yaml, node, profile, workload
from tests.trees import write_tree

LARGE = evolve(MODELS["xeon"], packages=2, cores=24, threads=2)
MACHINE = build_machine(LARGE)
FOLDERS = ("kpm", "kpm_applier", "kpm_planner")
_CPUFREQ = "devices/system/cpu/cpufreq"
ASKED = (Why("PowerProfile/p asks for it", object="PowerProfile/p"),)


def change(cpu: int, file: str, old: str | None, new: str) -> Write:
    path = f"{_CPUFREQ}/policy{cpu}/{file}"
    return Write(path, new, old, f"cpufreq:{cpu}", Reason.PLAN, ASKED)


def lines(*writes: Write) -> list[str]:
    """As a terminal of ASCII shows them."""
    return [str(row).encode("ascii", NAME).decode() for row in rows(writes, MACHINE)]


def test_cpus_that_change_alike_are_one_line_in_natural_order() -> None:
    """10 comes after 9, and a gap is a gap."""
    cpus = (0, 1, 2, 9, 10, 11, 30)
    found = lines(*(change(cpu, "scaling_max_freq", "3700000", "1500000") for cpu in cpus))
    assert found == ["- CPUs 0-2,9-11,30  max 3.7 -> 1.5 GHz  (PowerProfile/p)"]


@pytest.mark.parametrize(
    ("file", "old", "new", "sign"),
    [
        ("scaling_max_freq", "3700000", "1500000", SLOWER),
        ("scaling_max_freq", "1500000", "3700000", FASTER),
        ("scaling_governor", "powersave", "performance", OTHER),
        ("energy_performance_preference", "power", "balance_power", FASTER),
        ("energy_performance_preference", "performance", "power", SLOWER),
        ("energy_performance_preference", "performance", "default", OTHER),
        ("scaling_min_freq", None, "800000", OTHER),
    ],
)
def test_a_line_says_by_a_sign_what_its_colour_repeats(
    file: str, old: str | None, new: str, sign: object
) -> None:
    (row,) = rows([change(3, file, old, new)], MACHINE)
    assert row.sign is sign
    assert len({FASTER.mark, SLOWER.mark, OTHER.mark}) == 3
    assert len({NEAREST[sign.mark] for sign in (FASTER, SLOWER, OTHER)}) == 3


def test_numbers_that_differ_are_shown_to_differ() -> None:
    """Whatever their distance."""
    (line,) = lines(change(0, "scaling_max_freq", "3700000", "3701000"))
    assert "max 3.7 -> 3.701 GHz" in line
    (line,) = lines(change(0, "scaling_max_freq", "3700000", "3700001"))
    assert "3.700001" in line


def test_every_letter_that_is_printed_has_its_nearest_in_ascii() -> None:
    """Of all texts in the sources; quotes that people paste are only compared, and names of others
    are escaped.
    """
    root = Path(kpm_package.__file__).parents[1]
    sources = [path for folder in FOLDERS for path in (root / folder).rglob("*.py")]
    letters = {letter for path in sources for letter in path.read_text() if ord(letter) > 127}
    assert letters - set("“”„‟«»‘’‚‛") == NEAREST.keys()
    assert all(text.isascii() and text.isprintable() for text in NEAREST.values())
    assert "µ and ü".encode("ascii", NAME) == rb"u and \xfc"


def test_what_cpus_share_has_lines_of_its_own() -> None:
    zone = "devices/virtual/powercap/intel-rapl/intel-rapl:0/constraint_0_power_limit_uw"
    found = lines(
        Write("devices/system/cpu/intel_pstate/no_turbo", "1", "0", "boost", Reason.PLAN, ASKED),
        Write(zone, "80000000", "100000000", "cap:package-0", Reason.PLAN, ASKED),
        change(0, "scaling_max_freq", "3700000", "1500000"),
    )
    assert found == [
        "- CPU 0  max 3.7 -> 1.5 GHz  (PowerProfile/p)",
        "- turbo  on -> off  (PowerProfile/p asks for it)",
        "- cap package-0  limit 0 100 -> 80 W  (PowerProfile/p asks for it)",
    ]


def test_the_last_line_counts() -> None:
    restored = change(0, "scaling_governor", "a", "b")._replace(reason=Reason.RESTORE)
    writes = [change(1, "scaling_governor", "a", "b"), restored]
    assert closing(writes, 2) == "1 write, 1 restored, 2 errors"


def test_one_simple_profile_on_96_cpus_takes_a_few_lines(tmp_path: Path) -> None:
    """And in a pipe no line is folded."""
    write_tree(KernelModel(MACHINE), tmp_path)
    objects = as_yaml(
        profile("p", shared=True, pstates={"max": 1500, "epp": "power"}),
        workload("w", "p", reservedCPUs=[{"cores": [0, 48]}]),
        node("n"),
    )
    ran = kpm("diff", "-f", "-", "--sysfs", tmp_path / "sys", "--state-dir", tmp_path / "s",
              stdin=objects)  # fmt: skip
    assert ran.code == 1
    assert len(ran.out.splitlines()) <= 12
    assert ran.out.splitlines()[-1].endswith("writes, 0 restored, 0 errors")
    assert "CPUs 1-47,49-95" in ran.out
