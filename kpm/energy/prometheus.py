"""Energy of profiles and pods over a time, asked of a Prometheus (HTTP API v1, query)."""

import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

from attrs import frozen

from kpm.process.errors import InputError, one_line
from kpm.process.fetching import fetch
from kpm_planner.energy.meters import APART

_MOST = 16 << 20
#: Zones that do not contain each other; on nodes that measure neither, what the platform shows.
ZONES = (f'zone=~"{"|".join(APART)}"', 'zone="psys"', 'zone="platform"')


def over_zones(function: str, metric: str, by: str, window: str, chosen: str = "") -> str:
    """The query of a function over a window of what a metric tells, by labels. chosen: further
    matchers, each after a comma.
    """
    return " or ".join(
        f"sum by ({by}) ({function}({metric}{{{zone}{chosen}}}[{window}]))" for zone in ZONES
    )


@frozen
class Line:
    """One row of a report. joules: busy, idle."""

    profile: str
    pool: str
    pod: str
    busy: float
    idle: float


def report(url: str, profile: str | None, seconds: int, end: float) -> tuple[Line, ...]:
    """Energy of the pods of a profile (all where None) over the seconds before an instant.

    Errors: InputError.
    """
    chosen = f',profile="{_quoted(profile)}"' if profile is not None else ""
    query = over_zones(
        "increase",
        "kpm_pod_joules_total",
        "node, profile, pool, namespace, pod, mode",
        f"{seconds}s",
        chosen,
    )
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for labels, value in ask(url, query, end):
        key = (
            labels.get("profile", ""),
            labels.get("pool", ""),
            f"{labels.get('namespace', '')}/{labels.get('pod', '')}",
        )
        amounts, mode = rows.setdefault(key, {}), labels.get("mode", "busy")
        amounts[mode] = amounts.get(mode, 0.0) + value
    return tuple(
        Line(*key, amounts.get("busy", 0.0), amounts.get("idle", 0.0))
        for key, amounts in sorted(rows.items())
    )


def _quoted(text: str) -> str:
    return json.dumps(text)[1:-1]


def ask(url: str, query: str, instant: float) -> list[tuple[Mapping[str, str], float]]:
    """The vector that a query gives. Errors: InputError."""
    address = (
        f"{url.rstrip('/')}/api/v1/query?{urlencode({'query': query, 'time': f'{instant:.3f}'})}"
    )
    try:
        answer: Any = json.loads(fetch(address, _MOST))
        if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
            raise ValueError(f"answers {answer.get('status')}")
        return [
            (
                {str(name): str(text) for name, text in item["metric"].items()},
                float(item["value"][1]),
            )
            for item in answer["data"]["result"]
        ]
    except (OSError, ValueError, HTTPException, KeyError, TypeError, AttributeError) as failure:
        raise InputError(
            f"--prometheus {one_line(url, 80)}: {one_line(failure) or type(failure).__name__}"
        ) from None
