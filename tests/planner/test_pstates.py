"""E1 to E6, E9, P-states: what a profile's frequencies, governor and EPP mean on a machine."""

from typing import Any

import pytest
from attrs import evolve

from kpm_planner.model.machine import KERNEL_GOVERNORS, Cpu, CpufreqSettings, Machine
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Code, Severity
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.model.target import BASELINE
from kpm_planner.plan import NodePlan
from kpm_planner.profile_rules import validate_profile
from kpm_planner.profiles import resolve_profile
from tests.planner.build import machine, on_cpu, plan, profile, profiles_of, workload
from tests.planner.reading import codes, with_code

#: CPUs 0-1 are P cores, 2-3 are E cores.
HYBRID = machine(
    "0-3", khz=(800_000, 5_000_000), ranges={2: (800_000, 3_800_000), 3: (800_000, 3_800_000)}
)
DRIVERS = [
    "intel_pstate",
    "intel_cpufreq",
    "acpi-cpufreq",
    "amd-pstate",
    "amd-pstate-epp",
    "cppc_cpufreq",
]


def applied(item: PowerProfile, on: Machine | None = None) -> NodePlan:
    """The plan of a machine all of whose CPUs are under a profile."""
    return plan(evolve(item, shared=True), workload(uses=item.meta.name), on=on)


def ends(
    item: PowerProfile, on: Machine | None = None, cpu: int = 0
) -> tuple[int | None, int | None]:
    """Minimum and maximum of a CPU under a profile."""
    target = on_cpu(applied(item, on), cpu).target
    return target.min_khz, target.max_khz


def with_end(field: str, value: int | str) -> PowerProfile:
    """A profile with one end."""
    return profile(min=value) if field == "min" else profile(max=value)


# --- forms ---


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (None, None, (800_000, 3_700_000)),
        (1500, None, (1_500_000, 3_700_000)),
        (None, 2000, (800_000, 2_000_000)),
        (1500, 2000, (1_500_000, 2_000_000)),
        (1_500_000, 2_000_000, (1_500_000, 2_000_000)),
        (1500, 2_000_000, (1_500_000, 2_000_000)),
        ("0%", "100%", (800_000, 3_700_000)),
        ("40%", "50%", (1_960_000, 2_250_000)),
        ("33%", "67%", (1_757_000, 2_743_000)),
        (1500, "50%", (1_500_000, 2_250_000)),
        ("40%", 3000, (1_960_000, 3_000_000)),
        (800, 800, (800_000, 800_000)),
        (3700, 3700, (3_700_000, 3_700_000)),
    ],
)
def test_mhz_khz_and_percentages_may_be_given_mixed_or_left_out(
    low: int | str | None, high: int | str | None, expected: tuple[int, int]
) -> None:
    """An integer is MHz below 100000, kHz from there on.

    What is left out is the hardware's (field report 54).
    """
    assert ends(profile(min=low, max=high)) == expected


WITH_BASE = evolve(
    HYBRID,
    domains=tuple(
        evolve(domain, base_khz=2_500_000 if domain.hardware_max_khz == 5_000_000 else 1_900_000)
        for domain in HYBRID.domains
    ),
)


@pytest.mark.parametrize(
    ("low", "high", "first", "second"),
    [
        ("min", "max", (800_000, 5_000_000), (800_000, 3_800_000)),
        ("base", "base", (2_500_000, 2_500_000), (1_900_000, 1_900_000)),
        ("base", None, (2_500_000, 5_000_000), (1_900_000, 3_800_000)),
        (1000, "base", (1_000_000, 2_500_000), (1_000_000, 1_900_000)),
        ("max", "100%", (5_000_000, 5_000_000), (3_800_000, 3_800_000)),
    ],
)
def test_words_are_each_cpus_own_ends_and_its_highest_without_turbo(
    low: int | str | None, high: int | str | None, first: tuple[int, int], second: tuple[int, int]
) -> None:
    item = profile(min=low, max=high)
    assert (ends(item, WITH_BASE, 0), ends(item, WITH_BASE, 2)) == (first, second)


