"""kubectl power top: what the CPUs of a node do just now."""

from typing import TYPE_CHECKING

import click

from kpm.cli.options import output_option
from kpm.cli.top import interval_option, once_option, show
from kpm.cli.where import Where, connected, where_options
from kpm.process.errors import InputError

if TYPE_CHECKING:
    from kpm.live.picture import Picture


@click.command()
@click.argument("node")
@interval_option
@once_option
@output_option("table", "json")
@where_options
def top(
    node: str,
    interval: float,
    once: bool,
    output: str,
    where: Where,
) -> None:
    """Show what each CPU of a node does, by its agent's metrics through the API server: pool,
    holder, limits and effective frequency, how busy it is, watts by package and pod. It needs the
    right to get pods/proxy, and spec.agent.metrics of the PowerConfig; without them what is known
    is shown, and one line says what is missing.

    \b
    kubectl power top node-1
    kubectl power top node-1 --once -o json
    """
    from kpm.kube.api import ApiError
    from kpm.live.agent import NodeLooks

    looks = NodeLooks(connected(where), where.group, where.namespace, node)

    def look() -> "Picture":
        try:
            return looks.look()
        except ApiError as failure:
            raise InputError(f"Node/{node}: {failure}") from None

    show(look, interval, once=once, output=output)
