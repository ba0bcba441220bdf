"""CPU lists as the kernel and the kubelet write them."""

from collections.abc import Iterable

#: No Linux has more CPUs; a larger id in an input is a fault of that input.
LARGEST_CPU = 65535


def parse_cpulist(text: str) -> frozenset[int]:
    """Parse a kernel CPU list: commas or blanks between ids and ranges.

    Errors: ValueError for anything that is no list, for a falling range, for ids over 65535 and for
    a list that names more ids than there can be, which would only cost time.

    >>> sorted(parse_cpulist("0-2,8")), sorted(parse_cpulist("0 48")), sorted(parse_cpulist(" "))
    ([0, 1, 2, 8], [0, 48], [])
    """
    cpus: set[int] = set()
    left = 2 * LARGEST_CPU
    for part in text.replace(",", " ").split():
        first, mark, last = part.partition("-")
        if not (first.isascii() and first.isdigit()) or (
            mark and not (last.isascii() and last.isdigit())
        ):
            raise ValueError(f"not a CPU list: {text[:80]!r}")
        low, high = int(first), int(last) if mark else int(first)
        left -= high - low + 1
        if high < low or high > LARGEST_CPU or left < 0:
            raise ValueError(f"not a CPU list: {text[:80]!r}")
        cpus.update(range(low, high + 1))
    return frozenset(cpus)


def format_cpulist(cpus: Iterable[int]) -> str:
    """Format CPU ids as the shortest kernel CPU list, ascending.

    >>> format_cpulist({3, 1, 2, 8}), format_cpulist([])
    ('1-3,8', '')
    """
    parts: list[str] = []
    start = end = -2
    for cpu in [*sorted(cpus), -1]:
        if cpu == end + 1:
            end = cpu
            continue
        if start >= 0:
            parts.append(str(start) if start == end else f"{start}-{end}")
        start = end = cpu
    return ",".join(parts)
