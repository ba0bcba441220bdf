"""The verbs that touch a machine: diff, apply, restore."""

import errno
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import click
from attrs import define

from kpm.cli.options import (
    files_option,
    output_option,
    planning_options,
    print_lines,
    print_structured,
    say,
    tree_options,
)
from kpm.cli.planning import all_problems, need_files
from kpm.process.memory import Memory, memory_beside
from kpm.request.nodes import (
    AllocationOptions,
    Before,
    TimeOptions,
    node_named,
    read_reported,
    targets_with,
    time_options,
)
from kpm.request.objects import GivenObjects
from kpm.request.options import PlanOptions, TreeOptions
from kpm.request.tree import open_applier
from kpm_applier.attributes import ATTRIBUTES
from kpm_applier.session import Applier, Report
from kpm_applier.state.baseline import cap_in_force
from kpm_applier.state.record import StateError
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.changes import Outcome, Status, Write
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import has_errors
from kpm_planner.ownership_memory import remembered
from kpm_planner.plan import ClusterPlan, NodePlan, plan_cluster
from kpm_planner.report.refusals import remedy

#: The name of a file → the setting of a target that it holds.
_SETTING_OF = {row.file: row.asks for row in ATTRIBUTES}
_BAD = (Status.FAILED, Status.UNSETTLED, Status.OFFLINE)


@define
class _Request:
    """What diff and apply have in common. accepted: containers whose CPU count the last plan found
    right.
    """

    cluster: GivenObjects
    node: str
    allocation: AllocationOptions
    reported: Mapping[str, Allocation]
    tree: TreeOptions
    when: TimeOptions
    accepted: frozenset[tuple[str, str]] = frozenset()

    def open(self, *, writing: bool) -> AbstractContextManager[Applier]:
        return open_applier(self.tree, writing=writing)

    def plan(self, applier: Applier, memory: Memory, *, quiet: bool = False) -> ClusterPlan:
        cap, _ = cap_in_force(applier.shown, applier.state.groups)
        before = Before(cap, memory.versions, memory.now.accepted)
        targets = targets_with(
            self.cluster,
            {self.node: applier.machine},
            self.allocation,
            reported=self.reported,
            when=self.when,
            before=before,
        )
        if not quiet:
            print_lines(f"warning: {text}" for text in targets.warnings)
        self.accepted = remembered(targets.inputs[0].allocation).accepted
        return plan_cluster(self.cluster.intent, targets.inputs, targets.instant)

    def carry_out(self, applier: Applier) -> tuple[ClusterPlan, Report]:
        plans: list[ClusterPlan] = []
        memory = memory_beside(applier.store.path)

        def planned(_: Machine) -> NodePlan:
            plans.append(self.plan(applier, memory, quiet=bool(plans)))
            memory.keep(plans[-1].nodes[0].versions, self.accepted)
            return plans[-1].nodes[0]

        report = applier.bring(planned)[1]
        return plans[-1], report


def _request(filenames: tuple[str, ...], asked: PlanOptions, tree: TreeOptions) -> _Request:
    cluster, allocation = (
        need_files(filenames),
        AllocationOptions(asked.pod_resources, asked.assign_cpus, asked.cdi),
    )
    name = node_named(cluster, asked.node).name
    return _Request(
        cluster,
        name,
        allocation,
        reported=read_reported(allocation, {name: None}),
        tree=tree,
        when=time_options(asked.at, asked.cap_reading),
    )


@click.command()
@files_option
@planning_options
@tree_options
@output_option("table", "json", "yaml")
def diff(filenames: tuple[str, ...], asked: PlanOptions, tree: TreeOptions, output: str) -> None:
    """Show the writes that apply would make, in order, with reasons. Exit 0 for none, 1 for some.

    \b
    kpm diff -f policy.yaml
    """
    request = _request(filenames, asked, tree)
    sys.exit(1 if _preview(request, output)[0] else 0)


def _preview(request: _Request, output: str) -> tuple[Sequence[Write], bool]:
    """Show the writes; returns them, and whether an object has errors."""
    try:
        with request.open(writing=False) as applier:
            result = request.plan(applier, memory_beside(applier.store.path))
            writes = applier.preview(result.nodes[0])
    except StateError as failure:
        _refuse(failure)
    if output == "table":
        for write in writes:
            say(_write_line(write))
    else:
        print_structured({"version": 1, "writes": [_write_view(write) for write in writes]}, output)
    problems = all_problems(result)
    print_lines(problems)
    return writes, has_errors(problems)


