"""leave: what a person, or a chart's hook, asks of a cluster before it goes."""

import click

from kpm.cli.options import kubeconfig_option
from kpm.cli.shells import duration, group_option, namespace_option
from kpm.process.errors import one_line


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
