"""Scenario files: nodes, objects, timed steps, expectations (docs/user/simulate.md)."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import evolve, frozen

from kpm.formats.documents import Document, parse_mapping, read_documents, read_file
from kpm.formats.wire import WireError, structure_plain
from kpm.process.errors import InputError, one_line
from kpm.request.machines import described_machine, read_machine
from kpm.request.readings import instant_of
from kpm_applier.discovery.discover import HostError, discover
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.machine import Machine

_MOST_NODES = 10_000


@frozen
class ForeignWrite:
    """A sysfs file that somebody else writes: path below the root, text."""

    node: str
    path: str
    value: int | str | None = None


@frozen
class ForeignLimit:
    """A limit from thermal or firmware on a frequency domain; without maxMHz it is lifted."""

    node: str
    domain: int
    max_mhz: int | None = None


@frozen
class Step:
    """What happens at one moment, in the order of the fields, and what must hold after it. at:
    seconds.

    readings: what external sources of PowerCaps answer, W; power: what each package of a node
    takes, W; load: from now on, pod → per cent of the CPUs that it owns, or of its request.
    """

    name: str = ""
    at: int | None = None
    apply: tuple[Mapping[str, object], ...] = ()
    files: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    start: tuple[Mapping[str, object], ...] = ()
    stop: tuple[str, ...] = ()
    offline: Mapping[str, str] | None = None
    online: Mapping[str, str] | None = None
    boost: Mapping[str, bool] | None = None
    write: tuple[ForeignWrite, ...] = ()
    limit: tuple[ForeignLimit, ...] = ()
    crash: Mapping[str, object] | None = None
    kill: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    readings: Mapping[str, object] | None = None
    power: Mapping[str, tuple[int, ...]] | None = None
    load: Mapping[str, int] | None = None
    resync: bool = False
    expect: Mapping[str, object] | None = None


@frozen
class NodeSpec:
    """A node, or `count` like it, named name-0, name-1 and so on. reserved: the kubelet's
    reservedSystemCPUs.
    """

    name: str
    machine: Mapping[str, object]
    labels: Mapping[str, str] | None = None
    count: int | None = None
    reserved: str | None = None


@frozen
class ScenarioSpec:
    """A scenario file. start: the time on the clock at second 0; left out, 2026 begins."""

    version: int
    nodes: tuple[NodeSpec, ...]
    title: str = ""
    description: str = ""
    objects: tuple[Mapping[str, object], ...] = ()
    files: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    start: str | None = None


@frozen
class SimulatedNode:
    """A node of a scenario with its machine; equal machines are one value."""

    name: str
    labels: Mapping[str, str]
    machine: Machine
    reserved: frozenset[int] | None = None


@frozen
class Scenario:
    """A scenario ready to run. source: where it came from, for messages."""

    spec: ScenarioSpec
    nodes: tuple[SimulatedNode, ...]
    objects: tuple[Document, ...]
    source: str
    start: datetime = datetime(2026, 1, 1, tzinfo=UTC)


def read_scenario(path: str) -> Scenario:
    """A scenario from a file; paths in it are relative to it. Errors: InputError."""
    content = parse_mapping(read_file(path), path)
    try:
        spec = structure_plain(content, ScenarioSpec, path)
    except WireError as failure:
        raise InputError(one_line(failure)) from None
    if spec.version != 1:
        raise InputError(f"{path}.version: expected 1, got {spec.version}")
    folder = "" if path == "-" else os.path.dirname(path)
    objects = [*_documents(spec.objects, f"{path}: objects"), *_files(spec.files, folder)]
    steps = tuple(
        _with_files(evolve(step, expect=raw.get("expect")), folder)
        for step, raw in zip(spec.steps, content.get("steps") or (), strict=True)
    )
    made = Scenario(evolve(spec, steps=steps), _nodes(spec, path, folder), tuple(objects), path)
    return (
        made if spec.start is None else evolve(made, start=instant_of(spec.start, f"{path}.start"))
    )


def _documents(items: tuple[Mapping[str, object], ...], source: str) -> list[Document]:
    return [Document(item, f"{source}[{index}]") for index, item in enumerate(items)]


def _files(names: tuple[str, ...], folder: str) -> list[Document]:
    return read_documents([os.path.join(folder, name) for name in names]) if names else []


def _with_files(step: Step, folder: str) -> Step:
    loaded = tuple(document.content for document in _files(step.files, folder))
    return evolve(step, apply=(*step.apply, *loaded), files=())


def _nodes(spec: ScenarioSpec, source: str, folder: str) -> tuple[SimulatedNode, ...]:
    found: dict[str, SimulatedNode] = {}
    for index, item in enumerate(spec.nodes):
        place = f"{source}.nodes[{index}]"
        machine = _machine(item.machine, f"{place}.machine", folder)
        count = 1 if item.count is None else item.count
        if not 1 <= count <= _MOST_NODES:
            raise InputError(f"{place}.count: expected 1 to {_MOST_NODES}, got {count}")
        names = (
            [item.name]
            if item.count is None
            else [f"{item.name}-{number}" for number in range(count)]
        )
        reserved = None if item.reserved is None else cpus_of(item.reserved, f"{place}.reserved")
        for name in names:
            if name in found:
                raise InputError(f"{place}.name: {name!r} stands twice; each name is allowed once")
            found[name] = SimulatedNode(
                name, {"kubernetes.io/hostname": name, **(item.labels or {})}, machine, reserved
            )
    if not found:
        raise InputError(f"{source}.nodes: is empty; a scenario has at least one node")
    return tuple(found.values())


def cpus_of(text: str, place: str) -> frozenset[int]:
    """The CPUs of a list in a scenario. Errors: InputError."""
    try:
        return parse_cpulist(text)
    except ValueError:
        raise InputError(
            f"{place}: expected a CPU list such as 3,8-9, got {one_line(text, 60)!r}"
        ) from None


def _machine(content: Mapping[str, Any], place: str, folder: str) -> Machine:
    """A machine of a scenario: {sysfs: FOLDER}, {file: FILE}, or a description."""
    for key in ("sysfs", "file"):
        path = content.get(key)
        if path is not None and (not isinstance(path, str) or len(content) > 1):
            raise InputError(
                f"{place}.{key}: expected a path, and nothing beside it, got"
                f" {one_line(repr(path), 60)}"
            )
        if path is not None:
            return (
                _tree(os.path.join(folder, path), place)
                if key == "sysfs"
                else read_machine(os.path.join(folder, path))
            )
    return described_machine(content, place)


def _tree(path: str, place: str) -> Machine:
    try:
        return discover(SysfsHost(path)).machine
    except (HostError, OSError) as failure:
        raise InputError(f"{place}.sysfs: {one_line(failure)}") from None