def test_a_base_frequency_that_one_kind_of_core_does_not_say_is_an_error_of_the_profile() -> None:
    """The profile has no effect; one that asks for another end is none the worse."""
    half = evolve(
        WITH_BASE, domains=(*WITH_BASE.domains[:-1], evolve(WITH_BASE.domains[-1], base_khz=None))
    )
    found = applied(profile(min="base", max="max"), half)
    (problem,) = with_code(found.problems, Code.FREQUENCY_BASE_UNKNOWN)
    assert (problem.severity, problem.field) == (Severity.ERROR, "spec.pstates.min")
    assert on_cpu(found, 0).target == BASELINE
    assert not applied(profile(max="max"), half).problems


def test_the_highest_below_the_lowest_is_an_error_in_words_too() -> None:
    """No machine is needed to see it."""
    assert codes(validate_profile(profile(min="max", max="min"))) == {Code.FREQUENCY_ORDER}
    assert codes(validate_profile(profile(min="max", max="99%"))) == {Code.FREQUENCY_ORDER}


def test_a_percentage_is_rounded_up_to_a_whole_khz() -> None:
    """hw_min + (hw_max - hw_min) * 40 / 100 of that CPU."""
    assert ends(profile(min="40%", max="41%"), machine(khz=(800_000, 3_700_001))) == (
        1_960_001,
        1_989_001,
    )


def test_percentages_are_of_each_cpus_own_range() -> None:
    """Field report 13."""
    item = profile(min="50%", max="100%")
    assert ends(item, HYBRID, 0) == (2_900_000, 5_000_000)
    assert ends(item, HYBRID, 2) == (2_300_000, 3_800_000)


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        -1500,
        "Base",
        "minimum",
        " max",
        "101%",
        "-5%",
        "abc%",
        "",
        "40",
        "%",
        "4.5%",
        " 40%",
        "40 %",
        "٤٠%",
        "1e2%",
    ],
)
@pytest.mark.parametrize("field", ["min", "max"])
def test_what_is_no_frequency_is_an_error_that_names_field_value_and_what_is_allowed(
    field: str, value: int | str
) -> None:
    """Field reports 48, 54."""
    found = applied(with_end(field, value))
    problem = with_code(found.problems, Code.FREQUENCY_FORMAT)[0]
    assert (problem.severity, problem.object, problem.field) == (
        Severity.ERROR,
        "PowerProfile/performance",
        f"spec.pstates.{field}",
    )
    assert repr(value) in problem.message
    assert "MHz below 100000" in problem.message
    assert profiles_of(found)[0] is None


# --- order and range ---


@pytest.mark.parametrize(
    ("low", "high"), [(2000, 1000), ("60%", "50%"), (2_000_000, 1000), (3000, "50%"), ("90%", 1000)]
)
def test_a_minimum_above_the_maximum_is_an_error_of_the_profile_that_names_both(
    low: int | str, high: int | str
) -> None:
    """Whatever the forms."""
    found = applied(profile(min=low, max=high))
    problem = with_code(found.problems, Code.FREQUENCY_ORDER)[0]
    assert problem.severity is Severity.ERROR
    assert repr(low) in problem.message
    assert repr(high) in problem.message
    assert on_cpu(found, 0).target == BASELINE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min", 700),
        ("max", 700),
        ("min", 3800),
        ("max", 3800),
        ("max", 799_999),
        ("max", 3_700_001),
        ("max", 37_000_000),
    ],
)
def test_a_value_outside_every_cores_range_is_an_error(field: str, value: int) -> None:
    """Also ten times too much, a slip of the unit (field report 48)."""
    found = applied(with_end(field, value))
    problem = with_code(found.problems, Code.FREQUENCY_RANGE)[0]
    assert (problem.severity, problem.field) == (Severity.ERROR, f"spec.pstates.{field}")
    assert "0.8 to 3.7 GHz" in problem.message
    assert on_cpu(found, 0).target == BASELINE


