"""The Grafana dashboards, built with Grafana's own types; make.py writes them as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen
from grafana_foundation_sdk.builders import bargauge, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    VariableRefresh,
)
from rules import OWN

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH = 24


@frozen
class Panel:
    """A panel: what it shows, as which kind, in which unit, how wide and high, and its queries with
    their legends.
    """

    title: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    span: int = 12
    height: int = 8
    description: str = ""


_KINDS: dict[str, Callable[[], Any]] = {
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "table": table.Panel,
    "bargauge": bargauge.Panel,
}


def dashboards() -> dict[str, Any]:
    """Name → dashboard, as Grafana reads it."""
    return {
        "cluster": _dashboard("kpm-cluster", "Power: cluster", _cluster(), ()),
        "node": _dashboard(
            "kpm-node",
            "Power: node",
            _node(),
            (("node", "label_values(kpm_energy_samples_total, node)"),),
        ),
        "pod": _dashboard(
            "kpm-pod",
            "Power: pod",
            _pod(),
            (
                ("namespace", "label_values(kpm_pod_joules_total, namespace)"),
                ("pod", 'label_values(kpm_pod_joules_total{namespace=~"$namespace"}, pod)'),
            ),
        ),
        "savings": _dashboard(
            "kpm-savings",
            "Power: savings",
            _savings(),
            (("profile", "label_values(kpm_pool_joules_total, profile)"),),
            price=True,
        ),
    }


#: Drifted is the one condition that should be False.
_BAD_CONDITIONS = (
    'max by (node, type, reason) (kpm_agent_condition{type!="Drifted"} == 0 or'
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
        Panel("Power by node", "timeseries", "watt", (("kpm:node_power:watts", "{{node}}"),)),
        Panel(
            "Power by namespace",
            "timeseries",
            "watt",
            (("topk(10, kpm:namespace_power:watts)", "{{namespace}}"),),
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
        ),
        Panel(
            "What is wrong",
            "table",
            "short",
            (
                ("sum by (node, severity, code) (kpm_agent_problems)", ""),
                ("sum by (node, code) (kpm_energy_problems)", ""),
            ),
        ),
        Panel(
            "Conditions that are not as they should be", "table", "short", ((_BAD_CONDITIONS, ""),)
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
            (
                (f"max by (node, zone, place, source, path) (kpm_meter_up{{{at}}})", ""),
                (f"max by (node, source, reason) (kpm_energy_source_present{{{at}}})", ""),
            ),
        ),
    )


def _pod() -> tuple[Panel, ...]:
    at, who = 'namespace=~"$namespace",pod=~"$pod"', "{{namespace}}/{{pod}}"
    energy = (
        f"sum by (namespace, pod, mode) (increase(kpm_pod_joules_total{{{OWN},{at}}}[$__range]))"
    )
    containers = (
        f"sum by (namespace, pod, container) (rate(kpm_container_joules_total{{{OWN},{at}}}[5m]))"
    )
    busy = f'sum by (namespace, pod) (rate(kpm_pod_joules_total{{{OWN},mode="busy",{at}}}[5m]))'
    time = f"sum by (namespace, pod) (rate(kpm_pod_cpu_seconds_total{{{at}}}[5m]))"
    return (
        Panel(
            "Power",
            "timeseries",
            "watt",
            ((f"sum by (namespace, pod) (kpm:pod_power:watts{{{at}}})", who),),
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
    )


def _savings() -> tuple[Panel, ...]:
    chosen = f'{OWN},profile=~"$profile"'
    energy = f"sum by (profile) (increase(kpm_pool_joules_total{{{chosen}}}[$__range]))"
    earlier = (
        f"sum by (profile) (increase(kpm_pool_joules_total{{{chosen}}}[$__range] offset $earlier))"
    )
    spent = f'sum by (profile) (rate(kpm_pool_joules_total{{{chosen},mode="busy"}}[5m]))'
    busy = 'sum by (profile) (rate(kpm_pod_cpu_seconds_total{profile=~"$profile"}[5m]) > 0)'
    return (
        Panel("Energy", "stat", "joule", ((energy, "{{profile}}"),), 8, 6),
        Panel(
            "Money",
            "stat",
            "short",
            ((f"{energy} / 3.6e6 * $price", "{{profile}}"),),
            8,
            6,
            "At the price above, a kWh.",
        ),
        Panel(
            "CO2e, grams",
            "stat",
            "short",
            ((f"{energy} / 3.6e6 * $carbon", "{{profile}}"),),
            8,
            6,
            "At the grams above, a kWh.",
        ),
        Panel(
            "Saved against the same time earlier",
            "stat",
            "joule",
            ((f"{earlier} - {energy}", "{{profile}}"),),
            12,
            6,
        ),
        Panel(
            "Saved against the same time earlier, share",
            "stat",
            "percentunit",
            ((f"1 - {energy} / {earlier}", "{{profile}}"),),
            12,
            6,
            "Loads differ from time to time: kpm energy compare tells what is certain.",
        ),
        Panel(
            "Power by profile",
            "timeseries",
            "watt",
            ((f"sum by (profile) (rate(kpm_pool_joules_total{{{chosen}}}[5m]))", "{{profile}}"),),
        ),
        Panel(
            "Joules a second of CPU time",
            "timeseries",
            "joule",
            ((f"{spent} / {busy}", "{{profile}}"),),
        ),
    )


def _dashboard(
    uid: str,
    title: str,
    panels: Iterable[Panel],
    choices: Iterable[tuple[str, str]],
    *,
    price: bool = False,
) -> Any:
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["kubernetes-power-manager"])
        .refresh("30s")
        .time("now-1h", "now")
        .editable()
    )
    made = made.with_variable(
        dashboard.DatasourceVariable("datasource").id("datasource").type("prometheus")
    )
    for name, query in choices:
        choice = (
            dashboard.QueryVariable(name)
            .id(name)
            .datasource(_SOURCE)
            .query(query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
        made = made.with_variable(choice.multi(True).include_all(True).all_value(".*"))
    for name, value in (("price", "0.30"), ("carbon", "380"), ("earlier", "1d")) if price else ():
        made = made.with_variable(dashboard.TextBoxVariable(name).id(name).default_value(value))
    for panel in panels:
        made = made.with_panel(_panel(panel))
    return made.build()


def _panel(panel: Panel) -> Any:
    instant = panel.kind != "timeseries"
    made = (
        _KINDS[panel.kind]()
        .title(panel.title)
        .datasource(_SOURCE)
        .span(panel.span)
        .height(panel.height)
        .unit(panel.unit)
    )
    if panel.description:
        made = made.description(panel.description)
    if panel.kind == "timeseries":
        legend = (
            VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        made = made.legend(legend)
    if panel.kind == "table":
        made = made.show_header(True)
        made = (
            made.with_transformation(DataTransformerConfig(id_val="merge", options={}))
            if len(panel.queries) > 1
            else made
        )
    if panel.kind in ("stat", "bargauge"):
        made = made.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    if panel.kind == "stat":
        made = made.graph_mode(BigValueGraphMode.NONE).color_mode(BigValueColorMode.BACKGROUND)
    for number, (query, legend) in enumerate(panel.queries):
        target = (
            prometheus.Dataquery()
            .expr(query)
            .legend_format(legend)
            .ref_id(chr(ord("A") + number))
            .datasource(_SOURCE)
        )
        target = target.instant() if instant else target.range()
        made = made.with_target(target.format("table" if panel.kind == "table" else "time_series"))
    return made
