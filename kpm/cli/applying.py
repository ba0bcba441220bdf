"""The verbs that touch a machine: diff, apply, restore."""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import click
from attrs import define

from kpm.cli.changes import closing, reasons_of, rows
from kpm.cli.options import (
    files_option,
    html_option,
    output_option,
    planning_options,
    print_lines,
    print_structured,
    say,
    tree_options,
)
from kpm.cli.planning import all_problems, need_files
from kpm.cli.progress import progress
from kpm.formats.views import problem_view
from kpm.process.errors import one_line
from kpm.process.memory import Memory, memory_beside
from kpm.request.nodes import (
    AllocationOptions,
    Before,
    TimeOptions,
    labelled,
    node_named,
    read_reported,
    targets_with,
    time_options,
)
from kpm.request.objects import GivenObjects
from kpm.request.options import PlanOptions, TreeOptions
from kpm.request.tree import open_applier, told
from kpm_applier.session import OPEN, Applier, Report
from kpm_applier.state.baseline import cap_in_force
from kpm_applier.state.record import StateError
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.changes import Outcome, Status, Write
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Problem, Severity, has_errors
from kpm_planner.ownership_memory import remembered
from kpm_planner.plan import ClusterPlan, NodePlan, plan_cluster
from kpm_planner.report.refusals import remedy

#: Exit statuses (docs/user/cli.md).
SAME, DONE, DIFFERS, FAILED, UNJUDGED = 0, 0, 1, 1, 2


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

    def carry_out(
        self, applier: Applier, expect: Callable[[Callable[[], int]], None]
    ) -> tuple[ClusterPlan, Report]:
        """Plan and write. expect: takes how many files the plan changes."""
        plans: list[ClusterPlan] = []
        memory = memory_beside(applier.store.path)

        def planned(_: Machine) -> NodePlan:
            plans.append(self.plan(applier, memory, quiet=bool(plans)))
            node = plans[-1].nodes[0]
            memory.keep(node.versions, self.accepted)
            expect(lambda: len(applier.preview(node)))
            return node

        report = applier.bring(planned)[1]
        return plans[-1], report


def _request(filenames: tuple[str, ...], asked: PlanOptions, tree: TreeOptions) -> _Request:
    cluster, allocation = (
        need_files(filenames),
        AllocationOptions(asked.pod_resources, asked.assign_cpus, asked.cdi),
    )
    name = node_named(cluster, asked.node).name
    cluster = labelled(cluster, (name,), asked.labels)
    return _Request(
        cluster,
        name,
        allocation,
        reported=read_reported(allocation, {name: None}),
        tree=tree,
        when=time_options(asked.at, asked.cap_reading),
    )


files_each_option = click.option(
    "--files", "each", is_flag=True, help="Show every single file, not CPUs that change alike."
)


@click.command()
@files_option
@planning_options
@tree_options
@files_each_option
@html_option
@output_option("table", "json", "yaml")
def diff(
    filenames: tuple[str, ...], asked: PlanOptions, tree: TreeOptions, each: bool,
    html: str | None, output: str,
) -> None:  # fmt: skip
    """Show what apply would change, CPUs that change alike in one line, with who asks for it.
    Exit 0 nothing, 1 something, 2 it could not be judged: an object has errors, or the state is
    unreadable.

    \b
    kpm diff -f policy.yaml
    kpm diff -f policy.yaml --files     every file, in the order of writing
    """
    sys.exit(_preview(_request(filenames, asked, tree), output, each=each, html=html))


