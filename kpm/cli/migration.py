"""migrate: from earlier operators, the powercap tool, TuneD, balloons, OpenShift's profiles."""

import sys
from typing import TYPE_CHECKING

import click

from kpm.cli.options import files_option, kubeconfig_option, output_option, say
from kpm.process.errors import InputError, one_line

if TYPE_CHECKING:
    from kpm.migrate.sources import Sources


@click.command()
@files_option
@click.option(
    "--cluster", is_flag=True, help="Read the cluster of --kubeconfig; nothing is written."
)
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    help="A new folder for backup, objects, report and steps; without it all is printed.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Only say what in the cluster writes the same files as we would.",
)
@output_option("text", "json")
@kubeconfig_option
def migrate(
    filenames: tuple[str, ...],
    cluster: bool,
    folder: str | None,
    check: bool,
    output: str,
    kubeconfig: str | None,
) -> None:
    """Say in this system's objects what another system says of power, and what changes in meaning.
    Exit 1 where something has no equivalent; with --check where something would fight us.

    \b
    kpm migrate -f before.yaml --to ./migration     objects of an earlier operator, balloons, ...
    kpm migrate -f /etc/tuned/mine/tuned.conf       a profile of TuneD
    kpm migrate --cluster --to ./migration          all that a cluster has of them, only read
    kpm migrate --check                             does anything fight us?
    """
    import json

    from kpm.migrate.findings import Fate
    from kpm.migrate.rivals import fighting
    from kpm.migrate.translate import migrate as translate
    from kpm.migrate.writing import document, report, write

    sources = _sources(filenames, live=cluster or check, kubeconfig=kubeconfig)
    rivals = fighting(sources.objects)
    if check:
        for item in rivals:
            say(f"{item.object}: {item.text}")
        if not rivals:
            say("nothing that writes the same files")
        sys.exit(bool(rivals))
    made = translate(sources)
    written = write(folder, sources, made, rivals) if folder else []
    if output == "json":
        click.echo(json.dumps(document(made, rivals), indent=1))
    elif folder:
        say(f"{', '.join(written)} in {one_line(folder)}")
    else:
        import yaml

        click.echo(yaml.safe_dump_all(made.objects, sort_keys=False), nl=False)
        for line in report(made):
            say(line, err=True)
    sys.exit(any(item.fate is Fate.GONE for item in made.findings))


def _sources(filenames: tuple[str, ...], *, live: bool, kubeconfig: str | None) -> "Sources":
    """Of files, or of the cluster. Errors: InputError."""
    from kpm.kube.api import connect
    from kpm.migrate.sources import from_cluster, from_files

    if filenames and live:
        raise InputError("-f: expected either files or a cluster, got both")
    if filenames:
        return from_files(filenames)
    if not live:
        raise InputError("-f: is missing; give files, or --cluster to read one")
    return from_cluster(connect(kubeconfig))
