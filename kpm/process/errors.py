"""What ends a command: bad input, or a machine that cannot be used.

The text is one line for a person.
"""


class InputError(Exception):
    """Input that cannot be used: file, document, field, value and what is allowed, in one line.

    Exit status 2.
    """


def one_line(text: object, limit: int = 400) -> str:
    """A text fit for one line of a terminal: control characters
    escaped, cut where it is too long.
    """
    line = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in str(text))
    return line if len(line) <= limit else f"{line[:limit]}…"


def show(value: object, limit: int = 60) -> str:
    """A value as an error message shows it."""
    try:
        text = (
            repr(value)
            if not isinstance(value, (dict, list))
            else f"a {'mapping' if isinstance(value, dict) else 'list'}"
        )
    except ValueError:
        text = "a number with too many digits"
    return text if len(text) <= limit else f"{text[:limit]}…"
