"""Options that several verbs share, and how results are printed."""

import json
import os
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import click

from kpm.process.errors import one_line
from kpm.request.options import PlanOptions, TreeOptions

_Function = TypeVar("_Function", bound=Callable[..., Any])
DEFAULT_STATE_DIR = "/var/lib/kpm"
DEFAULT_TELEMETRY_DIR = "/var/lib/power-node-agent/pods"


def files_option(function: _Function) -> _Function:
    """-f FILE|DIR|-"""
    return click.option(
        "-f",
        "--filename",
        "filenames",
        multiple=True,
        metavar="FILE|DIR|-",
        help="Objects as YAML or JSON; may be given many times.",
    )(function)


def sysfs_option(function: _Function) -> _Function:
    """--sysfs ROOT"""
    return click.option(
        "--sysfs",
        default="/sys",
        metavar="ROOT",
        show_default=True,
        help="The tree that /sys is; a copy or a dump works too.",
    )(function)


def helper_option(function: _Function) -> _Function:
    """--helper SOCKET"""
    text = "Socket of a `kpm helper` that writes the tree; left out, this process writes it."
    return click.option("--helper", metavar="SOCKET", help=text)(function)


def hsmp_option(function: _Function) -> _Function:
    """--hsmp DEVICE"""
    text = (
        "Mailbox of an AMD machine's firmware; by default /dev/hsmp where the tree is the running"
        " kernel's. With --helper: that helper's."
    )
    return click.option("--hsmp", metavar="DEVICE", help=text)(function)


def tree_options(function: _Function) -> _Function:
    """--sysfs, --hsmp, --state-dir, as one argument `tree`."""

    @wraps(function)
    def gathered(sysfs: str, hsmp: str | None, state_dir: str, **rest: Any) -> Any:
        return function(tree=TreeOptions(sysfs, state_dir, hsmp), **rest)

    return sysfs_option(hsmp_option(state_option(gathered)))  # type: ignore[return-value]


def state_option(function: _Function) -> _Function:
    """--state-dir DIR"""
    text = "Where baselines and requests are kept, one file for each root."
    return click.option(
        "--state-dir",
        envvar="KPM_STATE_DIR",
        default=DEFAULT_STATE_DIR,
        metavar="DIR",
        show_default=True,
        help=text,
    )(function)


def telemetry_option(function: _Function) -> _Function:
    """--telemetry-dir DIR"""
    text = "Folder with a folder for each pod's UID, in it dpdk/<file prefix>/dpdk_telemetry.v2."
    return click.option(
        "--telemetry-dir",
        default=DEFAULT_TELEMETRY_DIR,
        metavar="DIR",
        show_default=True,
        help=text,
    )(function)


kubeconfig_option = click.option(
    "--kubeconfig", envvar="KUBECONFIG", help="Where the API server is, outside a pod."
)
log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Least severity that is logged.",
)


def output_option(*formats: str) -> Callable[[_Function], _Function]:
    """-o FORMAT, the first one by default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How to print.",
    )


def planning_options(function: _Function) -> _Function:
    """--node, --label, --pod-resources, --assign-cpus, --cdi, --at,
    --cap-reading, as one argument `asked`.
    """

    @wraps(function)
    def gathered(
        node: str | None, labels: tuple[str, ...], pod_resources: tuple[str, ...], cdi: str,
        assign_cpus: bool, at: str | None, cap_reading: tuple[str, ...], **rest: Any,
    ) -> Any:  # fmt: skip
        asked = PlanOptions(
            node, pod_resources, assign_cpus, at=at, cap_reading=cap_reading, cdi=cdi,
            labels=labels,
        )  # fmt: skip
        return function(asked=asked, **rest)

    options = (
        click.option(
            "--node",
            metavar="NAME",
            help="The node to plan for; by default the only Node given, else this machine's name.",
        ),
        click.option(
            "--label",
            "labels",
            multiple=True,
            metavar="KEY=VALUE",
            help="A label that the node has beside those of its object; may be given repeatedly.",
        ),
        click.option(
            "--pod-resources",
            multiple=True,
            metavar="[NODE=]FILE",
            help="Exclusive CPUs: JSON of the kubelet's PodResources List answer.",
        ),
        click.option(
            "--cdi",
            metavar="FOLDER",
            default="",
            help="CDI files, which name the CPUs of claims that --pod-resources lists without any.",
        ),
        click.option(
            "--assign-cpus",
            is_flag=True,
            help="Let a model of the static CPU manager choose the exclusive CPUs.",
        ),
        click.option(
            "--at",
            metavar="TIME",
            help="Plan for this instant, such as 2026-01-31T08:00:00Z; by default for now.",
        ),
        click.option(
            "--cap-reading",
            multiple=True,
            metavar="NAME=WATTS",
            help="What the external source of a PowerCap is taken to answer.",
        ),
    )
    made: Any = gathered
    for option in reversed(options):
        made = option(made)
    return made  # type: ignore[no-any-return]


html_option = click.option(
    "--html", metavar="FILE", help="Write it as one self-contained page, to attach to a request."
)


def print_structured(content: Any, output: str) -> None:
    """Print a value as JSON or YAML."""
    if output == "json":
        click.echo(json.dumps(content, indent=2 if os.isatty(1) else None))
    else:
        import yaml

        click.echo(
            yaml.dump(
                json.loads(json.dumps(content)),
                sort_keys=False,
                Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
            ),
            nl=False,
        )


def say(text: object, *, err: bool = False) -> None:
    """Print one line; what a terminal would act on is escaped."""
    click.echo(one_line(text, 2000), err=err)


def print_lines(lines: Iterable[object]) -> None:
    """Print messages on standard error, one line each."""
    for line in lines:
        say(line, err=True)
