"""What may cross from the agent to its helper: every file that is managed, every value that is
planned, and nothing else.
"""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.attributes import ATTRIBUTES, SETSPEED
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.sysfs.boundary import NUMBERS, RECORD, ROWS, fits, path_of, write_of
from kpm_applier.sysfs.remote import Helper, place_of
from tests.strategies.machines import machines

_MAILBOX = "hsmp/"


def record(path: str, value: str) -> bytes | None:
    return Helper("nobody")._record(path, f"{value}\n".encode())


@given(machines())
def test_every_managed_file_of_every_machine_has_a_place_with_the_value_that_it_holds(
    machine: object,
) -> None:
    """So that whatever the applier writes or gives back, it can."""
    model = KernelModel(machine)  # type: ignore[arg-type]
    found = discover(model)
    for group in found.groups:
        for path in group.paths:
            if path.startswith(_MAILBOX):
                continue
            text = found.observed.values.get(path)
            sent = record(path, text or "0")
            assert sent is not None, (path, text)
            assert write_of(sent) == (path, f"{text or 0}\n".encode())


def test_the_rows_are_the_files_of_the_attribute_table() -> None:
    """A row more is a hole, a row less a file that cannot be set."""
    names = {path.rpartition("/")[2].replace("{}", "0") for path, _ in ROWS}
    managed = {item.file for item in (*ATTRIBUTES, SETSPEED)} - {
        "long_term",
        "short_term",
        "power_cap",
        "df_pstate",
    }
    assert names == managed | {"constraint_0_power_limit_uw", "power1_cap"}


@pytest.mark.parametrize(
    "zone", ["devices/virtual/powercap/intel-rapl/intel-rapl:1", "class/powercap/intel-rapl:1"]
)
@pytest.mark.parametrize("name", ["constraint_0_power_limit_uw", "enabled"])
def test_a_zone_is_written_where_it_is_or_by_its_link(zone: str, name: str) -> None:
    """As discovery finds it; some trees have the links alone."""
    assert place_of(f"{zone}/{name}") is not None


def test_a_path_has_one_place_and_a_place_one_path() -> None:
    for row, (template, _) in enumerate(ROWS):
        used = template.count("{")
        for numbers in ((0,) * used, (1, 2, 3)[:used], (12, 0, 7)[:used], (255, 99, 1)[:used]):
            path = path_of(row, (*numbers, *(0,) * (NUMBERS - used)))
            assert path is not None
            assert place_of(path) == (row, numbers)


@pytest.mark.parametrize(
    "path",
    [
        "devices/system/cpu/cpu1/online",
        "devices/system/cpu/cpufreq/policy0/../../cpu1/online",
        "devices/system/cpu/cpufreq/policy-1/scaling_max_freq",
        "devices/system/cpu/cpufreq/policy01/scaling_max_freq",
        "devices/system/cpu/cpufreq/policy/scaling_max_freq",
        "power/state",
        "kernel/mm/ksm/run",
        "",
        "/etc/passwd",
        "devices/system/cpu/cpu1/cpuidle/state2/disable/",
        "devices/system/cpu/cpu99999999/cpuidle/state2/disable",
        "devices/system/cpu/intel_pstate/status",
        "devices/system/cpu/cpu¹/cpuidle/state2/disable",
        "devices/virtual/powercap/intel-rapl/intel-rapl:0/constraint_0_time_window_us",
    ],
)
def test_no_other_path_has_a_place(path: str) -> None:
    assert record(path, "1") is None


@given(st.binary(min_size=RECORD.size, max_size=RECORD.size))
def test_whatever_comes_is_a_file_of_the_table_with_a_fitting_value_or_is_refused(
    data: bytes,
) -> None:
    """The helper makes the path: no text from outside becomes part of it."""
    asked = write_of(data)
    if isinstance(asked, int):
        assert asked == errno.EINVAL
        return
    path, value = asked
    place = place_of(path)
    assert place is not None
    assert fits(place[0], value.removesuffix(b"\n"))
    assert value.endswith(b"\n")
    assert value.count(b"\n") == 1
    assert ".." not in path


@given(st.sampled_from(range(len(ROWS))), st.binary(max_size=40))
def test_a_value_is_a_number_or_a_plain_word(row: int, value: bytes) -> None:
    if fits(row, value):
        assert (
            value.isdigit()
            or value == b"n/a"
            or all(chr(char) in "abcdefghijklmnopqrstuvwxyz_-" for char in value)
        )
        assert 0 < len(value) < 32


@pytest.mark.parametrize(
    ("path", "yes", "no"),
    [
        ("devices/system/cpu/cpu0/cpuidle/state1/disable", ["0", "1"], ["2", "", "on", "01"]),
        (
            "devices/system/cpu/cpu0/power/pm_qos_resume_latency_us",
            ["0", "n/a", "10", "2147483646"],
            ["-1", "N/A", "n/a ", "x"],
        ),
        (
            "devices/system/cpu/cpufreq/policy0/scaling_governor",
            ["performance", "powersave", "sched_x"],
            ["", "Performance", "a b", "a/b", "../x", "%s", "a" * 40],
        ),
        (
            "devices/system/cpu/cpufreq/policy0/energy_performance_preference",
            ["balance_power", "128"],
            ["-1", "0x10"],
        ),
        (
            "devices/system/cpu/cpufreq/policy0/scaling_max_freq",
            ["800000", "0"],
            ["1e6", "٣", "800000 ", "9" * 13],
        ),
    ],
)
def test_values_of_each_kind(path: str, yes: list[str], no: list[str]) -> None:
    assert [value for value in yes if record(path, value) is None] == []
    assert [value for value in no if record(path, value) is not None] == []


def test_a_described_machine_of_each_driver_crosses_too() -> None:
    """Names of zones and entries as the drivers make them, two digits where they have two."""
    for text in ("package_00_die_01/min_freq_khz", "uncore05/max_freq_khz"):
        assert place_of(f"devices/system/cpu/intel_uncore_frequency/{text}") is not None
    for device in ("amd_hsmp", "amd_hsmp.0", "AMDI0097:00", "AMDI0097:01"):
        assert place_of(f"devices/platform/{device}/hwmon/hwmon12/power1_cap") is not None
