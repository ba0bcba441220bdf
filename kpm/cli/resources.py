"""crds: the custom resource definitions."""

import os

import click

from kpm.formats.wire import GROUPS
from kpm.process.errors import InputError


@click.command()
@click.option(
    "--group",
    type=click.Choice(GROUPS),
    default=GROUPS[0],
    show_default=True,
    help="API group of the kinds.",
)
@click.option(
    "--dir",
    "folder",
    type=str,
    help="Write one file for each kind into this folder instead of printing all.",
)
def crds(group: str, folder: str | None) -> None:
    """Print the custom resource definitions, ready for kubectl apply.

    \b
    kpm crds | kubectl apply --server-side -f -
    """
    import yaml

    from kpm.formats.crds import KINDS, crd

    texts = {
        f"{group}_{kind.plural}.yaml": str(
            yaml.safe_dump(crd(kind, group), sort_keys=False, width=150, allow_unicode=True)
        )
        for kind in KINDS
    }
    if folder is None:
        click.echo("---\n".join(texts.values()), nl=False)
        return
    try:
        os.makedirs(folder, exist_ok=True)
        for name, text in texts.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as failure:
        raise InputError(f"--dir {folder}: {failure.strerror}") from None
