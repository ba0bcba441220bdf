"""The program that makes a release, as a module, on a folder of the test's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from tests.charts.helm import REPO


def load_release(dist: Path | None = None) -> Any:
    """deploy/release/release.py. dist: where it writes, in place of the repository's."""
    path = REPO / "deploy/release/release.py"
    spec = importlib.util.spec_from_file_location("make_release", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if dist is not None:
        module.DIST = dist
        module.CACHE.mkdir(parents=True, exist_ok=True)
        dist.mkdir(parents=True, exist_ok=True)
    return module
