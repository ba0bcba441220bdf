"""kubectl power ui: a page about the cluster, on this machine's loopback."""

import click

from kpm.cli.where import Where, connected, where_options
from kpm.process.errors import InputError


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port on 127.0.0.1; 0 is one that is free.",
)
@where_options
def ui(port: int, where: Where) -> None:
    """Serve a page about the cluster on 127.0.0.1 until Ctrl-C: nodes, pools, drift, problems,
    energy, and the plan of objects that are given to it. It reads with your rights and changes
    nothing; its address holds a token, so it is for you alone.

    \b
    kubectl power ui
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise InputError(
            "ui: needs Jinja2, which is not installed: pip install"
            " 'kubernetes-power-manager[cluster,ui]'"
        ) from None
    from kpm.ui.server import Server
    from kpm.ui.views import Views

    api = connected(where)
    try:
        server = Server(lambda root: Views(api, where.group, where.namespace, root), port)
    except OSError as failure:
        raise InputError(f"--port {port}: {failure.strerror}") from None
    click.echo(server.url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
