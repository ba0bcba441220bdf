"""kubectl power explain: why a CPU or a pod of a node has what it has, by what agents publish."""

import json

import click

from kpm.cli.options import output_option, print_lines, say
from kpm.cli.planning import expected_names, explained
from kpm.cli.where import Where, connected, where_options
from kpm.process.errors import InputError

VERSION = 1


@click.command()
@click.argument("node")
@click.argument("what", type=click.Choice(["cpu", "pod", "profile", "cap", "uncore"]))
@click.argument("name")
@output_option("table", "json")
@where_options
def explain(
    node: str,
    what: str,
    name: str,
    output: str,
    where: Where,
) -> None:
    """Say why a CPU, a pod, a profile, a power cap or an uncore entry of a node has what it has.

    \b
    kubectl power explain node-1 cpu 5
    kubectl power explain node-1 pod default/web
    """
    from datetime import UTC, datetime

    from kpm.cluster.gathering import gather
    from kpm.kube.api import ApiError
    from kpm_planner.plan import plan_node

    place = where.namespace
    try:
        seen = gather(connected(where), where.group, place, node)
    except ApiError as failure:
        raise InputError(f"namespace {place}: {failure}") from None
    if not seen.inputs:
        why = seen.unknown.get(node, "no PowerNodeState is about it")
        raise InputError(f"Node/{node}: {why.removeprefix(f'Node/{node}: ')}")
    (item,) = seen.inputs
    plan = plan_node(seen.intent, item, datetime.now(UTC))
    lines = explained(plan, item.machine, what, name)
    if not lines:
        raise InputError(f"{what}: expected {expected_names(plan, what)}, got {name!r}")
    if output == "json":
        told = {"version": VERSION, "node": node, "what": what, "name": name, "lines": lines}
        click.echo(json.dumps(told, indent=1))
    else:
        for line in lines:
            say(line)
    print_lines(f"warning: {text}" for text in seen.notes)
