"""The dashboards by what they show: cluster, node and pod; savings are in savings.py, and panels.py
writes all of them by Grafana's own types.
"""

from __future__ import annotations

from typing import Any

from panels import Board, Choice, Column, Panel, built
from rules import OWN
from savings import savings

from kpm.energy.prometheus import over_zones

#: What a kWh costs, and how much CO2e comes of it.
PRICE = (
    Choice("price", value="0.30", label="price of a kWh"),
    Choice("carbon", value="380", label="grams CO2e a kWh"),
)
#: Where a value leads to, with the time that is shown.
_TO_NODE = ("Open the node", "/d/kpm-node?var-node={node}&${{__url_time_range}}")
_TO_PODS = ("Open its pods", "/d/kpm-pod?var-namespace={namespace}&${{__url_time_range}}")
_TO_POD = (
    "Open the pod",
    "/d/kpm-pod?var-namespace={namespace}&var-pod={pod}&${{__url_time_range}}",
)


def dashboards() -> dict[str, Any]:
    """Name → dashboard, as Grafana reads it."""
    node = Choice("node", "label_values(kpm_energy_samples_total, node)")
    namespace = Choice("namespace", "label_values(kpm_pod_joules_total, namespace)")
    pod = Choice("pod", 'label_values(kpm_pod_joules_total{namespace=~"$namespace"}, pod)')
    profile = Choice("profile", "label_values(kpm_pool_joules_total, profile)")
    boards = {
        "cluster": Board("kpm-cluster", "Power: cluster", _cluster(), PRICE),
        "node": Board("kpm-node", "Power: node", _node(), (node,)),
        "pod": Board("kpm-pod", "Power: pod", _pod(), (namespace, pod, *PRICE)),
        "savings": savings((profile, *PRICE)),
    }
    return {name: built(board) for name, board in boards.items()}


def _of_series(link: tuple[str, str]) -> tuple[str, str]:
    """A link of a series, by its labels."""
    return _filled(link, "__field.labels")


def _of_row(link: tuple[str, str]) -> tuple[str, str]:
    """A link of a row of a table, by its fields."""
    return _filled(link, "__data.fields")


def _filled(link: tuple[str, str], source: str) -> tuple[str, str]:
    title, address = link
    names = {name: f"${{{source}.{name}}}" for name in ("node", "namespace", "pod")}
    return title, address.format(**names)


def _joules(by: str, chosen: str = "") -> str:
    """Energy of pods over the time shown, by labels; chosen: matchers, each after a comma."""
    found = over_zones("increase", "kpm_pod_joules_total", f"node, {by}", "$__range", chosen)
    return f"sum by ({by}) ({found})"


def _bill(title: str, by: tuple[str, ...], chosen: str, link: tuple[str, str]) -> Panel:
    """A table of energy, money and CO2e by labels; what is idle of it has a column of its own."""
    total, idle = _joules(", ".join(by), chosen), _joules(", ".join(by), f'{chosen},mode="idle"')
    return Panel(
        title,
        "table",
        "short",
        (
            (total, ""),
            (idle, ""),
            (f"({total}) / 3.6e6 * $price", ""),
            (f"({total}) / 3.6e6 * $carbon", ""),
        ),
        24,
        7,
        "Over the time shown, at the price and the grams of CO2e above, a kWh.",
        columns=(
            *(Column(name, name) for name in by),
            Column("Value #A", "energy", "joule"),
            Column("Value #B", "of it idle", "joule"),
            Column("Value #C", "money", "short"),
            Column("Value #D", "grams CO2e", "short"),
        ),
        link=_of_row(link),
    )


#: Drifted is the one condition that should be False; what a machine does not support is no fault.
_BAD_CONDITIONS = (
    'max by (node, type, reason) (kpm_agent_condition{type!~"Drifted|.*Supported"} == 0 or'
    ' kpm_agent_condition{type="Drifted"} == 1)'
)


def _cluster() -> tuple[Panel, ...]:
    return (
        Panel(
            "Power of all nodes", "stat", "watt", (("sum(kpm:node_power:watts)", "watts"),), 6, 5
        ),
        Panel(
            "of it busy in pods",
            "stat",
            "percentunit",
            (
                (
                    (
                        f'sum(rate(kpm_pod_joules_total{{{OWN},mode="busy"}}[5m])) /'
                        " sum(kpm:node_power:watts)"
                    ),
                    "share",
                ),
            ),
            6,
            5,
        ),
        Panel(
            "idle that is nobody's",
            "stat",
            "percentunit",
            (("sum(kpm:node_unattributed_power:watts) / sum(kpm:node_power:watts)", "share"),),
            6,
            5,
        ),
        Panel(
            "Nodes that measure", "stat", "short", (("count(kpm:node_power:watts)", "nodes"),), 6, 5
        ),
        Panel(
            "Power by node",
            "timeseries",
            "watt",
            (("kpm:node_power:watts", "{{node}}"),),
            link=_of_series(_TO_NODE),
        ),
        Panel(
            "Power by namespace",
            "timeseries",
            "watt",
            (("topk(10, kpm:namespace_power:watts)", "{{namespace}}"),),
            link=_of_series(_TO_PODS),
        ),
        Panel(
            "Power by profile",
            "timeseries",
            "watt",
            (("sum by (pool, profile) (kpm:profile_power:watts)", "{{pool}} {{profile}}"),),
        ),
        Panel(
            "The ten pods that take most",
            "bargauge",
            "watt",
            (("topk(10, sum by (namespace, pod) (kpm:pod_power:watts))", "{{namespace}}/{{pod}}"),),
            link=_of_series(_TO_POD),
        ),
        _bill("Energy, money and CO2e by namespace", ("namespace",), "", _TO_PODS),
        Panel(
            "What is wrong",
            "table",
            "short",
            (
                ("sum by (node, severity, code) (kpm_agent_problems)", ""),
                ("sum by (node, code) (kpm_energy_problems)", ""),
            ),
            description="docs/user/problems.md says what to do about each code.",
            nothing="Nothing is wrong",
            link=_of_row(_TO_NODE),
        ),
        Panel(
            "Conditions that are not as they should be",
            "table",
            "short",
            ((_BAD_CONDITIONS, ""),),
            nothing="All are as they should be",
            link=_of_row(_TO_NODE),
        ),
    )