def test_a_value_inside_the_machines_range_is_clamped_to_each_core_with_provenance() -> None:
    """4.5 GHz is for the P cores; the E cores get their own maximum (field report 13)."""
    found = applied(profile(min=1000, max=4500), HYBRID)
    assert (on_cpu(found, 0).target.max_khz, on_cpu(found, 2).target.max_khz) == (
        4_500_000,
        3_800_000,
    )
    assert any("clamped from 4.5 to 0.8..3.8 GHz" in line for line in on_cpu(found, 2).because)
    assert not any("clamped" in line for line in on_cpu(found, 0).because)
    assert not found.problems


def test_a_minimum_that_is_clamped_meets_a_clamped_maximum_without_a_word() -> None:
    """Both ends lie above an E core's range: it runs at its maximum."""
    found = applied(profile(min=4000, max=4500), HYBRID)
    assert (on_cpu(found, 2).target.min_khz, on_cpu(found, 2).target.max_khz) == (
        3_800_000,
        3_800_000,
    )
    assert not found.problems


def test_a_core_whose_clamp_turns_the_ends_round_takes_its_maximum_for_both_with_a_warning() -> (
    None
):
    """min 4500 MHz, max 100 % of that core: only the E cores mind."""
    found = applied(profile(min=4500, max="100%"), HYBRID)
    assert (on_cpu(found, 0).target.min_khz, on_cpu(found, 0).target.max_khz) == (
        4_500_000,
        5_000_000,
    )
    assert (on_cpu(found, 2).target.min_khz, on_cpu(found, 2).target.max_khz) == (
        3_800_000,
        3_800_000,
    )
    assert [
        problem.severity for problem in with_code(found.problems, Code.FREQUENCY_COLLAPSED)
    ] == [Severity.WARNING]


def test_a_maximum_below_a_cores_range_is_clamped_whatever_form_the_other_end_has() -> None:
    """400 MHz is in the range of CPU 2 only; CPU 0 runs at its own minimum, which is 0 %."""
    deep = machine("0-2", ranges={2: (400_000, 3_700_000)})
    for low in ("0%", None, 400):
        found = applied(profile(min=low, max=400), deep)
        assert (on_cpu(found, 0).target.min_khz, on_cpu(found, 0).target.max_khz) == (
            800_000,
            800_000,
        )
        assert (on_cpu(found, 2).target.min_khz, on_cpu(found, 2).target.max_khz) == (
            400_000,
            400_000,
        )
        assert not [problem for problem in found.problems if problem.severity is Severity.ERROR]


def test_limits_are_judged_against_the_range_with_boost_on() -> None:
    """A node whose boost is off takes a profile that was written for boost, by clamping (field
    report 51).
    """
    off = machine(khz=(800_000, 2_900_000), limit=3_900_000)
    found = applied(profile(min=1000, max=3500), off)
    assert on_cpu(found, 0).target.max_khz == 2_900_000
    assert not found.problems
    assert with_code(applied(profile(max=4000), off).problems, Code.FREQUENCY_RANGE)


# --- turbo off, and no file that names the highest frequency ---

BASE = machine(khz=(800_000, 2_200_000))
UNNAMED = evolve(
    BASE, boost=False, domains=tuple(evolve(domain, limit_named=False) for domain in BASE.domains)
)