def _preview(request: _Request, output: str, *, each: bool, html: str | None = None) -> int:
    """Show what would be written; the exit status that says it."""
    try:
        with request.open(writing=False) as applier:
            result = request.plan(applier, memory_beside(applier.store.path))
            writes = applier.preview(result.nodes[0])
            machine, shown = applier.machine, applier.shown
    except StateError as failure:
        _refuse(failure)
    problems = all_problems(result)
    if html is not None:
        from kpm.cli.pages import page_of_diff, write_page

        write_page(html, page_of_diff(result.nodes[0], (shown, machine), writes, problems))
    if output != "table":
        views = [_write_view(write) for write in writes]
        view = {"version": 1, "writes": views, "problems": [problem_view(it) for it in problems]}
        print_structured(view, output)
    else:
        _print_changes(writes, machine, problems, each=each)
    print_lines(problems)
    return UNJUDGED if has_errors(problems) else DIFFERS if writes else SAME


def _print_changes(
    writes: Sequence[Write], machine: Machine, problems: Sequence[Problem], *, each: bool
) -> None:
    """The single files, or lines of what changes alike, and how many."""
    from kpm.cli.tables import cell, console

    if each:
        for write in writes:
            say(_write_line(write))
        return
    out = console()
    for row in rows(writes, machine):
        out.print(cell(row, row.sign.style), soft_wrap=True)
    say(closing(writes, sum(item.severity is Severity.ERROR for item in problems)))


def _refuse(failure: StateError) -> Any:
    say(f"kpm: {told(failure)}", err=True)
    sys.exit(UNJUDGED)


def _write_line(write: Write) -> str:
    return (
        f"{write.path}: {write.old if write.old is not None else '?'} -> {write.value} "
        f" ({'; '.join(reasons_of(write))})"
    )


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
    "--dry-run", is_flag=True, help="Only show what would change, as diff does; write nothing."
)
@click.option("--yes", is_flag=True, help="Do not ask before writing, on a terminal.")
@files_each_option
@output_option("table", "json", "yaml")
def apply(
    filenames: tuple[str, ...], asked: PlanOptions, tree: TreeOptions, dry_run: bool, yes: bool,
    each: bool, output: str,
) -> None:  # fmt: skip
    """Write the plan to the machine, read back until it has settled, and report. On a terminal what
    would change is shown and asked for first.

    Exit 0 done (what the kernel rounds or somebody else limits is reported, not an error); 1 a
    write failed, a value does not settle, or an object has errors; 2 it could not be judged. With
    --dry-run as diff.

    \b
    kpm apply -f policy.yaml --dry-run
    kpm apply -f policy.yaml
    """
    request = _request(filenames, asked, tree)
    if dry_run:
        sys.exit(_preview(request, output, each=each))
    asks = not yes and output == "table" and sys.stdin.isatty() and sys.stdout.isatty()
    if asks and "-" not in filenames:
        status = _preview(request, output, each=each)
        if status != SAME and not click.confirm("Write this?"):
            say("nothing was written")
            sys.exit(FAILED)
    try:
        with request.open(writing=True) as applier, progress(applier) as expect:
            result, report = request.carry_out(applier, expect)
    except StateError as failure:
        _refuse(failure)
    _print_report(report, output)
    problems = all_problems(result)
    print_lines(problems)
    sys.exit(DONE if report.settled and not has_errors(problems) else FAILED)


@click.command()
@tree_options
@output_option("table", "json", "yaml")
def restore(tree: TreeOptions, output: str) -> None:
    """Put every owned group back to its baseline: what was there before the first write.
    Exit 0 done, 1 something could not be put back, 2 there is no record or it cannot be read.

    \b
    kpm restore
    """
    try:
        with open_applier(tree) as applier:
            if not os.path.exists(applier.store.path):
                where = one_line(os.path.dirname(applier.store.path))
                say(f"kpm: no record for this tree in {where}", err=True)
                sys.exit(UNJUDGED)
            with progress(applier):
                report = applier.restore()
            memory_beside(applier.store.path).forget()
    except StateError as failure:
        _refuse(failure)
    _print_report(report, output)
    sys.exit(DONE if report.settled else FAILED)


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
        say(_outcome_line(outcome), err=outcome.status in OPEN)
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
