"""What every bench does with its figures: print them beside what is asked, and keep them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
RESULTS = Path(os.environ.get("KPM_BENCH_RESULTS", REPO / "bench-results"))


def report(name: str, results: Mapping[str, float], limits: Mapping[str, float]) -> None:
    """Print a table with verdicts, and write it."""
    for key, value in results.items():
        limit = limits.get(key)
        verdict = (
            "" if limit is None else f"   at most {limit:g}: {'ok' if value <= limit else 'MISSED'}"
        )
        print(f"{key:32} {value:12.3f}{verdict}")
    keep(name, {"results": results, "limits": limits})


def keep(name: str, content: Mapping[str, Any]) -> None:
    """Write figures below bench-results/."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