@pytest.mark.parametrize(
    ("low", "high", "expected", "fields"),
    [
        (1000, 3000, (1_000_000, 2_200_000), ["spec.pstates.max"]),
        (2500, None, (2_200_000, 2_200_000), ["spec.pstates.min"]),
        (2500, 3000, (2_200_000, 2_200_000), ["spec.pstates.min", "spec.pstates.max"]),
        (3000, 3000, (2_200_000, 2_200_000), ["spec.pstates.min", "spec.pstates.max"]),
        (1000, 2200, (1_000_000, 2_200_000), []),
        (1000, 2201, (1_000_000, 2_200_000), ["spec.pstates.max"]),
        ("10%", "100%", (940_000, 2_200_000), []),
        (None, None, (800_000, 2_200_000), []),
    ],
)
def test_a_value_above_a_limit_that_nobody_knows_is_clamped_with_a_warning(
    low: int | str | None, high: int | str | None, expected: tuple[int, int], fields: list[str]
) -> None:
    """It may well be in the range of turbo: the profile stays valid, each end by itself."""
    found = applied(profile(min=low, max=high), UNNAMED)
    assert (on_cpu(found, 0).target.min_khz, on_cpu(found, 0).target.max_khz) == expected
    assert profiles_of(found)[0] == "performance"
    assert [problem.code for problem in found.problems] == [Code.FREQUENCY_LIMIT_UNKNOWN] * len(
        fields
    )
    assert {problem.field for problem in found.problems} == set(fields)
    assert {problem.severity for problem in found.problems} <= {Severity.WARNING}
    assert all(
        "2.2 GHz, the highest that any file names" in problem.message for problem in found.problems
    )


def test_what_is_clamped_to_a_limit_that_nobody_knows_says_so_among_its_reasons() -> None:
    """From what, and to which range."""
    found = applied(profile(min=1000, max=3000), UNNAMED)
    assert (
        "max 2.2 GHz: spec.pstates.max 3000 MHz, clamped from 3 to 0.8..2.2 GHz"
        in on_cpu(found, 0).because
    )


def test_below_the_range_is_an_error_whatever_turbo_does() -> None:
    """The lowest frequency is always known."""
    found = applied(profile(max=700), UNNAMED)
    assert [problem.field for problem in with_code(found.problems, Code.FREQUENCY_RANGE)] == [
        "spec.pstates.max"
    ]
    assert not with_code(found.problems, Code.FREQUENCY_LIMIT_UNKNOWN)


def test_turbo_that_we_have_turned_on_ourselves_does_not_make_the_limit_known() -> None:
    """The files of now may still be those of before; a value inside of what they have come to say
    is no problem.
    """
    ours = evolve(UNNAMED, boost=True, boost_before=False)
    assert codes(applied(profile(max=3000), ours).problems) == {Code.FREQUENCY_LIMIT_UNKNOWN}
    moved = evolve(
        ours,
        domains=tuple(
            evolve(domain, hardware_max_khz=3_500_000, limit_max_khz=3_500_000)
            for domain in ours.domains
        ),
    )
    assert ends(profile(max=3000), moved) == (800_000, 3_000_000)
    assert not applied(profile(max=3000), moved).problems


@pytest.mark.parametrize("boost", [True, None])
def test_where_turbo_is_on_or_has_no_switch_the_range_is_known(boost: bool | None) -> None:
    """Then what the hardware names is all there is."""
    named = evolve(
        UNNAMED,
        boost=boost,
        domains=tuple(evolve(domain, limit_named=True) for domain in UNNAMED.domains),
    )
    found = applied(profile(max=3000), named)
    assert [problem.severity for problem in with_code(found.problems, Code.FREQUENCY_RANGE)] == [
        Severity.ERROR
    ]


def test_percentages_follow_the_range_of_now() -> None:
    """They are recomputed when boost changes (field report 51)."""
    assert ends(profile(max="50%"), machine(khz=(800_000, 2_900_000), limit=3_900_000)) == (
        800_000,
        1_850_000,
    )


def test_requests_are_not_rounded_to_a_frequency_table() -> None:
    """Rounding differs between kernels and is learned by reading back, never predicted."""
    table = machine("0", driver="acpi-cpufreq")
    table = evolve(
        table,
        domains=tuple(
            evolve(domain, available_khz=(800_000, 1_800_000, 3_700_000))
            for domain in table.domains
        ),
    )
    assert ends(profile(min=1000, max=2000), table) == (1_000_000, 2_000_000)


