"""The program that makes a release, as a module, on a folder of the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.programs import load_program


def load_release(dist: Path | None = None) -> Any:
    """deploy/release/release.py. dist: where it writes, in place of the repository's."""
    module = load_program("deploy/release/release.py")
    if dist is not None:
        module.DIST = dist
        module.CACHE.mkdir(parents=True, exist_ok=True)
        dist.mkdir(parents=True, exist_ok=True)
    return module
