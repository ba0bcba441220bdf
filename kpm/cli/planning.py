"""The verbs that only plan: validate, plan, explain."""

import sys
from collections.abc import Mapping
from itertools import islice

import click

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
from kpm.formats.views import left_out_view, plan_view, problem_view
from kpm.process.errors import InputError
from kpm.request.inputs import Recipe, make_recipe
from kpm.request.objects import GivenObjects, read_cluster
from kpm.request.options import PlanOptions, TreeOptions
from kpm.request.tree import make_host
from kpm_applier.discovery.clamps import Clamp, clamps_of
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Problem, has_errors
from kpm_planner.model.target import frequency_range
from kpm_planner.model.why import Why
from kpm_planner.plan import ClusterPlan, NodePlan
from kpm_planner.report.explain import (
    cpus_of_pod,
    describe_node,
    explain_cap,
    explain_cpu,
    explain_pod,
    explain_profile,
    explain_uncore,
)

machine_option = click.option(
    "--machine",
    "machines",
    multiple=True,
    metavar="[NODE=]FILE",
    help="Machine from `discover -o json` or a description, instead of --sysfs.",
)


def need_files(filenames: tuple[str, ...]) -> GivenObjects:
    """The objects of -f; what was ignored is said on standard error. Errors: InputError."""
    if not filenames:
        raise InputError("-f: is missing; give a file, a folder or - with objects")
    cluster = read_cluster(filenames)
    print_lines(f"warning: {text}" for text in cluster.warnings)
    return cluster


@click.command()
@files_option
@output_option("table", "json", "yaml")
def validate(filenames: tuple[str, ...], output: str) -> None:
    """Check every object, pod and template of pods against its schema and rules; no machine is
    needed. All faults of all files are told in one run, and which objects are not about a Node
    among them. Exit 0 none, 1 errors, 2 a file cannot be
    read.

    \b
    kpm validate -f policy.yaml -f more/
    kpm validate -f deployment.yaml -f profiles.yaml     can its pods have what they ask for?
    """
    from kpm.request.checking import check_files

    if not filenames:
        raise InputError("-f: is missing; give a file, a folder or - with objects")
    found = check_files(filenames)
    print_lines(f"warning: {text}" for text in found.warnings)
    if output == "table":
        for fault in found.faults:
            say(fault, err=bool(fault.refusal))
        print_left_out(found.left_out)
        say(f"{found.objects} objects, {found.errors} errors, {len(found.faults)} problems")
    else:
        views = [
            {
                "file": item.file,
                "document": item.document,
                "line": item.line,
                **problem_view(item.problem),
            }
            for item in found.faults
        ]
        reasons = [
            {"node": node, **item}
            for node, whys in found.left_out.items()
            for item in left_out_view(whys)
        ]
        print_structured({"version": 1, "problems": views, "notInForce": reasons}, output)
    sys.exit(2 if found.unreadable else 1 if found.errors else 0)


@click.command()
@files_option
@planning_options
@tree_options
@machine_option
@html_option
@output_option("table", "json", "yaml")
def plan(
    filenames: tuple[str, ...],
    asked: PlanOptions,
    tree: TreeOptions,
    machines: tuple[str, ...],
    html: str | None,
    output: str,
) -> None:
    """Show what every CPU would be asked to do, and why. Nothing is written. Exit 1 where an
    object has errors.

    \b
    kpm plan -f policy.yaml
    kpm plan -f cluster.yaml --machine a=a.json --machine b=b.json -o json
    """
    recipe = make_recipe(need_files(filenames), asked, tree, machines)
    result = recipe.plan()
    if html is not None:
        from kpm.cli.pages import page_of_plan, write_page

        page = page_of_plan(result, recipe.targets.inputs, ", ".join(filenames))
        write_page(html, page)
    print_plan(result, output, recipe.left_out())
    finish(recipe, result)


