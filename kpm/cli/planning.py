"""The verbs that only plan: validate, plan, explain."""

import sys

import click

from kpm.cli.options import allocation_options, files_option, output_option, print_lines, print_structured, say, state_option, sysfs_option
from kpm.errors import InputError
from kpm.inputs import Cluster, read_cluster
from kpm.recipe import Recipe, make_recipe
from kpm.views import plan_view, problem_view
from kpm_planner.explain import explain_cpu, explain_pod, explain_profile
from kpm_planner.plan import ClusterPlan, NodePlan
from kpm_planner.problems import Problem, has_errors
from kpm_planner.validate import validate_intent

machine_option = click.option("--machine", "machines", multiple=True, metavar="[NODE=]FILE", help="Machine from `discover -o json` or a description, instead of --sysfs.")


def need_files(filenames: tuple[str, ...]) -> Cluster:
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
    """Check every object against its schema and rules; no machine is needed. Exit 1 where one has errors.

    \b
    kpm validate -f policy.yaml -f more/
    """
    cluster = need_files(filenames)
    problems = validate_intent(cluster.intent)
    if output == "table":
        _print_problems(problems)
        say(f"{len(cluster.documents)} objects, {sum(item.severity == 'error' for item in problems)} errors, {len(problems)} problems")
    else:
        print_structured({"version": 1, "problems": [problem_view(item) for item in problems]}, output)
    sys.exit(1 if has_errors(problems) else 0)


@click.command()
@files_option
@allocation_options
@sysfs_option
@machine_option
@state_option
@output_option("table", "json", "yaml")
def plan(
    filenames: tuple[str, ...], node: str | None, pod_resources: tuple[str, ...], assign_cpus: bool, sysfs: str, machines: tuple[str, ...], state_dir: str, output: str
) -> None:
    """Show what every CPU would be asked to do, and why. Nothing is written. Exit 1 where an object has errors.

    \b
    kpm plan -f policy.yaml
    kpm plan -f cluster.yaml --machine a=a.json --machine b=b.json -o json
    """
    recipe = make_recipe(need_files(filenames), node, pod_resources, assign_cpus, sysfs, machines, state_dir)
    print_plan(recipe.plan(), output)
    finish(recipe, recipe.plan())


def print_plan(result: ClusterPlan, output: str) -> None:
    """Print a plan in one of the formats."""
    if output != "table":
        print_structured(plan_view(result), output)
        return
    from kpm.tables import cell, console
    from kpm.tables import plan_table as table_of

    out = console()
    for item in result.nodes:
        out.print(cell(item.node, "bold"))
        out.print(table_of(item))
        for target in item.uncore:
            values = describe_values_of(target.min_khz, target.max_khz)
            out.print(cell(f"uncore {target.entry.name}: {values}"))
        if item.extended_resources:
            out.print(cell("extended resources: " + ", ".join(f"{name}={amount}" for name, amount in item.extended_resources.items())))
    _print_problems(all_problems(result))


def describe_values_of(low: int | None, high: int | None) -> str:
    """A range in one line, "baseline" where nothing is asked."""
    return "baseline" if low is None and high is None else f"{low}..{high} kHz"


def all_problems(result: ClusterPlan) -> tuple[Problem, ...]:
    """The problems of a plan and of all its nodes, each once."""
    return tuple(dict.fromkeys([*result.problems, *(problem for item in result.nodes for problem in item.problems)]))


def finish(recipe: Recipe, result: ClusterPlan) -> None:
    """Print what was left out and end with the status of the plan."""
    print_lines(f"warning: {text}" for text in recipe.warnings)
    sys.exit(1 if has_errors(all_problems(result)) else 0)


def _print_problems(problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        say(str(problem))


@click.command()
@files_option
@allocation_options
@sysfs_option
@machine_option
@state_option
@click.argument("what", type=click.Choice(["cpu", "profile", "pod"]))
@click.argument("name")
def explain(
    filenames: tuple[str, ...], node: str | None, pod_resources: tuple[str, ...], assign_cpus: bool, sysfs: str, machines: tuple[str, ...], state_dir: str,
    what: str, name: str,
) -> None:  # fmt: skip
    """Say why a CPU, a profile or a pod has what it has.

    \b
    kpm explain -f policy.yaml cpu 3
    kpm explain -f policy.yaml profile performance
    kpm explain -f policy.yaml --assign-cpus pod default/web
    """
    recipe = make_recipe(need_files(filenames), node, pod_resources, assign_cpus, sysfs, machines, state_dir)
    result = recipe.plan()
    for item in result.nodes:
        lines = _explain(item, what, name)
        if not lines:
            raise InputError(f"cpu: {name!r} is not allowed: a CPU of node {item.node}, {min(_cpus(item))} to {max(_cpus(item))}")
        for line in lines:
            say(line)
    print_lines(f"warning: {text}" for text in recipe.warnings)


def _cpus(item: NodePlan) -> list[int]:
    return [cpu for group in item.groups for cpu in group.cpus]


def _explain(item: NodePlan, what: str, name: str) -> tuple[str, ...]:
    if what == "cpu":
        return explain_cpu(item, int(name)) if name.isascii() and name.isdigit() and len(name) < 6 else ()
    if what == "profile":
        return explain_profile(item, name)
    namespace, mark, pod = name.rpartition("/")
    return explain_pod(item, namespace if mark else "default", pod)
