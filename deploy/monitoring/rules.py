"""Recording rules and alerts, as values; make.py writes them as files."""

from __future__ import annotations

from typing import Any

from kpm.energy.prometheus import ZONES, over_zones

#: Zones that do not contain each other.
OWN = ZONES[0]
_METER = "node, zone, place, path"
#: One that was there within the hour, on a node that still measures; by the meter and not by the
#: agent's pod, which may be another one.
_GONE = (
    f"max by ({_METER}) (present_over_time(kpm_meter_up[1h])) unless max by ({_METER})"
    " (kpm_meter_up) and on (node) kpm_energy_samples_total"
)


def rules() -> dict[str, Any]:
    """The rule groups, as Prometheus reads them."""
    return {
        "groups": [
            {"name": "kpm-recording", "interval": "30s", "rules": _records()},
            {"name": "kpm-alerts", "rules": _alerts()},
        ]
    }


def _records() -> list[dict[str, Any]]:
    expressions = {
        "kpm:node_power:watts": _power("kpm_node_energy_joules_total", "node"),
        "kpm:node_system_power:watts": _power("kpm_node_system_joules_total", "node"),
        "kpm:node_unattributed_power:watts": _power("kpm_node_unattributed_joules_total", "node"),
        "kpm:pod_power:watts": _power(
            "kpm_pod_joules_total", "node, namespace, pod, pool, profile"
        ),
        "kpm:namespace_power:watts": "sum by (namespace) (kpm:pod_power:watts)",
        "kpm:profile_power:watts": _power("kpm_pool_joules_total", "node, pool, profile"),
        "kpm:cluster_profile_power:watts": "sum by (profile) (kpm:profile_power:watts)",
        "kpm:cluster_profile_busy:cpus": ("sum by (profile) (rate(kpm_pod_cpu_seconds_total[5m]))"),
        "kpm:cluster_profile:nodes": (
            "count by (profile) (count by (node, profile) (kpm:profile_power:watts))"
        ),
        "kpm:attribution_gap:ratio": (
            "abs(kpm:node_power:watts - kpm:node_system_power:watts -"
            " kpm:node_unattributed_power:watts - (sum by (node) (kpm:profile_power:watts) or"
            " kpm:node_power:watts * 0)) / (kpm:node_power:watts > 0)"
        ),
    }
    return [{"record": name, "expr": text} for name, text in expressions.items()]


def _power(metric: str, by: str) -> str:
    """Power of what a metric tells, of packages and memory, or of the platform on nodes that
    measure nothing else.
    """
    return over_zones("rate", metric, by, "5m")


def _alerts() -> list[dict[str, Any]]:
    return [
        _alert(
            "KPMAgentDown",
            'up{job=~".*power-node-agent.*"} == 0',
            "10m",
            "warning",
            "The power agent of {{ $labels.node }} does not answer.",
            "Its settings stay as they are. See its pod and its log.",
        ),
        _alert(
            "KPMMeterLost",
            "kpm_meter_up == 0",
            "5m",
            "warning",
            "{{ $labels.node }} cannot read its meter {{ $labels.zone }} of {{ $labels.place }}.",
            "Its energy counts when it can be read again. See {{ $labels.path }} and the agent's"
            " log.",
        ),
        _alert(
            "KPMMeterGone",
            _GONE,
            "5m",
            "warning",
            "{{ $labels.node }} has lost its meter {{ $labels.zone }} of {{ $labels.place }}.",
            "A driver was unloaded, or all CPUs of a package went offline.",
        ),
        _alert(
            "KPMDrift",
            "sum by (node) (increase(kpm_agent_foreign_values_total[15m])) > 3.5",
            "0m",
            "warning",
            "Somebody else keeps changing the power settings of {{ $labels.node }}.",
            "See its Events ForeignValue: tuned, thermald, another power manager?",
        ),
        _alert(
            "KPMCapNotHonoured",
            'kpm_agent_condition{type="CapHonoured"} == 0',
            "5m",
            "warning",
            "{{ $labels.node }} does not honour its power cap: {{ $labels.reason }}.",
            "See the condition CapHonoured of its PowerNodeState, and docs/user/power.md.",
        ),
        _alert(
            "KPMAttributionGap",
            "kpm:attribution_gap:ratio > 0.01",
            "15m",
            "warning",
            "On {{ $labels.node }} the parts of the energy do not add up to what was measured.",
            "A fault of the measuring; please report it with the agent's log.",
        ),
        _alert(
            "KPMEnergyProblem",
            "sum by (node, code) (kpm_energy_problems) > 0",
            "30m",
            "info",
            "Energy of {{ $labels.node }} is not measured in full: {{ $labels.code }}.",
            "docs/user/problems.md says what to do about the code.",
        ),
        _alert(
            "KPMObjectInvalid",
            'sum by (node, code) (kpm_agent_problems{severity="error"}) > 0',
            "30m",
            "warning",
            "Power objects cannot be honoured on {{ $labels.node }}: {{ $labels.code }}.",
            "docs/user/problems.md says what to do about the code.",
        ),
    ]


def _alert(
    name: str, expression: str, lasts: str, severity: str, summary: str, description: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasts,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }
