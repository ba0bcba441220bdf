"""Programs of the repository that are no part of a package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]


def load_program(path: str) -> Any:
    """A module of its own for each call. path: below the repository."""
    file = REPO / path
    spec = importlib.util.spec_from_file_location("_".join(file.with_suffix("").parts[-2:]), file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look up their own module
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
