"""The verbs that record the inputs of a plan and plan from them again."""

import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from kpm.cli.options import (
    files_option,
    output_option,
    planning_options,
    print_lines,
    say,
    tree_options,
)
from kpm.cli.planning import finish, machine_option, need_files, print_plan
from kpm.formats.differences import differences
from kpm.formats.documents import parse_mapping, read_documents, read_file
from kpm.formats.views import (
    VERSION,
    allocation_of,
    allocation_view,
    machine_of,
    machine_view,
    plan_view,
    readings_from,
    readings_view,
)
from kpm.formats.wire import WireError, structure_meta
from kpm.process.errors import InputError, show
from kpm.process.memory import versions_from, versions_view
from kpm.request.inputs import Recipe, make_recipe
from kpm.request.nodes import Targets
from kpm.request.objects import cluster_of
from kpm.request.options import PlanOptions, TreeOptions
from kpm.request.readings import instant_of, signals_of
from kpm_planner.model.cluster import Node
from kpm_planner.plan import NodeInput


@click.command()
@click.argument("folder", metavar="DIR")
@files_option
@planning_options
@tree_options
@machine_option
def snapshot(
    folder: str,
    filenames: tuple[str, ...],
    asked: PlanOptions,
    tree: TreeOptions,
    machines: tuple[str, ...],
) -> None:
    """Record all inputs of a plan, and the plan, in the folder DIR.

    \b
    kpm snapshot ./case -f policy.yaml --pod-resources pods.json
    """
    recipe = make_recipe(need_files(filenames), asked, tree, machines)
    items = recipe.targets.inputs
    contents: dict[str, Any] = {
        "snapshot.json": {
            "version": VERSION,
            "instant": recipe.targets.instant.isoformat() if recipe.targets.instant else None,
            "nodes": [
                {
                    "name": item.node.name,
                    "labels": dict(item.node.labels),
                    "capReadings": readings_view(item.signals),
                    **versions_view(item.versions),
                }
                for item in items
            ],
        },
        "objects.json": {
            "apiVersion": "v1",
            "kind": "List",
            "items": list(recipe.cluster.documents),
        },
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
    """Plan again from a recorded folder. Exit 1 where the plan differs from the recorded one, or
    an object has errors.

    \b
    kpm replay ./case -o json
    """
    recipe = read_folder(folder)
    result = recipe.plan()
    print_plan(result, output, recipe.left_out())
    recorded = _read(folder, "plan.json")
    different = tuple(differences(recorded, json.loads(json.dumps(plan_view(result)))))
    if different:
        path = os.path.join(folder, "plan.json")
        say(f"kpm: {path}: the plan differs in {len(different)} places", err=True)
        print_lines(f"  {line}" for line in different[:_MOST_DIFFERENCES])
        if len(different) > _MOST_DIFFERENCES:
            print_lines([f"  and {len(different) - _MOST_DIFFERENCES} more"])
        sys.exit(1)
    finish(recipe, result)


_MOST_DIFFERENCES = 20


def _read(folder: str, name: str) -> Mapping[str, Any]:
    path = os.path.join(folder, name)
    return parse_mapping(read_file(path), path)


def _node_of(item: Any, place: str) -> Node:
    try:
        meta = structure_meta({"metadata": item})
    except WireError as failure:
        raise InputError(f"{place}: {failure}") from None
    return Node(meta.name, meta.labels)


def read_folder(folder: str) -> Recipe:
    """What a folder recorded. Errors: InputError."""
    head = _read(folder, "snapshot.json")
    if head.get("version") != VERSION or not isinstance(head.get("nodes"), list):
        raise InputError(
            f"{folder}/snapshot.json: version: expected {VERSION}, with a list of nodes, got"
            f" {head.get('version')!r}"
        )
    cluster = cluster_of(read_documents([os.path.join(folder, "objects.json")]))
    instant = _instant_of(head.get("instant"), f"{folder}/snapshot.json")
    inputs = []
    for index, item in enumerate(head["nodes"]):
        machine = machine_of(
            _read(folder, f"machine-{index}.json"), f"{folder}/machine-{index}.json"
        )
        allocation = allocation_of(
            _read(folder, f"allocation-{index}.json"),
            cluster.pods,
            f"{folder}/allocation-{index}.json",
        )
        place = f"{folder}/snapshot.json.nodes[{index}]"
        readings = readings_from(item.get("capReadings") if isinstance(item, dict) else None, place)
        versions = versions_from(item, place)
        inputs.append(
            NodeInput(
                _node_of(item, place),
                machine,
                allocation,
                signals_of(cluster.intent.caps, readings),
                versions,
            )
        )
    return Recipe(cluster, Targets(tuple(inputs), instant=instant))


def _instant_of(text: object, place: str) -> datetime | None:
    """The instant of a recording; those of earlier versions have none."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise InputError(
            f"{place}.instant: expected a time such as 2026-01-31T08:00:00Z, got {show(text)}"
        )
    return instant_of(text, f"{place}.instant")
