"""CPU lists, quantities and percentages: round trips, and slow readings of the same texts."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm_planner.model.cpuset import LARGEST_CPU, format_cpulist, parse_cpulist
from kpm_planner.model.quantities import format_khz, parse_percent, parse_quantity

CPUS = st.frozensets(st.integers(0, 200) | st.integers(0, LARGEST_CPU), max_size=40)
ODD_TEXT = st.text(st.sampled_from("0123456789-,  \n\t+.x٣²"), max_size=12)


@given(CPUS)
def test_a_cpu_list_comes_back_as_the_set_it_was_made_of(cpus: frozenset[int]) -> None:
    """Formatting is exact and ascending."""
    text = format_cpulist(cpus)
    assert parse_cpulist(text) == cpus
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    assert numbers == sorted(numbers)


@given(CPUS)
def test_a_cpu_list_is_the_shortest(cpus: frozenset[int]) -> None:
    """As many parts as there are runs of neighbours."""
    runs = sum(cpu - 1 not in cpus for cpu in cpus)
    assert len([part for part in format_cpulist(cpus).split(",") if part]) == runs


def slow_cpulist(text: str) -> frozenset[int] | None:
    """A CPU list read by a pattern; None where it is none."""
    cpus: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip(", \n\t")):
        if not part:
            continue
        found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if found is None:
            return None
        low, high = int(found[1]), int(found[2] or found[1])
        if low > high or high > LARGEST_CPU:
            return None
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


@given(ODD_TEXT | CPUS.map(format_cpulist))
def test_a_cpu_list_is_read_as_a_pattern_reads_it(text: str) -> None:
    """Anything else is a ValueError, never a wrong set."""
    expected = slow_cpulist(text)
    if expected is None:
        with pytest.raises(ValueError, match="not a CPU list"):
            parse_cpulist(text)
    else:
        assert parse_cpulist(text) == expected


SUFFIXES = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    "u": Fraction(1, 10**6),
    "n": Fraction(1, 10**9),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(1024),
    "Mi": Fraction(1024**2),
    "Gi": Fraction(1024**3),
    "Ti": Fraction(1024**4),
    "Pi": Fraction(1024**5),
    "Ei": Fraction(1024**6),
}
#: resource.Quantity without signs: digits with one point, then a suffix or a decimal exponent.
QUANTITY = re.compile(
    r"\+?([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)|[eE]([+-]?[0-9]{1,2}))?"
)


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(sorted(SUFFIXES)))
def test_a_quantity_is_its_number_times_its_suffix(
    whole: int, thousandths: int, suffix: str
) -> None:
    """Exact: a fraction where it is none, a whole number where it is one."""
    value = parse_quantity(f"{whole}.{thousandths:03}{suffix}")
    assert value == (whole + Fraction(thousandths, 1000)) * SUFFIXES[suffix]
    assert isinstance(value, int) == (Fraction(value).denominator == 1)


@given(st.integers(0, 10**9), st.integers(-18, 18))
def test_a_quantity_may_have_an_exponent(number: int, exponent: int) -> None:
    """1e3 is 1000, and 1E3 too."""
    expected = number * Fraction(10) ** exponent
    assert (
        parse_quantity(f"{number}e{exponent}") == parse_quantity(f"{number}E{exponent}") == expected
    )


@given(st.text(st.sampled_from("0123456789.eE+-mkKMGiun ٣"), max_size=8))
def test_a_text_is_a_quantity_exactly_when_kubernetes_says_so(text: str) -> None:
    """Anything else is a ValueError; nothing negative is one here."""
    found = QUANTITY.fullmatch(text)
    if found is None or abs(int(found[3] or 0)) > 18:
        with pytest.raises(ValueError):  # noqa: PT011 - its text is the text that is no quantity
            parse_quantity(text)
    else:
        scale = Fraction(10) ** int(found[3]) if found[3] else SUFFIXES[found[2] or ""]
        assert (
            parse_quantity(text)
            == Fraction(found[1] if not found[1].startswith(".") else f"0{found[1]}") * scale
        )


@given(
    st.text(st.sampled_from("0123456789%-+. ٣"), max_size=5)
    | st.integers(0, 120).map(lambda number: f"{number}%")
)
def test_a_percentage_is_one_to_three_digits_up_to_100_and_a_sign(text: str) -> None:
    """Everything else is none, never an error."""
    found = re.fullmatch(r"([0-9]{1,3})%", text)
    expected = int(found[1]) if found and int(found[1]) <= 100 else None
    assert parse_percent(text) == expected


@given(st.integers(0, 10_000_000))
def test_a_frequency_for_people_means_the_same_frequency(khz: int) -> None:
    """GHz, without needless digits, and without losing any."""
    number, unit = format_khz(khz).split(" ")
    assert unit == "GHz"
    assert Fraction(number) * 1_000_000 == khz
    assert "." not in number or not number.endswith("0")
