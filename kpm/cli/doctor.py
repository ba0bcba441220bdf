"""kpm doctor: what keeps power management from working on this node, and the commands that mend
it.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from kpm.cli.options import output_option
from kpm.doctor.findings import Finding, Level
from kpm.process.errors import InputError, one_line

VERSION = 1


@click.command()
@click.option(
    "--root",
    default="/",
    metavar="DIR",
    show_default=True,
    help="The node's root: its sys, proc, etc, var and run are below it; a copy works too.",
)
@output_option("table", "json")
def doctor(root: str, output: str) -> None:
    """Find what keeps power management from working on this node: driver modes, firmware limits,
    the kubelet's CPU manager, other daemons, SELinux, mounts. Each finding names what mends it;
    nothing is changed. Exit 0 nothing was found, 1 something was.

    \b
    kpm doctor
    kpm doctor --root ./dump
    kubectl power doctor        for a whole cluster
    """
    from kpm.doctor.node import HostError, facts_of, findings_of

    try:
        facts = facts_of(root)
    except (HostError, OSError) as failure:
        raise InputError(f"--root {root}: {one_line(failure)}") from None
    tell(findings_of(facts, os.uname().nodename if root == "/" else root), output)


def tell(found: Sequence[Finding], output: str) -> None:
    """Print findings, and end with the status that says whether there are any."""
    if output == "json":
        click.echo(json.dumps(document(found), indent=1))
    else:
        for line in lines(found):
            click.echo(line)
    sys.exit(bool(found))


def lines(found: Sequence[Finding]) -> Iterator[str]:
    """For people: errors first, each with what mends it below."""
    for item in sorted(found, key=lambda item: (item.level is not Level.ERROR, item.code)):
        yield one_line(f"{item.level}: {item.where}: {item.message} [{item.code}]", 2000)
        yield one_line(f"    mend: {item.mend}", 2000)
    errors = sum(item.level is Level.ERROR for item in found)
    yield f"{errors} errors, {len(found) - errors} warnings" if found else "nothing was found"


def document(found: Sequence[Finding]) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "version": VERSION,
        "findings": [
            {
                "level": item.level,
                "code": item.code,
                "where": item.where,
                "message": item.message,
                "mend": item.mend,
            }
            for item in found
        ],
    }