def print_plan(
    result: ClusterPlan, output: str, left_out: Mapping[str, tuple[Why, ...]] | None = None
) -> None:
    """Print a plan in one of the formats. left_out: node → why objects are not about it."""
    if output != "table":
        print_structured(plan_view(result, left_out), output)
        return
    from kpm.cli.tables import cell, console
    from kpm.cli.tables import plan_table as table_of

    out = console()
    for item in result.nodes:
        out.print(cell(item.node, "bold"))
        out.print(table_of(item))
        for target in item.uncore:
            values = frequency_range(target.min_khz, target.max_khz) or "baseline"
            out.print(cell(f"uncore {target.entry.name}: {values}"))
        for line in describe_node(item):
            out.print(cell(line))
        if item.extended_resources:
            out.print(
                cell(
                    "extended resources: "
                    + ", ".join(
                        f"{name}={amount}" for name, amount in item.extended_resources.items()
                    )
                )
            )
    print_left_out(left_out or {})
    _print_problems(all_problems(result))


def print_left_out(left_out: Mapping[str, tuple[Why, ...]]) -> None:
    """A line for each object that is not about a node, those of several nodes together."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for node, reasons in left_out.items():
        for why in reasons:
            nodes.setdefault((why.object, str(why)), []).append(node)
    for (obj, text), names in islice(nodes.items(), _MOST_LEFT_OUT):
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        say(f"{obj} is not in force on {', '.join(names[:_MOST_NAMES])}{more}: {text}")
    if len(nodes) > _MOST_LEFT_OUT:
        say(f"{len(nodes) - _MOST_LEFT_OUT} more objects are not in force; -o json has them all")


def all_problems(result: ClusterPlan) -> tuple[Problem, ...]:
    """The problems of a plan and of all its nodes, each once."""
    return tuple(
        dict.fromkeys(
            [*result.problems, *(problem for item in result.nodes for problem in item.problems)]
        )
    )


def finish(recipe: Recipe, result: ClusterPlan) -> None:
    """Print what was left out and end with the status of the plan."""
    print_lines(f"warning: {text}" for text in recipe.warnings)
    sys.exit(1 if has_errors(all_problems(result)) else 0)


def _print_problems(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        say(str(problem))


@click.command()
@files_option
@planning_options
@tree_options
@machine_option
@output_option("table", "json", "yaml")
@click.argument("what", type=click.Choice(["cpu", "profile", "pod", "cap", "uncore"]))
@click.argument("name")
def explain(
    filenames: tuple[str, ...],
    asked: PlanOptions,
    tree: TreeOptions,
    machines: tuple[str, ...],
    output: str,
    what: str,
    name: str,
) -> None:
    """Say why a CPU, a profile, a pod, a package's power cap or an uncore entry has what it has.

    \b
    kpm explain -f policy.yaml cpu 3
    kpm explain -f policy.yaml profile performance
    kpm explain -f policy.yaml --assign-cpus pod default/web
    kpm explain -f policy.yaml --at 2026-01-31T08:00:00Z cap package-0
    """
    recipe = make_recipe(need_files(filenames), asked, tree, machines)
    _must_know(recipe, what, name)
    result = recipe.plan()
    told: dict[str, tuple[str, ...]] = {}
    for item, given in zip(result.nodes, recipe.targets.inputs, strict=True):
        told[item.node] = explained(item, given.machine, what, name)
        if not told[item.node]:
            raise InputError(f"{what}: expected {expected_names(item, what)}, got {name!r}")
    held_back = {} if machines else _held_back(recipe, result, tree, what, name)
    left_out = {
        node: tuple(why for why in reasons if why.object.partition("/")[0] in _SAYS[what])
        for node, reasons in recipe.left_out().items()
    }
    if output == "table":
        for node, lines in told.items():
            for line in (*lines, *(f"  not ours: {item}" for item in held_back.get(node, ()))):
                say(line)
        print_left_out(left_out)
    else:
        nodes = [
            {
                "node": node,
                "lines": list(lines),
                "notInForce": left_out_view(left_out.get(node, ())),
                "limits": [
                    {"file": clamp.file, "reason": clamp.text} for clamp in held_back.get(node, ())
                ],
            }
            for node, lines in told.items()
        ]
        print_structured({"version": 1, "what": what, "name": name, "nodes": nodes}, output)
    print_lines(f"warning: {text}" for text in recipe.warnings)


def _held_back(
    recipe: Recipe, result: ClusterPlan, tree: TreeOptions, what: str, name: str
) -> Mapping[str, tuple[Clamp, ...]]:
    """Node → what holds a CPU, or the CPUs of a pod, back that is none of ours; of the tree alone,
    since a recorded machine says nothing of heat.
    """
    if what not in ("cpu", "pod"):
        return {}
    host = make_host(tree)
    return {
        item.node: clamps_of(
            host,
            given.machine,
            [int(name)] if what == "cpu" else cpus_of_pod(item, *_namespaced(name)),
            {cap.zone.name for cap in item.caps if any(limit is not None for limit in cap.limits)},
        )
        for item, given in zip(result.nodes, recipe.targets.inputs, strict=True)
    }


def _namespaced(name: str) -> tuple[str, str]:
    """Namespace and name of a pod; that of no namespace is in "default"."""
    namespace, mark, pod = name.rpartition("/")
    return (namespace, pod) if mark else ("default", pod)


def _must_know(recipe: Recipe, what: str, name: str) -> None:
    """Errors: InputError for a profile or pod that is nowhere, with names near it."""
    if what == "profile":
        known = {item.meta.name for item in recipe.cluster.intent.profiles}
    elif what == "pod":
        name = "/".join(_namespaced(name))
        known = {f"{item.meta.namespace or 'default'}/{item.meta.name}" for item in recipe.pods}
    else:
        return
    if name not in known:
        from difflib import get_close_matches

        near = get_close_matches(name, known, 3) or sorted(known)[:_MOST_NAMES]
        there = f"such as {', '.join(near)}" if near else "and there is none"
        raise InputError(f"{what}: expected one of the objects given, {there}, got {name!r}")


#: Lines of what is not in force, and names of nodes in one.
_MOST_LEFT_OUT, _MOST_NAMES = 20, 3
#: What is asked about → the kinds of objects that could say something of it.
_SAYS = {
    "cpu": {"PowerWorkload", "PowerNodeConfig"},
    "pod": {"PowerProfile", "PowerWorkload", "PowerNodeConfig"},
    "profile": {"PowerProfile"},
    "cap": {"PowerCap"},
    "uncore": {"Uncore"},
}


def expected_names(item: NodePlan, what: str) -> str:
    """What may be asked about."""
    if what == "cpu":
        cpus = [cpu for group in item.groups for cpu in group.cpus]
        return f"a CPU of node {item.node}, {min(cpus)} to {max(cpus)}"
    names = (
        [target.zone.name for target in item.caps]
        if what == "cap"
        else [target.entry.name for target in item.uncore]
    )
    names += (
        [f"fabric-{target.fabric.package}" for target in item.fabrics] if what == "uncore" else []
    )
    return f"one of node {item.node}, {', '.join(names) or 'which has none'}"


def explained(item: NodePlan, machine: Machine, what: str, name: str) -> tuple[str, ...]:
    if what == "cpu":
        if not (name.isascii() and name.isdigit() and len(name) < 6):
            return ()
        cpu = machine.by_id.get(int(name))
        return explain_cpu(item, int(name), frozenset(cpu.siblings if cpu is not None else ()))
    if what == "profile":
        return explain_profile(item, name)
    if what == "cap":
        return explain_cap(item, name)
    if what == "uncore":
        return explain_uncore(item, name)
    cores = tuple({frozenset(cpu.siblings) for cpu in machine.cpus if len(cpu.siblings) > 1})
    return explain_pod(item, *_namespaced(name), cores)