def test_both_ends_are_told_where_both_are_out_of_range() -> None:
    """One problem a field (field report 60)."""
    found = [
        problem.field
        for problem in with_code(applied(profile(min=1, max=90_000)).problems, Code.FREQUENCY_RANGE)
    ]
    assert sorted(found) == ["spec.pstates.max", "spec.pstates.min"]


# --- governor ---


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_governor_left_out_is_powersave_where_the_driver_scales_under_it_else_baseline(
    driver: str,
) -> None:
    """Never a governor that pins the lowest frequency (field report 19)."""
    governor = on_cpu(applied(profile(), machine(driver=driver)), 0).target.governor
    assert governor == ("powersave" if driver in ("intel_pstate", "amd-pstate-epp") else None)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_written_powersave_that_pins_the_lowest_frequency_gets_a_warning(driver: str) -> None:
    """It is what was asked for, and applied."""
    found = applied(profile(governor="powersave"), machine(driver=driver))
    assert on_cpu(found, 0).target.governor == "powersave"
    assert bool(with_code(found.problems, Code.GOVERNOR_STATIC)) == (
        driver not in ("intel_pstate", "amd-pstate-epp")
    )


def test_a_governor_that_no_cpu_offers_is_an_error_that_lists_what_there_is() -> None:
    """Once for the node (field report 18)."""
    found = applied(profile(governor="schedutil"))
    assert [
        (problem.severity, problem.field)
        for problem in with_code(found.problems, Code.GOVERNOR_UNAVAILABLE)
    ] == [(Severity.ERROR, "spec.pstates.governor")]
    assert (
        "performance, powersave" in with_code(found.problems, Code.GOVERNOR_UNAVAILABLE)[0].message
    )
    assert on_cpu(found, 0).target == BASELINE


def test_a_governor_that_some_cpus_lack_is_a_warning_and_those_keep_theirs() -> None:
    """Lists may differ from CPU to CPU; a governor that is not of the kernel's own is no module of
    its either.
    """
    mixed = machine("0-1", driver="acpi-cpufreq", governors=("performance", "interactive"))
    mixed = evolve(
        mixed, domains=(mixed.domains[0], evolve(mixed.domains[1], governors=("performance",)))
    )
    found = applied(profile(governor="interactive"), mixed)
    assert [on_cpu(found, cpu).target.governor for cpu in (0, 1)] == ["interactive", None]
    assert [
        problem.severity for problem in with_code(found.problems, Code.GOVERNOR_UNAVAILABLE)
    ] == [Severity.WARNING]


@pytest.mark.parametrize("governor", sorted(KERNEL_GOVERNORS))
def test_a_governor_of_the_kernels_own_is_asked_for_though_it_is_not_listed(governor: str) -> None:
    """It may be a module that loads when it is named, as powersave is on stock Debian: only the
    kernel knows.
    """
    found = applied(
        profile(governor=governor), machine(driver="acpi-cpufreq", governors=("schedutil",))
    )
    assert on_cpu(found, 0).target.governor == governor
    assert not with_code(found.problems, Code.GOVERNOR_UNAVAILABLE)


@pytest.mark.parametrize("governor", ["turbo", "Powersave", "interactive"])
def test_a_word_that_no_kernel_knows_is_an_error(governor: str) -> None:
    found = applied(
        profile(governor=governor), machine(driver="acpi-cpufreq", governors=("schedutil",))
    )
    assert [
        problem.severity for problem in with_code(found.problems, Code.GOVERNOR_UNAVAILABLE)
    ] == [Severity.ERROR]


# --- EPP ---


def test_epp_left_out_is_baseline_and_performance_under_governor_performance() -> None:
    """Not what the CPU had under its previous profile (field report 10)."""
    assert on_cpu(applied(profile()), 0).target.epp is None
    assert on_cpu(applied(profile(governor="performance")), 0).target.epp == "performance"