def _node() -> tuple[Panel, ...]:
    at = 'node=~"$node"'
    return (
        Panel(
            "Power by zone",
            "timeseries",
            "watt",
            (
                (
                    f"sum by (zone, place) (rate(kpm_node_energy_joules_total{{{at}}}[5m]))",
                    "{{zone}} {{place}}",
                ),
            ),
        ),
        Panel(
            "Who has it",
            "timeseries",
            "watt",
            (
                (
                    f"sum by (pool, profile) (kpm:profile_power:watts{{{at}}})",
                    "{{pool}} {{profile}}",
                ),
                (f"sum(kpm:node_system_power:watts{{{at}}})", "system"),
                (f"sum(kpm:node_unattributed_power:watts{{{at}}})", "idle of nobody"),
            ),
        ),
        Panel(
            "CPU map: effective frequency",
            "stat",
            "hertz",
            ((f"max by (cpu, pool) (kpm_cpu_frequency_hertz{{{at}}})", "{{cpu}} {{pool}}"),),
            24,
            8,
            "A tile a CPU; one that was idle throughout has none.",
        ),
        Panel(
            "Busy CPUs by pool",
            "timeseries",
            "short",
            ((f"sum by (pool) (kpm_cpu_busy_ratio{{{at}}})", "{{pool}}"),),
        ),
        Panel(
            "Idle states by pool",
            "timeseries",
            "percentunit",
            (
                (
                    (
                        "sum by (pool, idle_state)"
                        f" (rate(kpm_idle_state_seconds_total{{{at}}}[5m])) / on (pool) group_left"
                        f" count by (pool) (kpm_cpu_busy_ratio{{{at}}})"
                    ),
                    "{{pool}} {{idle_state}}",
                ),
            ),
        ),
        Panel(
            "Limits of frequency domains",
            "timeseries",
            "hertz",
            ((f"max by (pool, limit) (kpm_domain_limit_hertz{{{at}}})", "{{pool}} {{limit}}"),),
        ),
        Panel(
            "Power caps",
            "timeseries",
            "watt",
            ((f"max by (zone, limit) (kpm_agent_power_cap_watts{{{at}}})", "{{zone}} {{limit}}"),),
        ),
        Panel(
            "Files written and foreign values",
            "timeseries",
            "short",
            (
                (f"increase(kpm_agent_files_written_total{{{at}}}[5m])", "written"),
                (f"increase(kpm_agent_foreign_values_total{{{at}}}[5m])", "foreign"),
            ),
        ),
        Panel(
            "Meters",
            "table",
            "short",
            ((f"max by (node, zone, place, source, path) (kpm_meter_up{{{at}}})", ""),),
            columns=(
                *(Column(name, name) for name in ("node", "zone", "place", "source", "path")),
                Column("Value", "state", "short"),
            ),
            words=(("1", "is read"), ("0", "cannot be read")),
        ),
        Panel(
            "Kinds of meters",
            "table",
            "short",
            ((f"max by (node, source, reason) (kpm_energy_source_present{{{at}}})", ""),),
            24,
            6,
            "What this machine has, and what it has not: that is no fault while another kind is"
            " there.",
            columns=(
                *(Column(name, name) for name in ("node", "source")),
                Column("Value", "state", "short"),
                Column("reason", "why"),
            ),
            words=(("1", "there"), ("0", "not on this machine")),
        ),
    )


def _pod() -> tuple[Panel, ...]:
    at, who = 'namespace=~"$namespace",pod=~"$pod"', "{{namespace}}/{{pod}}"
    energy = _joules("namespace, pod, mode", f",{at}")
    power = over_zones("rate", "kpm_pod_joules_total", "namespace, pod, mode", "5m", f",{at}")
    containers = (
        f"sum by (namespace, pod, container) (rate(kpm_container_joules_total{{{OWN},{at}}}[5m]))"
    )
    busy = f'sum by (namespace, pod) (rate(kpm_pod_joules_total{{{OWN},mode="busy",{at}}}[5m]))'
    time = f"sum by (namespace, pod) (rate(kpm_pod_cpu_seconds_total{{{at}}}[5m]))"
    return (
        Panel(
            "Power, busy and idle",
            "timeseries",
            "watt",
            ((power, f"{who} {{{{mode}}}}"),),
            description="Idle is what the pod's own CPUs take while they wait.",
        ),
        Panel(
            "Energy over the time shown", "bargauge", "joule", ((energy, f"{who} {{{{mode}}}}"),)
        ),
        Panel(
            "Power by container", "timeseries", "watt", ((containers, f"{who} {{{{container}}}}"),)
        ),
        Panel("CPU time", "timeseries", "short", ((time, who),)),
        Panel(
            "Joules a second of CPU time",
            "timeseries",
            "joule",
            ((f"{busy} / ({time} > 0)", who),),
            24,
            8,
            "What a second of work costs: it falls with the frequency, and with a neighbour on the"
            " same core.",
        ),
        _bill("Energy, money and CO2e", ("namespace", "pod"), f",{at}", _TO_POD),
    )
