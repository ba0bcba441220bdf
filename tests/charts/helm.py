"""Helm, as the development environment installs it, on the charts of this repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]
CHARTS = REPO / "deploy/charts"
MAIN, CRDS = "kubernetes-power-manager", "kubernetes-power-manager-crds"
HELM = Path(sys.executable).parent / "helm"
Object = dict[str, Any]


def helm(*words: str, check: bool = True, **surroundings: str) -> subprocess.CompletedProcess[str]:
    """Run it; AssertionError with what it said where that fails."""
    done = subprocess.run(
        [str(HELM), *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **surroundings},
    )
    assert not check or done.returncode == 0, f"helm {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done


def options(values: Object) -> list[str]:
    """Values as options."""
    return [f"--set-json={name}={_json(value)}" for name, value in values.items()]


def _json(value: object) -> str:
    import json

    return json.dumps(value)


def rendered(
    values: Object | None = None, namespace: str = "power-manager", chart: str = MAIN
) -> list[Object]:
    """All objects that a chart makes with some values, hooks among them."""
    words = ("template", "kpm", str(CHARTS / chart), "-n", namespace, *options(values or {}))
    return [item for item in yaml.safe_load_all(helm(*words).stdout) if item]


def refused(values: Object) -> str:
    """Why some values are not taken."""
    words = ("template", "kpm", str(CHARTS / MAIN), *options(values))
    done = helm(*words, check=False)
    assert done.returncode != 0, f"{values} were taken"
    return done.stderr


def is_hook(item: Object) -> bool:
    """Whether an object is there for a moment only."""
    return "helm.sh/hook" in (item["metadata"].get("annotations") or {})


def key(item: Object) -> tuple[str, str, str]:
    """Kind, namespace and name."""
    meta = item["metadata"]
    return item["kind"], meta.get("namespace", ""), meta["name"]