@pytest.mark.parametrize("word", ["performance", "balance_performance", "balance_power", "power"])
def test_epp_is_one_of_four_words(word: str) -> None:
    """Whatever the kernel lists as available now."""
    assert on_cpu(applied(profile(epp=word)), 0).target.epp == word
    listed = machine()
    listed = evolve(
        listed, domains=tuple(evolve(domain, epps=("performance",)) for domain in listed.domains)
    )
    assert on_cpu(applied(profile(epp=word), listed), 0).target.epp == word


@pytest.mark.parametrize("word", ["default", "128", "", "Performance", "balance-power"])
def test_another_epp_is_an_error(word: str) -> None:
    """Raw register values too."""
    assert [
        problem.severity
        for problem in with_code(applied(profile(epp=word)).problems, Code.EPP_WORD)
    ] == [Severity.ERROR]


@pytest.mark.parametrize("driver", ["acpi-cpufreq", "cppc_cpufreq", "amd-pstate", "intel_cpufreq"])
def test_an_epp_that_the_machine_does_not_have_is_a_warning_and_the_rest_applies(
    driver: str,
) -> None:
    """Support is the file's existence, not the driver's name."""
    found = applied(profile(max=2000, epp="power"), machine(driver=driver))
    assert (on_cpu(found, 0).target.max_khz, on_cpu(found, 0).target.epp) == (2_000_000, None)
    assert [problem.severity for problem in with_code(found.problems, Code.EPP_UNSUPPORTED)] == [
        Severity.WARNING
    ]
    with_file = machine(
        driver=driver, settings=CpufreqSettings(800_000, 3_700_000, "schedutil", "power")
    )
    assert on_cpu(applied(profile(epp="balance_power"), with_file), 0).target.epp == "balance_power"


def test_under_governor_performance_only_epp_performance_is_allowed() -> None:
    """The kernel refuses any other with EBUSY (field report 9)."""
    found = applied(profile(governor="performance", epp="balance_performance"))
    assert codes(found.problems) >= {Code.EPP_GOVERNOR}
    assert on_cpu(found, 0).target == BASELINE
    assert (
        on_cpu(applied(profile(governor="performance", epp="performance")), 0).target.epp
        == "performance"
    )


def test_an_epp_that_meets_governor_performance_at_baseline_is_performance_with_a_warning() -> None:
    """The profile names no governor, and the driver has none that it would be given."""
    pinned = machine(
        driver="intel_cpufreq",
        settings=CpufreqSettings(800_000, 3_700_000, "performance", "performance"),
    )
    found = applied(profile(epp="power"), pinned)
    assert (on_cpu(found, 0).target.governor, on_cpu(found, 0).target.epp) == (None, "performance")
    assert [problem.severity for problem in with_code(found.problems, Code.EPP_GOVERNOR)] == [
        Severity.WARNING
    ]


# --- drivers ---


@pytest.mark.parametrize("driver", DRIVERS)
def test_these_drivers_are_managed(driver: str) -> None:
    """Each takes a range."""
    found = applied(profile(min=1000, max=2000), machine(driver=driver))
    assert (on_cpu(found, 0).target.min_khz, on_cpu(found, 0).target.max_khz) == (
        1_000_000,
        2_000_000,
    )
    assert not found.problems


