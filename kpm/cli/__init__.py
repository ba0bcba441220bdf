"""The command line: one module a group of verbs, imported when the verb is used."""

import os
import sys
from collections.abc import Mapping
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
    "top": ("top", "Watch what this machine's CPUs do: frequencies, idle states, watts."),
    "doctor": ("doctor", "Find what keeps power management from working here, and what mends it."),
    "leave": ("cluster", "Delete the PowerConfigs and wait until the nodes are as they were."),
    "helper": ("shells", "Write sysfs for an agent without privilege; its pod runs it."),
    "scaler": ("shells", "Set frequencies by the telemetry of DPDK pods; the agent runs it."),
    "powercap": ("powercap", "Cap this node's power by the earlier capping tool's environment."),
    "crds": ("resources", "Print the custom resource definitions."),
    "completion": ("shell", "Print the completion script of a shell."),
}


#: Of `kubectl power`, which is about a running cluster.
_POWER = {
    "status": ("status", "Say how the cluster, or one node of it, is. Exit 0 all is well."),
    "plan": ("cluster_plan", "Show what objects would change on the nodes, before kubectl apply."),
    "explain": ("cluster_explain", "Say why a CPU or a pod of a node has what it has."),
    "top": ("cluster_top", "Watch what the CPUs of a node do, and which pods take the watts."),
    "ui": ("ui", "Serve a page about the cluster on 127.0.0.1, with your rights."),
    "doctor": ("cluster_doctor", "Find what is wrong with the cluster, and what mends it."),
}


class _Lazy(click.Group):
    """Loads a verb's module when it is needed, so that start-up stays light.

    verbs: name → (module of this package, what the verb does). program: how errors name it.
    """

    def __init__(
        self, *words: Any, verbs: Mapping[str, tuple[str, str]], program: str, **more: Any
    ) -> None:
        super().__init__(*words, **more)
        self.verbs, self.program = verbs, program

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in self.verbs:
            return None
        module = import_module(f"kpm.cli.{self.verbs[cmd_name][0]}")
        command = getattr(module, cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A verb that is none is told which one may be meant."""
        if args and args[0] not in self.verbs and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.verbs, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without loading them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.verbs.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; bad input ends it with one line and status 2."""
        try:
            return super().invoke(ctx)
        except InputError as failure:
            click.echo(f"{self.program}: {one_line(failure, 2000)}", err=True)
            ctx.exit(2)
        except BrokenPipeError:  # the reader has gone, as with head: end as a shell expects
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as failure:
            click.echo(
                f"{self.program}: {one_line(failure.filename or 'standard output')}:"
                f" {failure.strerror}",
                err=True,
            )
            ctx.exit(2)


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command(cls=_Lazy, verbs=_VERBS, program="kpm", context_settings=_CONTEXT)
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


@click.command(cls=_Lazy, verbs=_POWER, program="kubectl power", context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="kubectl power")
def power() -> None:
    """Power of the nodes of a cluster, by what their agents report. Everything here only reads.

    \b
    kubectl power status                         how the cluster is
    kubectl power status node-1                  who holds which CPUs of a node since when
    kubectl power plan -f policy.yaml            what would change, on which nodes, for which pods
    kubectl power explain node-1 cpu 5           why a CPU has what it has
    kubectl power top node-1                     what its CPUs do just now
    kubectl power doctor                         what is wrong, and what mends it
    kubectl power ui                             the same as a page
    """
