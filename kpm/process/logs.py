"""Structured logs: JSON lines on standard error, one a decision, none when nothing happens.

Thirty lines of our own: structlog brings rich and pygments along where they are installed, six MiB
in every agent.
"""

import json
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from attrs import field, frozen

from kpm.process.errors import one_line

LEVELS = ("debug", "info", "warning", "error")
_LONGEST = 1000


def _plain(value: Any) -> Any:
    """A value fit for JSON; texts that come from the API cannot end a line or colour a terminal."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {one_line(key, _LONGEST): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return one_line(value, _LONGEST)


@frozen
class Log:
    """A log of one component, with fields that every line has."""

    fields: Mapping[str, Any] = field(factory=dict)
    level: str = "info"
    stream: TextIO = sys.stderr

    def bind(self, **fields: Any) -> "Log":
        """The same log with more fields on every line."""
        return Log({**self.fields, **fields}, self.level, self.stream)

    def debug(self, event: str, **fields: Any) -> None:
        """What only a developer wants to know."""
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """A decision that was carried out."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that went wrong and will be tried again."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something that a person has to look at."""
        self._write("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """A failure that nobody thought of, with the last places of its traceback; for use in an
        except clause.
        """
        self._write("error", event, {**fields, "error": traceback.format_exc(limit=-3)})

    def _write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        if LEVELS.index(level) < LEVELS.index(self.level):
            return
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": moment, "level": level, "event": event, **_plain({**self.fields, **fields})}
        self.stream.write(json.dumps(line) + "\n")
        self.stream.flush()


def make_log(component: str, level: str = "info") -> Log:
    """The log of one process."""
    return Log({"component": component}, level)