@pytest.mark.parametrize(
    "driver", ["powernow-k8", "qcom-cpufreq-hw", "exynos", "pcc-cpufreq", "apple-cpufreq"]
)
def test_any_driver_is_managed_by_the_general_rules_and_one_that_was_not_tried_is_named(
    driver: str,
) -> None:
    """Its powersave is the kernel's own governor; a profile without frequencies is not told."""
    found = applied(profile(min=1000, max=2000, governor="powersave"), machine(driver=driver))
    assert on_cpu(found, 0).target == evolve(
        BASELINE, min_khz=1_000_000, max_khz=2_000_000, governor="powersave"
    )
    (problem,) = with_code(found.problems, Code.DRIVER_UNTESTED)
    assert (problem.severity, problem.field) == (Severity.WARNING, "spec.pstates")
    assert driver in problem.message
    assert not applied(profile(names={"C6": False}), machine(driver=driver)).problems


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_that_was_tried_is_not_said_to_be_another(driver: str) -> None:
    found = applied(profile(max=2000), machine(driver=driver))
    assert not with_code(found.problems, Code.DRIVER_UNTESTED)


@pytest.mark.parametrize("driver", ["", None])
def test_no_driver_is_a_problem_for_frequency_never_for_c_states(
    driver: str | None,
) -> None:
    """The profile stays valid, and its idle states are set (field reports 15 and 37)."""
    found = applied(profile(max=2000, names={"C6": False}), machine(driver=driver))
    assert on_cpu(found, 0).target == evolve(BASELINE, idle=(("C6", False),))
    assert [
        problem.severity for problem in with_code(found.problems, Code.FREQUENCY_UNSUPPORTED)
    ] == [Severity.WARNING]
    assert not applied(profile(names={"C6": False}), machine(driver=driver)).problems


def test_a_domain_of_which_the_range_is_not_known_is_left_alone() -> None:
    """Unreadable files cost only themselves (R6)."""
    partly = machine("0-1")
    partly = evolve(
        partly, domains=(partly.domains[0], evolve(partly.domains[1], hardware_max_khz=None))
    )
    found = applied(profile(max=2000), partly)
    assert [on_cpu(found, cpu).target.max_khz for cpu in (0, 1)] == [2_000_000, None]
    assert with_code(found.problems, Code.FREQUENCY_UNSUPPORTED)


@pytest.mark.parametrize(
    "unknown",
    [
        {"hardware_max_khz": None},
        {"hardware_min_khz": None},
        {"hardware_min_khz": None, "hardware_max_khz": None},
    ],
)
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_managed_driver_without_a_range_is_not_said_to_be_another_one(
    driver: str, unknown: dict[str, Any]
) -> None:
    """What is missing is the range."""
    plain = machine(driver=driver)
    found = applied(
        profile(max=2000),
        evolve(plain, domains=tuple(evolve(domain, **unknown) for domain in plain.domains)),
    )
    (problem,) = with_code(found.problems, Code.FREQUENCY_UNSUPPORTED)
    assert (
        problem.message
        == "no file says between which frequencies the hardware runs; those CPUs keep their"
        " frequencies"
    )
    assert on_cpu(found, 0).target == BASELINE


def test_a_range_that_begins_at_0_is_a_range() -> None:
    """Unlike one that ends there."""
    assert ends(profile(min="0%", max="50%"), machine(khz=(0, 3_000_000))) == (0, 1_500_000)


def test_a_range_that_is_missing_is_said_and_so_is_no_driver_at_all() -> None:
    """Each reason has its words."""
    mixed = machine("0-1")
    mixed = evolve(
        mixed,
        domains=(
            evolve(mixed.domains[0], driver="apple-cpufreq"),
            evolve(mixed.domains[1], hardware_max_khz=None),
        ),
    )
    for on, words in (
        (mixed, "no file says between which frequencies the hardware runs"),
        (machine(driver=None), "CPUs without a scaling driver"),
    ):
        (problem,) = with_code(applied(profile(max=2000), on).problems, Code.FREQUENCY_UNSUPPORTED)
        assert problem.message == f"{words}; those CPUs keep their frequencies"


