"""powercap: the earlier capping tool's settings on this system's applier."""

import os
import sys

import click

from kpm.cli.options import kubeconfig_option, log_level_option, say, tree_options
from kpm.request.options import TreeOptions


@click.command()
@tree_options
@kubeconfig_option
@click.option(
    "--no-annotations", is_flag=True, help="Say nothing on the Node; no API server is needed."
)
@click.option(
    "--once",
    is_flag=True,
    help="One pass, and leave the limits as they are then; kpm restore undoes it.",
)
@log_level_option
def powercap(
    tree: TreeOptions, kubeconfig: str | None, no_annotations: bool, once: bool, log_level: str
) -> None:
    """Cap this node's power by the environment: NODE_NAME, MAX_SOURCE, STABILISATION_TIME, ALPHA,
    RAPL_MIN_POWER, RAPL_LIMIT, PMAX_FUNC, DATA_PROVIDER, PROVIDER_URL, PROVIDER_PARAMS, TIMEZONE,
    POWER_CALC_MODE. The limits are put back at the end.

    \b
    NODE_NAME=$(hostname) MAX_SOURCE=140000000 kpm powercap --no-annotations
    """
    from datetime import UTC, datetime

    from kpm.kube.api import connect
    from kpm.powercap.capper import Capper, annotator
    from kpm.powercap.settings import read_environment
    from kpm.powercap.sources import sources_of
    from kpm.process.ending import on_signals
    from kpm.process.logs import make_log
    from kpm.request.tree import open_applier
    from kpm_applier.state.record import StateError

    environment = read_environment(os.environ)
    log = make_log("powercap", log_level).bind(node=environment.node)
    api = None if no_annotations else connect(kubeconfig)
    try:
        with open_applier(tree) as applier:
            capper = Capper(
                environment,
                applier,
                sources_of(environment, log),
                annotator(api, environment.node, log),
                log,
            )
            if once:
                sys.exit(
                    0
                    if capper.once(datetime.now(UTC)).settled and applier.machine.power_zones
                    else 1
                )
            on_signals(lambda *_: capper.stopped.set())
            log.info(
                "powercap started",
                provider=environment.provider.value,
                every=environment.stabilisation,
            )
            capper.run()
    except StateError as failure:
        say(f"kpm: {failure}", err=True)
        sys.exit(1)
