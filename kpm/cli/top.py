"""kpm top: what this machine's CPUs do just now."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from kpm.cli.options import output_option, sysfs_option
from kpm.cli.shells import duration
from kpm.process.errors import InputError, one_line

if TYPE_CHECKING:
    from kpm.live.picture import Picture

interval_option = click.option(
    "--interval",
    default="2s",
    callback=duration(1.0),
    metavar="DURATION",
    show_default=True,
    help="How often to look.",
)
once_option = click.option(
    "--once", is_flag=True, help="Look twice within the interval, print, and end."
)


@click.command()
@sysfs_option
@click.option(
    "--pods",
    metavar="FILE",
    help="Pods of this node, as `kubectl get pods -A -o json` prints them, for their watts.",
)
@interval_option
@once_option
@output_option("table", "json")
def top(sysfs: str, pods: str | None, interval: float, once: bool, output: str) -> None:
    """Show what each CPU of this machine does: limits and effective frequency, how busy it is, how
    its idle time divides over the states, watts by package and pod. q quits, s sorts, / filters.

    \b
    kpm top
    kpm top --once
    kpm top --pods <(kubectl get pods -A -o json --field-selector spec.nodeName=$(hostname))
    kubectl power top node-1      of a node of a cluster
    """
    from kpm.live.machine import MachineLooks
    from kpm.request.options import TreeOptions
    from kpm.request.tree import make_host
    from kpm_applier.discovery.discover import HostError

    beside = os.path.join(os.path.dirname(sysfs.rstrip("/")), "proc")  # of a copy, its own
    proc = beside or "/proc"
    tells = pod_watts(sysfs, proc, pods) if pods else tuple
    looks = MachineLooks(make_host(TreeOptions(sysfs)), proc, tells)

    def look() -> "Picture":
        try:
            return looks.look()
        except (HostError, OSError) as failure:
            raise InputError(f"--sysfs {sysfs}: {one_line(failure)}") from None

    show(look, interval, once=once, output=output)


def pod_watts(sysfs: str, proc: str, pods: str) -> Callable[[], tuple[tuple[str, float], ...]]:
    """What tells namespace/pod and watts of the pods of a file, most first, since it was asked
    before; nothing where nothing measures. Errors: InputError.
    """
    from kpm.cli.energy import meter_of
    from kpm.energy.live import look as looked
    from kpm.request.options import TreeOptions

    meter = meter_of(TreeOptions(sysfs), proc, f"{sysfs}/fs/cgroup", pods, estimate=False)

    def tell() -> tuple[tuple[str, float], ...]:
        meter.sample()
        rows = [row for row in looked(meter).rows if row.kind == "pod"]
        return tuple(
            sorted(((row.name, row.busy + row.idle) for row in rows), key=lambda row: -row[1])
        )

    return tell


def show(look: "Callable[[], Picture]", interval: float, *, once: bool, output: str) -> None:
    """Follow on a terminal; elsewhere, or where it is asked for, once."""
    from kpm.live.picture import document, lines

    if not once and output == "table" and sys.stdin.isatty() and sys.stdout.isatty():
        from kpm.live.screen import follow

        follow(look, interval)
        return
    look()
    time.sleep(interval)
    found = look()
    if output == "json":
        click.echo(json.dumps(document(found), indent=1))
    else:
        click.echo("\n".join(lines(found)))
