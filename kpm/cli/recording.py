"""The verbs that record the inputs of a plan and plan from them again."""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from kpm.cli.options import allocation_options, files_option, output_option, print_lines, say, state_option, sysfs_option
from kpm.cli.planning import finish, machine_option, need_files, print_plan
from kpm.documents import parse_mapping, read_documents, read_file
from kpm.errors import InputError
from kpm.inputs import cluster_of
from kpm.recipe import Recipe, make_recipe
from kpm.targets import Targets
from kpm.views import VERSION, allocation_of, allocation_view, machine_of, machine_view, plan_view
from kpm.wire import WireError, structure_meta
from kpm_planner.intent import Node
from kpm_planner.plan import NodeInput


@click.command()
@click.argument("folder", metavar="DIR")
@files_option
@allocation_options
@sysfs_option
@machine_option
@state_option
def snapshot(
    folder: str, filenames: tuple[str, ...], node: str | None, pod_resources: tuple[str, ...], assign_cpus: bool, sysfs: str, machines: tuple[str, ...], state_dir: str
) -> None:
    """Record all inputs of a plan, and the plan, in the folder DIR.

    \b
    kpm snapshot ./case -f policy.yaml --pod-resources pods.json
    """
    recipe = make_recipe(need_files(filenames), node, pod_resources, assign_cpus, sysfs, machines, state_dir)
    items = recipe.targets.inputs
    contents: dict[str, Any] = {
        "snapshot.json": {"version": VERSION, "nodes": [{"name": item.node.name, "labels": dict(item.node.labels)} for item in items]},
        "objects.json": {"apiVersion": "v1", "kind": "List", "items": list(recipe.cluster.documents)},
        "plan.json": plan_view(recipe.plan()),
    }
    for index, item in enumerate(items):
        contents[f"machine-{index}.json"] = machine_view(item.machine)
        contents[f"allocation-{index}.json"] = allocation_view(item.allocation)
    _write_folder(folder, contents)
    print_lines(f"warning: {text}" for text in recipe.warnings)
    say(f"{len(contents)} files in {folder}")


def _write_folder(folder: str, contents: Mapping[str, Any]) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        for name, content in contents.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.write("\n")
    except OSError as failure:
        raise InputError(f"{folder}: cannot write: {failure.strerror}") from None


@click.command()
@click.argument("folder", metavar="DIR")
@output_option("table", "json", "yaml")
def replay(folder: str, output: str) -> None:
    """Plan again from a recorded folder. Exit 1 where the plan differs from the recorded one, or an object has errors.

    \b
    kpm replay ./case -o json
    """
    recipe = _read_folder(folder)
    result = recipe.plan()
    print_plan(result, output)
    recorded = _read(folder, "plan.json")
    if json.loads(json.dumps(plan_view(result))) != recorded:
        say(f"kpm: the plan differs from {os.path.join(folder, 'plan.json')}", err=True)
        sys.exit(1)
    finish(recipe, result)


def _read(folder: str, name: str) -> Mapping[str, Any]:
    path = os.path.join(folder, name)
    return parse_mapping(read_file(path), path)


def _node_of(item: Any, place: str) -> Node:
    try:
        meta = structure_meta({"metadata": item})
    except WireError as failure:
        raise InputError(f"{place}: {failure}") from None
    return Node(meta.name, meta.labels)


def _read_folder(folder: str) -> Recipe:
    head = _read(folder, "snapshot.json")
    if head.get("version") != VERSION or not isinstance(head.get("nodes"), list):
        raise InputError(f"{folder}/snapshot.json: version: {head.get('version')!r} is not allowed: {VERSION}, with a list of nodes")
    cluster = cluster_of(read_documents([os.path.join(folder, "objects.json")]))
    inputs = []
    for index, item in enumerate(head["nodes"]):
        machine = machine_of(_read(folder, f"machine-{index}.json"), f"{folder}/machine-{index}.json")
        allocation = allocation_of(_read(folder, f"allocation-{index}.json"), cluster.pods, f"{folder}/allocation-{index}.json")
        inputs.append(NodeInput(_node_of(item, f"{folder}/snapshot.json.nodes[{index}]"), machine, allocation))
    return Recipe(cluster, Targets(tuple(inputs)))
