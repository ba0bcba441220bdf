"""kubectl power doctor: what is wrong with a cluster, and the commands that mend it."""

import click

from kpm.cli.doctor import tell
from kpm.cli.options import output_option
from kpm.cli.where import Where, connected, where_options


@click.command()
@output_option("table", "json")
@where_options
def doctor(output: str, where: Where) -> None:
    """Find what is wrong with a cluster: versions, kinds, operator, admission policies, Pod
    Security, your rights, nodes whose agents are silent or refused, other systems that set CPUs.
    Each finding names what mends it; nothing is changed. Exit 0 nothing was found, 1 something was.

    \b
    kubectl power doctor
    kubectl power doctor --namespace cpu-power -o json
    """
    from kpm.doctor.cluster import Clinic, findings_of

    tell(findings_of(Clinic(connected(where), where.group, where.namespace)), output)
