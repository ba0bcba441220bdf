"""init: a first policy that fits this machine."""

import click

from kpm.cli.options import hsmp_option, say, sysfs_option
from kpm.process.errors import InputError, one_line
from kpm.request.options import TreeOptions


@click.command()
@sysfs_option
@hsmp_option
@click.option("--machine", metavar="FILE", help="A machine of `discover -o json`, or described.")
@click.option("--kubelet-config", metavar="FILE", help="The kubelet's configuration.")
@click.option("-o", "--output", "path", metavar="FILE", help="A new file; by default the terminal.")
def init(
    sysfs: str, hsmp: str | None, machine: str | None, kubelet_config: str | None, path: str | None
) -> None:
    """Write a first policy that fits this machine: its ranges, governors and idle states, with
    comments. plan, apply and a cluster take it as it is.

    \b
    kpm init > policy.yaml && kpm plan -f policy.yaml
    kpm init -o policy.yaml --sysfs ./dump/sys
    """
    from kpm.cli.machine import read_tree
    from kpm.request.first_policy import KUBELET_FILES, first_policy, reserved
    from kpm.request.machines import read_machine

    found = read_machine(machine) if machine else read_tree(TreeOptions(sysfs, hsmp=hsmp))
    files = (kubelet_config,) if kubelet_config else () if machine else KUBELET_FILES
    origin = machine or ("this machine" if sysfs == "/sys" else sysfs)
    text = first_policy(found, reserved(found, files), one_line(origin))
    if path is None:
        click.echo(text, nl=False)
        return
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{one_line(path)}: is there already; name a new file") from None
    say(f"{path}: try  kpm plan -f {path}")
