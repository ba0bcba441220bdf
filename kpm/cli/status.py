"""The verb status: how a cluster, a node of it, this machine or a recorded one is."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import click
from attrs import frozen

from kpm.cli.options import (
    DEFAULT_STATE_DIR,
    output_option,
)
from kpm.cli.shells import duration
from kpm.cli.where import Where, connected, where_options
from kpm.process.errors import InputError

_WATCH_SECONDS = 5.0


@frozen
class Told:
    """What is to be printed. well: whether everything is as asked."""

    well: bool
    lines: list[str]
    document: dict[str, Any]


@click.command()
@click.argument("node", required=False)
@click.option(
    "--wait",
    "within",
    default="0s",
    callback=duration(0.0),
    metavar="DURATION",
    show_default=True,
    help="Ask again for so long while not everything is ready.",
)
@click.option("--watch", "-w", is_flag=True, help="Show it anew whenever it changes, until Ctrl-C.")
@click.option("--all-namespaces", "-A", "everywhere", is_flag=True, help="Of every PowerConfig.")
@click.option("--sysfs", metavar="ROOT", help="Of the machine of this tree, such as /sys.")
@click.option(
    "--state-dir",
    envvar="KPM_STATE_DIR",
    default=DEFAULT_STATE_DIR,
    metavar="DIR",
    show_default=True,
    help="With --sysfs: where baselines and requests are kept.",
)
@click.option("--snapshot", metavar="DIR", help="Of the nodes of a folder that snapshot recorded.")
@output_option("table", "json")
@where_options
def status(
    node: str | None,
    within: float,
    watch: bool,
    everywhere: bool,
    sysfs: str | None,
    state_dir: str,
    snapshot: str | None,
    output: str,
    where: Where,
) -> None:
    """Say how a cluster is: operator, PowerConfig, and the nodes by what their agents report; with
    NODE, that one: who holds which CPUs, what was asked and what is. Exit 0 all is well, 1
    something is not.

    \b
    kpm status                     what kubectl's own configuration points at
    kpm status node-1              one node of it
    kpm status --wait 2m           and wait until all is well
    kpm status --sysfs /sys        this machine, without a cluster
    kpm status --snapshot ./case   what a recorded folder says
    """
    if sum(item is not None for item in (sysfs, snapshot)) + everywhere > 1:
        raise InputError("--sysfs, --snapshot, -A: at most one of them is allowed")
    look: Callable[[], Told]
    if sysfs is not None:
        look = _machine(sysfs, state_dir)
    elif snapshot is not None:
        look = _recorded(snapshot, node)
    else:
        look = _cluster(where, node, everywhere=everywhere)
    if watch:
        follow(look)
        return
    ends = time.monotonic() + within
    while not (found := _tried(look, ends)).well and time.monotonic() < ends:
        time.sleep(1.0)
    if output == "json":
        click.echo(json.dumps(found.document, indent=1))
    else:
        click.echo("\n".join(found.lines))
    sys.exit(not found.well)


def _tried(look: Callable[[], Told], ends: float) -> Told:
    """What is told; while there is time left, a failure is not yet one."""
    while True:
        try:
            return look()
        except InputError:
            if time.monotonic() >= ends:
                raise
            time.sleep(1.0)


def follow(look: Callable[[], Told]) -> None:
    """Print whenever something is different, until Ctrl-C; what fails is told and tried again."""
    before: list[str] = []
    while True:
        try:
            lines = look().lines
        except InputError as failure:
            lines = [f"kpm: {failure}"]
        if lines != before:
            if sys.stdout.isatty():
                click.clear()
            elif before:
                click.echo()
            click.echo("\n".join(lines))
            before = lines
        time.sleep(_WATCH_SECONDS)


def _cluster(where: Where, node: str | None, *, everywhere: bool) -> Callable[[], Told]:
    from datetime import UTC, datetime

    from kpm.cli.status_text import cluster_lines, node_lines
    from kpm.cluster import node as of_node
    from kpm.cluster.status import VERSION, document, namespaces_of, status_of
    from kpm.formats.wire import GROUPS
    from kpm.kube.api import ApiError

    api, place = connected(where), where.namespace

    def all_of_them(now: datetime) -> Told:
        found = [status_of(api, *pair, now) for pair in namespaces_of(api, GROUPS)]
        lines = [
            line
            for item in found
            for line in ("", f"namespace    {item.namespace}", *cluster_lines(item))
        ]
        documents = [document(item) for item in found]
        well = all(item.well for item in found)
        return Told(
            well,
            lines[1:] or ["no PowerConfig in any namespace"],
            {"version": VERSION, "namespaces": documents, "well": well},
        )

    def look() -> Told:
        now = datetime.now(UTC)
        try:
            if node is not None:
                one = of_node.node_of(api, where.group, place, node)
                return Told(one.well, node_lines(one, now), of_node.document(one))
            if everywhere:
                return all_of_them(now)
            found = status_of(api, where.group, place, now)
        except ApiError as failure:
            raise InputError(f"namespace {place}: {failure}") from None
        return Told(found.well, cluster_lines(found), document(found))

    return look


def _machine(sysfs: str, state_dir: str) -> Callable[[], Told]:
    from kpm.cli.machine_status import machine_status
    from kpm.request.options import TreeOptions

    tree = TreeOptions(sysfs, state_dir)

    def look() -> Told:
        found = machine_status(tree)
        return Told(found.well, found.lines(), found.document())

    return look


def _recorded(folder: str, node: str | None) -> Callable[[], Told]:
    from datetime import UTC, datetime

    from kpm.cli.recording import read_folder
    from kpm.cli.status_text import node_lines
    from kpm.cluster.node import VERSION, document, planned

    def look() -> Told:
        recipe = read_folder(folder)
        nodes = [item for item in planned(recipe) if node in (None, item.name)]
        if not nodes:
            raise InputError(f"{folder}: expected a recorded node, got {node!r}")
        instant = recipe.targets.instant or datetime.now(UTC)
        lines = [line for item in nodes for line in ("", *node_lines(item, instant))]
        well = all(item.well for item in nodes)
        documents = [document(item) for item in nodes]
        return Told(well, lines[1:], {"version": VERSION, "nodes": documents, "well": well})

    return look
