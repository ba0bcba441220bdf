"""What a terminal that knows few letters shows in place of the others: their nearest in ASCII."""

import codecs

#: Every letter outside of ASCII that this project prints itself; names of others are escaped.
NEAREST = {
    **dict(zip("▁▂▃▄▅▆▇█", "abcdefgh", strict=True)),
    **dict(zip("▲▼●◐○▸✗─", "+-*%o>x-", strict=True)),
    "µ": "u",
    "→": "->",
    "…": "...",
    "±": "+-",
    "×": "x",
    "÷": "/",
    "€": "EUR",
    "Σ": "sum",
}


def nearest(failure: UnicodeError) -> tuple[str, int]:
    """A handler of errors of encoding, as `codecs.register_error` takes it."""
    if not isinstance(failure, UnicodeEncodeError):
        raise failure
    letters = failure.object[failure.start : failure.end]
    return "".join(NEAREST.get(letter) or _escaped(letter) for letter in letters), failure.end


def _escaped(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode()


NAME = "nearest"
codecs.register_error(NAME, nearest)
