"""A log for whoever looks at what was logged."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from kpm.process.logs import Log


@frozen(eq=False)
class CapturingLog(Log):
    """A log that keeps its lines: (level, event, fields)."""

    calls: list[tuple[str, str, dict[str, Any]]] = field(factory=list)

    def exception(self, event: str, **fields: Any) -> None:
        """Without the traceback."""
        self._write("exception", event, fields)

    def _write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self.calls.append((level, event, dict(fields)))