def _refuse(failure: StateError) -> Any:
    say(f"kpm: {failure}", err=True)
    sys.exit(1)


def _write_line(write: Write) -> str:
    return (
        f"{write.path}: {write.old if write.old is not None else '?'} -> {write.value} "
        f" ({_why(write)})"
    )


def _why(write: Write) -> str:
    """The reasons of one file out of those of its whole group."""
    setting = _SETTING_OF.get(write.path.rpartition("/")[2], "")
    own = [line for line in write.because if line.setting in ("", setting)]
    foreign = ["changed by somebody else"] if write.reason == "drift" else []
    return "; ".join([*foreign, *own])


def _write_view(write: Write) -> dict[str, Any]:
    return {
        "path": write.path,
        "old": write.old,
        "value": write.value,
        "group": write.group,
        "reason": write.reason,
        "because": list(write.because),
    }


@click.command()
@files_option
@planning_options
@tree_options
@click.option(
    "--dry-run", is_flag=True, help="Only show the writes, as diff does; nothing is written."
)
@output_option("table", "json", "yaml")
def apply(
    filenames: tuple[str, ...], asked: PlanOptions, tree: TreeOptions, dry_run: bool, output: str
) -> None:
    """Write the plan to the machine, read back until it has settled, and report.

    Exit 0 settled (what the kernel rounds or somebody else limits is reported, not an error); 1 a
    write failed, a value does not settle, or an object has errors.

    \b
    kpm apply -f policy.yaml --dry-run
    kpm apply -f policy.yaml
    """
    request = _request(filenames, asked, tree)
    if dry_run:
        sys.exit(1 if _preview(request, output)[1] else 0)
    try:
        with request.open(writing=True) as applier:
            result, report = request.carry_out(applier)
    except StateError as failure:
        _refuse(failure)
    _print_report(report, output)
    problems = all_problems(result)
    print_lines(problems)
    sys.exit(0 if report.settled and not has_errors(problems) else 1)


@click.command()
@tree_options
@output_option("table", "json", "yaml")
def restore(tree: TreeOptions, output: str) -> None:
    """Put every owned group back to its baseline: what was there before the first write. Exit 1
    where something could not be.

    \b
    kpm restore
    """
    try:
        with open_applier(tree) as applier:
            report = applier.restore()
            memory_beside(applier.store.path).forget()
    except StateError as failure:
        _refuse(failure)
    _print_report(report, output)
    sys.exit(0 if report.settled else 1)


def _print_report(report: Report, output: str) -> None:
    if output != "table":
        view = {
            "version": 1,
            "settled": report.settled,
            "writes": [_write_view(item) for item in report.writes],
            "outcomes": _outcome_views(report.outcomes),
        }
        print_structured({**view, "released": list(report.released)}, output)
        return
    for outcome in report.outcomes:
        say(_outcome_line(outcome), err=outcome.status in _BAD)
    released = f", {len(report.released)} groups back at baseline" if report.released else ""
    say(
        f"{len(report.writes)} files written{released},"
        f" {'settled' if report.settled else 'NOT settled'}"
    )


def _outcome_views(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    return [
        {
            "path": item.path,
            "status": item.status,
            "wanted": item.wanted,
            "shows": item.shows,
            "errno": errno.errorcode.get(item.errno or 0),
        }
        for item in outcomes
    ]


def _outcome_line(outcome: Outcome) -> str:
    shows = outcome.shows if outcome.shows is not None else "nothing readable"
    match outcome.status:
        case Status.LIMITED:
            return (
                f"{outcome.path}: {outcome.wanted} requested, {shows} shown: rounded by the kernel"
                " or limited by another party"
            )
        case Status.DRIFTED:
            return f"{outcome.path}: {outcome.wanted} wanted, somebody else wrote {shows}"
        case Status.OFFLINE:
            return f"{outcome.path}: its CPUs are offline; run again when they are back"
        case Status.UNSETTLED:
            return f"{outcome.path}: {outcome.wanted} requested, {shows} shown and still changing"
        case _:
            why = remedy(outcome.group.partition(":")[0], outcome.errno or errno.EIO)
            return f"{outcome.path}: writing {outcome.wanted} failed with {why}; shows {shows}"
