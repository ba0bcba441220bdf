"""What a dashboard is made of, and how Grafana's own types write it.

A panel says what it shows; nothing here knows what a query means. Colours carry no meaning: values
are plain, words stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from grafana_foundation_sdk.builders import bargauge, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
)

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_TAG = "kubernetes-power-manager"


@frozen
class Column:
    """A column of a table: the label that it shows, or "Value #A" of the query A; its name and
    unit.
    """

    of: str
    name: str
    unit: str = "string"


@frozen
class Panel:
    """A panel: what it shows, as which kind, in which unit, how wide and high, and its queries with
    their legends.

    columns: of a table, in this order; without them, all labels and values. words: value → what
    stands for it. nothing: what stands where there is no value. link: title and address of what a
    value leads to.
    """

    title: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    span: int = 12
    height: int = 8
    description: str = ""
    columns: tuple[Column, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    nothing: str = ""
    link: tuple[str, str] = ("", "")


@frozen
class Choice:
    """A variable of a dashboard. query: `label_values(…)`, where values are found; options: text
    and value of each, the first holds at first; neither: a text box. value: what the box holds.
    """

    name: str
    query: str = ""
    options: tuple[tuple[str, str], ...] = ()
    value: str = ""
    label: str = ""
    description: str = ""


@frozen
class Board:
    """A dashboard. since: how far back it shows at first."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    choices: tuple[Choice, ...] = ()
    since: str = "now-1h"


_KINDS: dict[str, Callable[[], Any]] = {
    "timeseries": timeseries.Panel,
    "stat": stat.Panel,
    "table": table.Panel,
    "bargauge": bargauge.Panel,
}


def built(board: Board) -> Any:
    """A dashboard as Grafana reads it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags([_TAG])
        .refresh("30s")
        .time(board.since, "now")
        .editable()
        .link(
            dashboard.DashboardLink("Power")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").id("datasource").type("prometheus")
        )
    )
    for choice in board.choices:
        made = made.with_variable(_variable(choice))
    for panel in board.panels:
        made = made.with_panel(_panel(panel))
    return made.build()


def _variable(choice: Choice) -> Any:
    made: Any
    if choice.query:
        made = (
            dashboard.QueryVariable(choice.name)
            .datasource(_SOURCE)
            .query(choice.query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    elif choice.options:
        options = [
            VariableOption(text=text, value=value, selected=not number)
            for number, (text, value) in enumerate(choice.options)
        ]
        made = (
            dashboard.CustomVariable(choice.name)
            .values(", ".join(f"{text} : {value}" for text, value in choice.options))
            .options(options)
            .current(options[0])
        )
    else:
        made = dashboard.TextBoxVariable(choice.name).default_value(choice.value)
    if choice.label:
        made = made.label(choice.label)
    if choice.description:
        made = made.description(choice.description)
    return made.id(choice.name)


def _panel(panel: Panel) -> Any:
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
    if panel.nothing:
        made = made.no_value(panel.nothing)
    if panel.words:
        results = {
            value: ValueMappingResult(text=text, index=number)
            for number, (value, text) in enumerate(panel.words)
        }
        made = made.mappings([ValueMap(results)])
    title, address = panel.link
    if title:
        made = made.data_links([dashboard.DashboardLink(title).url(address)])
    made = _OF_KIND[panel.kind](made, panel)
    for number, query in enumerate(panel.queries):
        made = made.with_target(_target(panel.kind, number, *query))
    return made


def _target(kind: str, number: int, query: str, legend: str) -> Any:
    made = (
        prometheus.Dataquery()
        .expr(query)
        .legend_format(legend)
        .ref_id(chr(ord("A") + number))
        .datasource(_SOURCE)
        .format("table" if kind == "table" else "time_series")
    )
    return made.range() if kind == "timeseries" else made.instant()


def _timeseries(made: Any, _panel: Panel) -> Any:
    legend = (
        VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    return made.legend(legend)


def _table(made: Any, panel: Panel) -> Any:
    """Rows of several queries with the same labels become one row."""
    made = made.show_header(True)
    if len(panel.queries) > 1:
        made = made.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    if not panel.columns:
        return made
    shown = {
        "indexByName": {column.of: number for number, column in enumerate(panel.columns)},
        "renameByName": {column.of: column.name for column in panel.columns},
        "excludeByName": {"Time": True},
    }
    made = made.with_transformation(DataTransformerConfig(id_val="organize", options=shown))
    for column in panel.columns:
        if column.unit != "string":
            unit = DynamicConfigValue(id_val="unit", value=column.unit)
            made = made.override_by_name(column.name, [unit])
    return made


def _bars(made: Any, _panel: Panel) -> Any:
    return made.reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))


def _stat(made: Any, panel: Panel) -> Any:
    text = BigValueTextMode.VALUE_AND_NAME if len(panel.queries) > 1 else BigValueTextMode.AUTO
    plain = made.graph_mode(BigValueGraphMode.NONE).color_mode(BigValueColorMode.NONE)
    return _bars(plain, panel).text_mode(text)


_OF_KIND: dict[str, Callable[[Any, Panel], Any]] = {
    "timeseries": _timeseries,
    "table": _table,
    "bargauge": _bars,
    "stat": _stat,
}
