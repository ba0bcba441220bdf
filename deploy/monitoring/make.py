"""Write dashboards and rules as the files that a cluster takes (make monitoring).

python deploy/monitoring/make.py [FOLDER]      default: this folder
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from dashboards import dashboards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from rules import rules

_HEAD = "# Written by make monitoring; rules.py is the source.\n"


def files() -> dict[str, str]:
    """Name → content."""
    made = {
        f"dashboards/{name}.json": (
            json.dumps(item, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        )
        for name, item in dashboards().items()
    }
    found = rules()
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "kubernetes-power-manager", "namespace": "power-manager"},
        "spec": found,
    }
    made["rules.yaml"] = _HEAD + yaml.safe_dump(found, sort_keys=False, width=160)
    made["prometheusrule.yaml"] = _HEAD + yaml.safe_dump(rule, sort_keys=False, width=160)
    return made


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, text in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
