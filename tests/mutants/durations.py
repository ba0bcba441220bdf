"""A plugin of pytest: how long each test took, as JSON where KPM_DURATIONS says."""

import json
import os
from pathlib import Path

import pytest

_seconds: dict[str, float] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Set-up, test and tear-down together."""
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The process that hears of all tests writes; its workers do not."""
    if not hasattr(session.config, "workerinput"):
        Path(os.environ["KPM_DURATIONS"]).write_text(json.dumps(_seconds))
