"""Units and quantities: the number types of this system and the texts that users write them in.

Frequencies are kHz everywhere behind this module; MHz exists only in what users write.
"""

from collections.abc import Mapping
from datetime import timedelta
from fractions import Fraction

#: A Kubernetes quantity: a whole number as int, anything else exact.
Quantity = int | Fraction

#: Power is µW behind this module, watts in what users write.
UW = 1_000_000

#: An integer frequency below this is MHz, from here on it is kHz.
FIRST_KHZ = 100_000
#: Frequencies by name: the hardware's lowest, the highest without turbo, the hardware's highest.
FREQUENCY_WORDS = ("min", "base", "max")
_WORD_PERCENTS = {"min": 0, "max": 100}

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_LONGEST_QUANTITY = 40


def parse_quantity(text: str | int) -> Quantity:
    """Parse a Kubernetes quantity such as 2, "1500m", "1e3", "512Mi".

    Errors: ValueError for anything else, negative amounts and texts over 40 characters.
    Source: Kubernetes API conventions, resource quantities.

    >>> parse_quantity("1500m")
    Fraction(3, 2)
    >>> parse_quantity("2Ki")
    2048
    """
    if isinstance(text, int):
        text = str(text)
    if len(text) > _LONGEST_QUANTITY or not text.isascii():
        raise ValueError(text[:_LONGEST_QUANTITY])
    number = text.rstrip("numkKMGTPEi")
    suffix = text[len(number) :]
    if suffix == "E" and not number:
        raise ValueError(text)
    mantissa, mark, exponent = number.partition("e" if "e" in number else "E")
    if mark and (suffix or not exponent.lstrip("+-").isdigit() or abs(int(exponent)) > 18):
        raise ValueError(text)
    digits = mantissa.removeprefix("+")
    whole, _, part = digits.partition(".")
    if suffix not in _SUFFIXES or not (whole or part) or not (whole + part).isdigit():
        raise ValueError(text)
    value = (
        Fraction(digits if whole else f"0{digits}")
        * _SUFFIXES[suffix]
        * Fraction(10) ** (int(exponent) if mark else 0)
    )
    return int(value) if value.denominator == 1 else value


#: Every way to write one, those with leading zeros too.
_PERCENTS = {f"{value:0{width}}%": value for value in range(101) for width in (1, 2, 3)}


def parse_percent(text: str) -> int | None:
    """Parse a whole percentage from "0%" to "100%"; None for any other text.

    >>> parse_percent("40%"), parse_percent("101%"), parse_percent("-5%"), parse_percent("40")
    (40, None, None, None)
    """
    return _PERCENTS.get(text)


def format_khz(khz: int) -> str:
    """Format a frequency for people, to the last kHz.

    >>> format_khz(2_600_000), format_khz(2_250_577)
    ('2.6 GHz', '2.250577 GHz')
    """
    return f"{format_ghz(khz)} GHz"


def format_ghz(khz: int) -> str:
    """A frequency in GHz, a number alone, to the last kHz.

    >>> format_ghz(2_300_000), format_ghz(800_000), format_ghz(3_000_000)
    ('2.3', '0.8', '3')
    """
    whole, rest = divmod(khz, 1_000_000)
    return f"{whole}.{rest:06d}".rstrip("0") if rest else str(whole)


def format_watts(uw: int) -> str:
    """Format a power for people, in watts without needless digits.

    >>> format_watts(82500000), format_watts(150000000)
    ('82.5 W', '150 W')
    """
    return f"{uw / 1_000_000:g} W"


_DURATION_MS = {"ms": 1, "s": 1000}
_DURATION_S = {"s": 1, "m": 60, "h": 3600}


def duration_ms(text: str) -> int | None:
    """Parse a duration as Go writes the short ones, in whole milliseconds; None for any other text.

    >>> duration_ms("10ms"), duration_ms("1s"), duration_ms("10"), duration_ms("1m")
    (10, 1000, None, None)
    """
    return _duration(text, _DURATION_MS)


def duration_s(text: str) -> int | None:
    """Parse a duration of whole seconds, minutes or hours, in seconds; None for any other text.

    >>> duration_s("60s"), duration_s("10m"), duration_s("1h"), duration_s("10ms"), duration_s("")
    (60, 600, 3600, None, None)
    """
    return _duration(text, _DURATION_S)


def _duration(text: str, units: Mapping[str, int]) -> int | None:
    number = text.rstrip("hms")
    unit = units.get(text[len(number) :])
    return (
        int(number) * unit
        if unit and number.isascii() and number.isdigit() and len(number) < 8
        else None
    )


def microwatts(watts: int | None) -> int | None:
    """A power in µW; None for none.

    >>> microwatts(40), microwatts(None)
    (40000000, None)
    """
    return None if watts is None else watts * UW


def duration(text: str | None, otherwise: str) -> timedelta:
    """A duration as a value; that of the default where the text is none or is left out.

    >>> duration("10m", "60s"), duration(None, "60s")
    (datetime.timedelta(seconds=600), datetime.timedelta(seconds=60))
    """
    seconds = duration_s(text or otherwise)
    return timedelta(seconds=duration_s(otherwise) or 0 if seconds is None else seconds)


def clock_minutes(text: str) -> int | None:
    """Parse a time of day, HH:MM from 00:00 to 23:59, in minutes; None for any other text.

    >>> clock_minutes("08:30")
    510
    >>> [clock_minutes(text) for text in ("24:00", "8:30", "25:10:30")]
    [None, None, None]
    """
    hours, mark, minutes = text.partition(":")
    if (
        not mark
        or len(hours) != 2
        or len(minutes) != 2
        or not (text.isascii() and hours.isdigit() and minutes.isdigit())
    ):
        return None
    return int(hours) * 60 + int(minutes) if int(hours) < 24 and int(minutes) < 60 else None


def is_frequency(value: int | str) -> bool:
    """Whether a field holds what can be a frequency on some machine (E1).

    >>> [is_frequency(value) for value in (1500, 0, "40%", "base", "fast")]
    [True, False, True, True, False]
    """
    if isinstance(value, int):
        return value > 0
    return value in FREQUENCY_WORDS or parse_percent(value) is not None


def frequency_khz(
    value: int | str, hardware: tuple[int, int] | None, base_khz: int | None = None
) -> int | None:
    """A frequency field in kHz; None where the text is no frequency, needs a machine that is not
    given, or names a base frequency that is not known.

    Shape: hardware is (minimum, maximum) in kHz. A percentage is rounded up to a whole kHz.
    Source: E1.

    >>> [frequency_khz(value, (800_000, 3_700_000), 2_600_000) for value in ("40%", "base", "max")]
    [1960000, 2600000, 3700000]
    """
    if isinstance(value, int):
        return value * 1000 if value < FIRST_KHZ else value
    if value == "base":
        return base_khz
    percent = _WORD_PERCENTS[value] if value in _WORD_PERCENTS else parse_percent(value)
    if percent is None or hardware is None:
        return None
    low, high = hardware
    return low + ((high - low) * percent + 99) // 100
