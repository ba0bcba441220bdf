"""Small words of sentences for people: counts, and names of which there may be many."""

from collections.abc import Sequence

from kpm.process.errors import one_line


def counted(number: int, word: str) -> str:
    """A number with its word.

    >>> counted(1, "node"), counted(0, "node")
    ('1 node', '0 nodes')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"


def some_of(names: Sequence[str], most: int) -> str:
    """The first names, each in one line, and how many more there are.

    >>> some_of(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    shown = ", ".join(one_line(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
