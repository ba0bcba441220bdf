"""Files of a host as values.

What a file does not say is None; one that is missing, empty or unreadable costs itself only (R6).
"""

import errno

from attrs import field, frozen

from kpm_applier.sysfs.host import Host
from kpm_planner.model.cpuset import parse_cpulist

#: Values of topology files that mean "not known" (kernel documentation, cputopology; -1 and 65535
#: are seen on ARM).
_NO_ID = frozenset({-1, 65535})
_HEX = frozenset("0123456789abcdefABCDEF")
_MOST_WORDS = 1024
#: No file of /sys holds it.
_TWO_THINGS = b"\0"


def number_of(text: str | None) -> int | None:
    """A whole number, which may be negative; None for anything else.

    >>> number_of("-3"), number_of("3.0"), number_of("9" * 30)
    (-3, None, None)
    """
    digits = (text or "").removeprefix("-")
    return int(text or "") if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


@frozen
class Reader:
    """Reads files of a host; what belongs to managed files is remembered.

    marks: what files held whose change is to be noticed later. One that is read here and holds
    something else is marked with what no file holds: it may be back by the time somebody compares.
    """

    host: Host
    values: dict[str, str]
    errors: dict[str, int]
    troubles: list[tuple[str, int]] = field(factory=list)
    marks: dict[str, bytes] = field(factory=dict)

    def _content(self, path: str) -> bytes:
        content = self.host.read(path)
        if self.marks.get(path, content) != content:
            self.marks[path] = _TWO_THINGS
        return content

    def text(self, path: str) -> str | None:
        """The text of a file without surrounding blanks."""
        try:
            return self._content(path).decode("ascii", "replace").strip() or None
        except OSError as failure:
            self.troubles.append((path, failure.errno or errno.EIO))
            return None

    def number(self, path: str) -> int | None:
        """A whole number, which may be negative."""
        return number_of(self.text(path))

    def identity(self, path: str) -> int | None:
        """A number of the topology."""
        number = self.number(path)
        return None if number is None or number in _NO_ID else number

    def cpus(self, path: str) -> frozenset[int] | None:
        """A CPU list."""
        text = self.text(path)
        try:
            return None if text is None else parse_cpulist(text)
        except ValueError:
            return None

    def mask(self, path: str) -> frozenset[int] | None:
        """CPUs of a mask: hexadecimal words of 32 bits, the highest first."""
        text = self.text(path)
        words = [] if text is None else text.split(",")
        if (
            not words
            or len(words) > _MOST_WORDS
            or not all(len(word) <= 8 and word and set(word) <= _HEX for word in words)
        ):
            return None
        number = int("".join(word.rjust(8, "0") for word in words), 16)
        return frozenset(cpu for cpu in range(number.bit_length()) if number >> cpu & 1)

    def managed(self, path: str) -> str | None:
        """The text of a managed file, kept for the diff; its errno otherwise, ENODATA for an empty
        one, which has no value.
        """
        try:
            text = self._content(path).decode("ascii", "replace").strip()
        except OSError as failure:
            self.errors[path] = failure.errno or errno.EIO
            self.troubles.append((path, self.errors[path]))
            return None
        if not text:
            self.errors[path] = errno.ENODATA
            return None
        self.values[path] = text
        return text

    def names(self, path: str) -> tuple[str, ...]:
        """Names in a folder, none where it cannot be read."""
        try:
            return self.host.list(path)
        except OSError as failure:
            self.troubles.append((path, failure.errno or errno.EIO))
            return ()


def as_number(text: str | None) -> int | None:
    """A text as a number from 0; None for any other text."""
    return (
        int(text)
        if text is not None and text.isascii() and text.isdigit() and len(text) < 19
        else None
    )


def is_number(text: str) -> bool:
    """Whether a text is digits and nothing else."""
    return text.isascii() and text.isdigit()
