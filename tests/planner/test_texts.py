"""CPU lists and quantities: what is one, what is not."""

import doctest
from fractions import Fraction

import pytest

from kpm_planner.model import cpuset, quantities
from kpm_planner.model.cpuset import format_cpulist, parse_cpulist
from kpm_planner.model.quantities import format_khz, parse_percent, parse_quantity


@pytest.mark.parametrize("module", [cpuset, quantities])
def test_the_examples_in_docstrings_hold(module: object) -> None:
    """They are the documentation."""
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-63", set(range(64))),
        ("0-3,8-11", {0, 1, 2, 3, 8, 9, 10, 11}),
        ("0", {0}),
        ("0,2,4,6", {0, 2, 4, 6}),
        ("0-3,8", {0, 1, 2, 3, 8}),
        ("0,2-3", {0, 2, 3}),
        ("4-7", {4, 5, 6, 7}),
        ("0-0", {0}),
        ("0-3\n", {0, 1, 2, 3}),
        ("", set()),
        ("\n", set()),
        ("0 1 48", {0, 1, 48}),
        ("1,1,0-1", {0, 1}),
        ("007", {7}),
    ],
)
def test_cpu_lists_as_the_kernel_writes_them(text: str, cpus: set[int]) -> None:
    """Field report 4."""
    assert parse_cpulist(text) == cpus


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "3-1",
        "-1",
        "1-",
        "-",
        "0-3:1/2",
        "1.5",
        "0x1",
        "٣",
        "70000",
        "0-65536",
        "0-99999999999",
        "+1",
        "1--2",
    ],
)
def test_anything_else_is_no_cpu_list(text: str) -> None:
    """Wide ranges of foreign input cost no memory."""
    with pytest.raises(ValueError, match="not a CPU list"):
        parse_cpulist(text)


def test_cpu_lists_are_written_as_the_kernel_writes_them() -> None:
    """Ranges of two are ranges."""
    assert format_cpulist([5, 0, 1, 3]) == "0-1,3,5"
    assert format_cpulist(range(64)) == "0-63"
    assert format_cpulist([]) == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        (2, 2),
        ("2000m", 2),
        ("1500m", Fraction(3, 2)),
        ("0", 0),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("1.", 1),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1Ki", 1024),
        ("+2", 2),
        ("100n", Fraction(1, 10**7)),
    ],
)
def test_quantities(text: str | int, value: int | Fraction) -> None:
    """As Kubernetes writes them."""
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        -1,
        "m",
        "E",
        "1e",
        "1e3k",
        "1 ",
        " 1",
        "1,5",
        "1mm",
        "1ki",
        "1K",
        "0x1",
        "1e99",
        "٢",
        "1" * 41,
        ".",
        "1e3.5",
        "++1",
    ],
)
def test_anything_else_is_no_quantity(text: str | int) -> None:
    """Negative ones are none here."""
    with pytest.raises(ValueError):  # noqa: PT011 - its text is the text that is no quantity
        parse_quantity(text)


def test_percentages_are_whole_and_up_to_100() -> None:
    """Anything else is none."""
    assert [parse_percent(text) for text in ("0%", "7%", "100%", "007%")] == [0, 7, 100, 7]
    assert [
        parse_percent(text)
        for text in ("101%", "-1%", "1.5%", "%", "", "50", "50%%", " 50%", "٥٠%", "0100%")
    ] == [None] * 10


def test_frequencies_for_people() -> None:
    """MHz with as many digits as it takes."""
    assert format_khz(800_000) == "0.8 GHz"
    assert format_khz(1_000_577) == "1.000577 GHz"
    assert format_khz(0) == "0 GHz"
