"""Daemons with their logs: started, asked to end, and killed where they do not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: So that nothing runs on when the tests themselves are killed.
TOGETHER = ["setpriv", "--pdeathsig", "KILL"]


@dataclass
class Processes:
    """Those of one folder, by name. Each is a process group: what it starts ends with it."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str]) -> None:
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*TOGETHER, *(str(word) for word in command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def stop(self, name: str, seconds: float = 10) -> None:
        child = self.running.pop(name, None)
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def stop_all(self) -> None:
        for name in reversed(list(self.running)):
            self.stop(name)
