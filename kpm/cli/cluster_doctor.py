"""kubectl power doctor: what is wrong with a cluster, and the commands that mend it."""

import click

from kpm.cli.doctor import tell
from kpm.cli.options import kubeconfig_option, output_option
from kpm.cli.shells import group_option, namespace_option
from kpm.cli.status import Where, connected, context_option, place_of


@click.command()
@output_option("table", "json")
@group_option
@namespace_option
@context_option
@kubeconfig_option
def doctor(
    output: str, group: str, namespace: str | None, context: str | None, kubeconfig: str | None
) -> None:
    """Find what is wrong with a cluster: versions, kinds, operator, admission policies, Pod
    Security, your rights, nodes whose agents are silent or refused, other systems that set CPUs.
    Each finding names what mends it; nothing is changed. Exit 0 nothing was found, 1 something was.

    \b
    kubectl power doctor
    kubectl power doctor --namespace cpu-power -o json
    """
    from kpm.doctor.cluster import Clinic, findings_of

    where = Where(kubeconfig, context, group, namespace)
    tell(findings_of(Clinic(connected(where), group, place_of(where))), output)
