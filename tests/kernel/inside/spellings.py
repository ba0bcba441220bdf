"""What the random operations write: mostly sensible values, and every spelling that the kernel was
seen to take or to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

GOVERNORS = ("ondemand", "conservative", "userspace", "powersave", "performance", "schedutil")
PREFERENCES = ("performance", "balance_performance", "balance_power", "power")
#: Frequencies at the edges of the kernel's arithmetic, which is modulo 2^32.
EDGES = (
    0,
    1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**32 + 2_600_000,
    99_999_999_999,
    2**64 - 1,
    2**64,
)


def frequency(rng: Random, marks: Sequence[int]) -> int:
    """A number of kHz: at or near one of the marks (hardware limits, table entries), inside their
    range, or at an edge.
    """
    chosen = rng.random()
    if chosen < 0.45:
        return rng.choice(marks)
    if chosen < 0.6:
        return max(0, rng.choice(marks) + rng.choice((-1000, -1, 1, 1000)))
    if chosen < 0.92:
        return rng.randrange(min(marks) - 100_000, max(marks) + 300_000)
    return rng.choice(EDGES)


def number(rng: Random, value: int) -> bytes:
    """A number as somebody may write it to a file that takes one."""
    if rng.random() < 0.8:
        return f"{value}\n".encode()
    forms = (
        f"{value}",
        f"+{value}",
        f"+{value}\n",
        f"0x{value:x}",
        f"0X{value:X}\n",
        f"0{value:o}",
        f"00{value}",
        f"{value}\0",
        f" {value}",
        f"{value} ",
        f"{value}\n\n",
        f"-{value}",
        f"{value}.5",
        f"{value}kHz",
        f"{value} 5",
        f"{value:x}",
        f"++{value}",
        f"+-{value}",
        f"_{value}",
        "-1",
        "-0",
        "1e6",
        "abc",
        "\n",
        " ",
        "0x",
        "+",
        "08",
        "",
        "0b1",
        "1_000",
    )
    return rng.choice(forms).encode()


def governor(rng: Random, available: Sequence[str]) -> bytes:
    """A governor: one that is there, one that is not, or an odd spelling of one."""
    word = rng.choice((*available, *GOVERNORS))
    if rng.random() < 0.8:
        return f"{word}\n".encode()
    forms = (
        word,
        word.upper(),
        word.title(),
        f" {word} ",
        f"\t{word}\n",
        f"{word} x",
        f"{word}\0x",
        f"{word}\n\n",
        f"{word}\npowersave",
        word[:-1],
        f"{word}x",
        "nonsense",
        "a_name_that_is_longer_than_fifteen_characters",
        "\n",
        " ",
        "",
        "0",
        f"x {word}",
        f"{word},",
    )
    return rng.choice(forms).encode()


def preference(rng: Random) -> bytes:
    """An energy-performance preference, by word, by number, or spelled oddly."""
    word = rng.choice((*PREFERENCES, "default"))
    if rng.random() < 0.75:
        return f"{word}\n".encode()
    forms = (
        word,
        f" {word}",
        f"{word} ",
        f"{word} x",
        f"{word}\n\n",
        word.upper(),
        word[:4],
        f"{word}x",
        "\n",
        "",
        " ",
        "nonsense",
        "balance",
        "0",
        "1",
        "128",
        "255\n",
        "256",
        "0x80",
        "-1",
        "a_word_that_is_longer_than_twenty_one_characters",
    )
    return rng.choice(forms).encode()


def speed(rng: Random, marks: Sequence[int]) -> bytes:
    """A target speed, which the kernel reads as a number with anything after it."""
    value = frequency(rng, marks)
    if rng.random() < 0.8:
        return f"{value}\n".encode()
    forms = (
        f"{value}",
        f" {value}",
        f"{value}kHz",
        f"{value} x",
        f"0x{value:x}",
        f"-{value}",
        f"+{value}",
        "-1",
        "x",
        "\n",
        "",
        f"0{value}",
        f"\n{value}",
    )
    return rng.choice(forms).encode()


def idle_switch(rng: Random) -> bytes:
    """Something for an idle state's `disable`."""
    if rng.random() < 0.6:
        return rng.choice((b"0\n", b"1\n"))
    odd = (
        "0",
        "1",
        "2",
        "256",
        "0x1",
        "0x0",
        "00",
        "01",
        "+1",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "x",
        "-1",
        " 1",
        "1 ",
        "1.5",
        "true",
        "Y",
        "on",
        "\n",
        "",
    )
    return rng.choice(odd).encode()


def boost_switch(rng: Random) -> bytes:
    """Something for a boost file."""
    if rng.random() < 0.7:
        return rng.choice((b"0\n", b"1\n"))
    return rng.choice(
        (
            "0",
            "1",
            "y",
            "Y",
            "n",
            "N",
            "on",
            "off",
            "ON",
            "oF",
            "true",
            "false",
            "1 ",
            "0x1",
            "2",
            "-1",
            "x",
            " 1",
            "o",
            "\n",
            "",
        )
    ).encode()


def online_switch(rng: Random, *, on: bool) -> bytes:
    """Something for a CPU's `online`, mostly what brings it to that state."""
    if rng.random() < 0.8:
        return b"1\n" if on else b"0\n"
    words = ("1", "on", "y", "true", "Yes") if on else ("0", "off", "n", "no")
    word: str = rng.choice((*words, "2", "x", "-1", "", "\n", " 1"))
    return word.encode()


def mode(rng: Random) -> bytes:
    """Something for `amd_pstate/status`."""
    word = rng.choice(("active", "passive", "guided"))
    if rng.random() < 0.7:
        return f"{word}\n".encode()
    forms = (
        word,
        word[:6],
        f"{word[:6]}\n",
        f"{word}x",
        f" {word}",
        f"{word} ",
        word.title(),
        word[:3],
        "\n",
        "",
        f"{word}\n\n",
    )
    return rng.choice(forms).encode()
