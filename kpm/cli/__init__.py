"""The command line: one module a group of verbs, imported when the verb is used."""

import os
import sys
from importlib import import_module
from typing import Any

import click

from kpm import __version__
from kpm.process.errors import InputError, one_line

_VERBS = {
    "init": ("starting", "Write a first policy that fits this machine, with comments."),
    "discover": (
        "machine",
        "Show the machine: CPUs, frequency domains, idle states, uncore, and what is supported.",
    ),
    "validate": ("planning", "Check objects against their schema and rules; needs no machine."),
    "plan": ("planning", "Show what every CPU would be asked to do, and why."),
    "explain": ("planning", "Say why a CPU, a profile or a pod has what it has."),
    "diff": ("applying", "Show what apply would change. Exit 0 nothing, 1 something."),
    "apply": ("applying", "Write the plan to the machine, verify it, report."),
    "restore": ("applying", "Put everything back to what was there before."),
    "snapshot": ("recording", "Record all inputs of a plan in a folder."),
    "replay": ("recording", "Plan again from a recorded folder, on any machine."),
    "simulate": ("simulation", "Run a scenario on simulated machines and show them, CPU by CPU."),
    "energy": (
        "energy",
        "Joules of pods now, of a measured run, of a profile; what a change saved.",
    ),
    "migrate": (
        "migration",
        "From other operators, powercap, TuneD, balloons: our objects, and what changes.",
    ),
    "agent": ("shells", "Run the node agent."),
    "operator": ("shells", "Run the operator."),
    "status": (
        "status",
        "Say how a cluster, a node or this machine is. Exit 0 all is well.",
    ),
    "leave": ("cluster", "Delete the PowerConfigs and wait until the nodes are as they were."),
    "helper": ("shells", "Write sysfs for an agent without privilege; its pod runs it."),
    "scaler": ("shells", "Set frequencies by the telemetry of DPDK pods; the agent runs it."),
    "powercap": ("powercap", "Cap this node's power by the earlier capping tool's environment."),
    "crds": ("resources", "Print the custom resource definitions."),
    "completion": ("shell", "Print the completion script of a shell."),
}


class _Lazy(click.Group):
    """Loads a verb's module when it is needed, so that start-up stays light."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _VERBS:
            return None
        command = getattr(import_module(f"kpm.cli.{_VERBS[cmd_name][0]}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A verb that is none is told which one may be meant."""
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], _VERBS, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; bad input ends it with one line and status 2."""
        try:
            return super().invoke(ctx)
        except InputError as failure:
            click.echo(f"kpm: {one_line(failure, 2000)}", err=True)
            ctx.exit(2)
        except BrokenPipeError:  # the reader has gone, as with head: end as a shell expects
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as failure:
            click.echo(
                f"kpm: {one_line(failure.filename or 'standard output')}: {failure.strerror}",
                err=True,
            )
            ctx.exit(2)


@click.command(
    cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="kpm")
def cli() -> None:
    """Kubernetes power manager: plan, apply, verify and restore CPU power settings.

    \b
    kpm simulate                                watch a simulated cluster being tuned
    kpm discover                                see what this machine can do
    kpm init -o policy.yaml                     write a first policy that fits it
    kpm plan -f policy.yaml                     see what would be done, and why
    kpm apply -f policy.yaml                    do it; kpm restore undoes it
    """
