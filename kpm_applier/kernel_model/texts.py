"""Texts as the kernel takes them from a write to sysfs, with the errno of those that it refuses
(kernel-facts K5).
"""

import errno
import os
import re

from kpm_planner.model.objects import EPB_WORDS, LARGEST_EPB

_NUMBER = re.compile(r"\+?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
#: A request that limits nothing; the kernel keeps its largest number for it.
UNLIMITED = 2**31 - 1


def fail(number: int, path: str) -> OSError:
    """The error of a file."""
    return OSError(number, os.strerror(number), path)


def parse_integer(text: str, path: str, largest: int = 2**64 - 1) -> int:
    """A number: decimal, hexadecimal or octal, one newline at most. Errors: EINVAL, ERANGE."""
    seen = text.partition("\0")[0]
    found = _NUMBER.match(seen)
    if not found:
        raise fail(errno.EINVAL, path)
    digits = found[1]
    octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
    number = int(digits, 8) if octal else int(digits, 0)
    if number > largest:  # met before what follows the digits is looked at
        raise fail(errno.ERANGE, path)
    if seen[found.end() :] not in ("", "\n"):
        raise fail(errno.EINVAL, path)
    return number


def parse_request(text: str, path: str, released: int) -> int:
    """A frequency request: taken modulo 2^32 as a signed number, of which -1 is none at all.

    Errors: EINVAL, ERANGE.
    """
    number = parse_integer(text, path) % 2**32
    if number == 2**32 - 1:
        return released
    if number >= 2**31:
        raise fail(errno.EINVAL, path)
    return number


def parse_bias(text: str, path: str) -> str:
    """An energy performance bias as it is shown afterwards: a number, in whatever base and whether
    it was a word or not (kernel, intel_epb.c).
    """
    word = EPB_WORDS.get(text.rstrip("\n"))
    if word is not None:
        return str(word)
    try:
        value = parse_integer(text, path)
    except OSError:
        raise fail(errno.EINVAL, path) from None
    if value > LARGEST_EPB:
        raise fail(errno.EINVAL, path)
    return str(value)


def parse_latency(text: str, path: str) -> str:
    """A limit of latency as it is shown afterwards: µs, 0 for none, n/a for no latency at all
    (kernel-facts). Errors: EINVAL.
    """
    if text.removesuffix("\n") == "n/a":
        return "n/a"
    try:
        number = parse_integer(text, path)
    except OSError:
        number = UNLIMITED
    if number >= UNLIMITED:
        raise fail(errno.EINVAL, path)
    return str(number)


def parse_switch(text: str, path: str) -> bool:
    """A boolean: the first character or two decide. Errors: EINVAL."""
    word = text[:2].lower()
    if word[:1] in ("1", "y", "t") or word == "on":
        return True
    if word[:1] in ("0", "n", "f") or word == "of":
        return False
    raise fail(errno.EINVAL, path)


def parse_speed(text: str, path: str) -> int:
    """A target speed: the digits at the beginning, modulo 2^32. Errors: EINVAL."""
    found = re.match(r"\s*([0-9]+)", text)
    if not found:
        raise fail(errno.EINVAL, path)
    return int(found[1]) % 2**32


def first_word(text: str) -> str:
    """The word that a governor or EPP write means."""
    return next(iter(text.replace("\0", " ").split()), "")
