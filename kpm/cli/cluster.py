"""status and leave: what a person, or a chart's hook, asks of a cluster as a whole."""

from typing import TYPE_CHECKING

import click

from kpm.cli.options import kubeconfig_option, output_option
from kpm.cli.shells import duration, group_option, namespace_option
from kpm.process.errors import InputError, one_line

if TYPE_CHECKING:
    from kpm.cluster.status import ClusterStatus

_MOST_NAMES = 8


@click.command()
@click.option(
    "--wait",
    "within",
    default="0s",
    callback=duration(0.0),
    metavar="DURATION",
    show_default=True,
    help="Ask again for so long while not everything is ready.",
)
@output_option("table", "json")
@group_option
@namespace_option
@kubeconfig_option
def status(
    within: float, output: str, group: str, namespace: str | None, kubeconfig: str | None
) -> None:
    """Say how a cluster is: operator, PowerConfig, and the nodes by what their agents report.
    Exit 0 all is well, 1 something is not.

    \b
    kpm status                  what kubectl's own configuration points at
    kpm status --wait 2m        and wait until all is well
    """
    import json
    import sys
    import time
    from datetime import UTC, datetime

    from kpm.cluster.status import document, status_of
    from kpm.kube.api import ApiError, connect
    from kpm_planner.model.cluster import SYSTEM_NAMESPACE

    api, place = connect(kubeconfig), namespace or SYSTEM_NAMESPACE[group]
    ends = time.monotonic() + within
    while True:
        try:
            found = status_of(api, group, place, datetime.now(UTC))
        except ApiError as failure:
            if time.monotonic() >= ends:
                raise InputError(f"namespace {place}: {failure}") from None
        else:
            if found.well or time.monotonic() >= ends:
                break
        time.sleep(1.0)
    if output == "json":
        click.echo(json.dumps(document(found), indent=1))
    else:
        for line in lines(found):
            click.echo(line)
    sys.exit(not found.well)


def lines(found: "ClusterStatus") -> list[str]:
    """A status for people, a line for each thing."""
    operator = (
        one_line(found.operator) if found.operator else "none works (its lease is not renewed)"
    )
    count = sum(len(group.nodes) for group in found.groups)
    config = "none, so nothing is managed"
    if found.config is not None:
        config = f"{one_line(found.config)}, {count} {'node' if count == 1 else 'nodes'}"
    said = [f"operator     {operator}", f"PowerConfig  {config}"]
    said += [f"  error: {one_line(text)}" for text in found.errors]
    for group in found.groups:
        word = {"True": "Ready", "False": "not Ready"}.get(group.ready, "unknown")
        more = f": {one_line(group.message)}" if group.message and group.ready != "True" else ""
        said.append(f"{len(group.nodes):>5}  {word} ({one_line(group.reason)}){more}")
        names = [one_line(name) for name in group.nodes[:_MOST_NAMES]]
        left = len(group.nodes) - len(names)
        if group.ready != "True":
            said.append(f"       {', '.join(names)}{f' and {left} more' if left else ''}")
    return said


@click.command()
@click.option(
    "--timeout",
    "within",
    default="270s",
    callback=duration(0.0),
    metavar="DURATION",
    show_default=True,
    help="How long nodes may take.",
)
@group_option
@namespace_option
@kubeconfig_option
def leave(within: float, group: str, namespace: str | None, kubeconfig: str | None) -> None:
    """Delete the PowerConfigs of a namespace and wait until every node has put back what was there
    before. Exit 0 done, 1 not in time.

    \b
    kpm leave --namespace power-manager && helm uninstall kpm --no-hooks -n power-manager
    """
    import sys
    import time

    from kpm.cluster.leaving import leave as leave_cluster
    from kpm.kube.api import connect
    from kpm_planner.model.cluster import SYSTEM_NAMESPACE

    place = namespace or SYSTEM_NAMESPACE[group]
    done = leave_cluster(
        connect(kubeconfig),
        group,
        place,
        clock=time.monotonic,
        sleep=time.sleep,
        within=within,
        say=lambda line: click.echo(one_line(line, 2000)),
    )
    click.echo("released" if done else "not in time; what was set stays until the nodes answer")
    sys.exit(not done)