def test_a_cpu_without_cpufreq_is_told_of_whatever_the_others_idle_states_are() -> None:
    """CPUs 0 and 1 share a domain and differ in their idle states; CPU 2 has no cpufreq."""
    pair = machine("0-1", shared=[(0, 1)])
    second = evolve(pair.cpus[1], idle=pair.cpus[1].idle[:2])
    found = applied(profile(max=2000), evolve(pair, cpus=(pair.cpus[0], second, Cpu(2))))
    assert [on_cpu(found, cpu).target.max_khz for cpu in (0, 1, 2)] == [2_000_000, 2_000_000, None]
    assert with_code(found.problems, Code.FREQUENCY_UNSUPPORTED)


# --- scaling policy ---


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (CpuScalingPolicy("polling-dpdk", target_usage=0), "targetUsage"),
        (CpuScalingPolicy("polling-dpdk", target_usage=101), "targetUsage"),
        (CpuScalingPolicy("polling-dpdk", allowed_usage_difference=51), "allowedUsageDifference"),
        (
            CpuScalingPolicy("polling-dpdk", allowed_frequency_difference=-1),
            "allowedFrequencyDifference",
        ),
        (CpuScalingPolicy("polling-dpdk", scale_percentage=9), "scalePercentage"),
        (CpuScalingPolicy("polling-dpdk", fallback_freq_percent=101), "fallbackFreqPercent"),
        (CpuScalingPolicy("polling-dpdk", sample_period="5ms"), "samplePeriod"),
        (CpuScalingPolicy("polling-dpdk", sample_period="2s"), "samplePeriod"),
        (CpuScalingPolicy("polling-dpdk", sample_period="soon"), "samplePeriod"),
        (
            CpuScalingPolicy("polling-dpdk", sample_period="100ms", cooldown_period="50ms"),
            "cooldownPeriod",
        ),
        (CpuScalingPolicy("polling-dpdk", cooldown_period="10"), "cooldownPeriod"),
        (CpuScalingPolicy("other"), "workloadType"),
        (CpuScalingPolicy(), "workloadType"),
    ],
)
def test_a_scaling_policy_out_of_its_ranges_is_an_error_at_the_field(
    policy: CpuScalingPolicy, field: str
) -> None:
    """Field reports 30 and 32."""
    resolved = resolve_profile(
        profile(governor="userspace", cpu_scaling_policy=policy), machine(driver="acpi-cpufreq")
    )
    assert [(problem.code, problem.field) for problem in resolved.problems] == [
        (Code.SCALING_POLICY, f"spec.cpuScalingPolicy.{field}")
    ]
    assert not resolved.valid


def test_a_scaling_policy_needs_governor_userspace() -> None:
    """It sets frequencies itself; every field but the type may be left out."""
    policy = CpuScalingPolicy("polling-dpdk")
    assert resolve_profile(
        profile(governor="userspace", cpu_scaling_policy=policy), machine(driver="acpi-cpufreq")
    ).valid
    resolved = resolve_profile(
        profile(governor="ondemand", cpu_scaling_policy=policy), machine(driver="acpi-cpufreq")
    )
    assert [problem.field for problem in resolved.problems] == ["spec.pstates.governor"]


# --- reasons ---


def test_every_value_has_its_reason() -> None:
    """Field, formula, clamp."""
    found = applied(profile(min="40%", max=4500, governor="performance"), HYBRID)
    assert on_cpu(found, 2).because == (
        "shared: PowerWorkload/shared-pool",
        "profile performance",
        "min 2 GHz: spec.pstates.min '40%' of 0.8..3.8 GHz",
        "max 3.8 GHz: spec.pstates.max 4500 MHz, clamped from 4.5 to 0.8..3.8 GHz",
        "governor performance: spec.pstates.governor",
        "epp performance: the only one under governor performance",
    )
    assert on_cpu(applied(profile()), 0).because[2:] == (
        "min 0.8 GHz: spec.pstates.min left out, so the hardware's minimum",
        "max 3.7 GHz: spec.pstates.max left out, so the hardware's maximum",
        "governor powersave: left out, and intel_pstate scales under it",
        "epp baseline: left out",
    )
