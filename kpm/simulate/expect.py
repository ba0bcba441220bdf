"""Expectations of a scenario: what a step says must hold, and the differences from what does."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kpm.process.errors import InputError, one_line, show
from kpm.simulate.energy import EnergyView
from kpm.simulate.world import NodeStep, StepView
from kpm_planner.model.cpuset import format_cpulist, parse_cpulist
from kpm_planner.model.quantities import UW
from kpm_planner.model.target import SETTINGS
from kpm_planner.parts import CpuGroup

#: What is expected of a file that nothing is asked of.
BASELINE = "baseline"
_Checks = Mapping[str, Callable[[NodeStep, Any, str], Iterator[str]]]


def differences(view: StepView, expect: Mapping[str, Any], place: str) -> tuple[str, ...]:
    """Lines that say what was expected and is not so; none where all holds.

    Errors: InputError for an unknown key.
    """
    known = {node.name: node for node in view.nodes}
    found: list[str] = []
    for key, value in expect.items():
        if key == "pending":
            if sorted(view.pending) != sorted(value):
                found.append(
                    f"pending: expected {show(sorted(value))}, is {show(sorted(view.pending))}"
                )
        elif key in known:
            found += _node_differences(known[key], value, f"{place}.{key}")
        else:
            raise InputError(
                f"{place}.{one_line(key, 60)}: is no field here; allowed are pending and the nodes"
                f" {', '.join(list(known)[:10])}"
            )
    return tuple(found)


def _node_differences(node: NodeStep, expect: Any, place: str) -> Iterator[str]:
    if not isinstance(expect, Mapping):
        raise InputError(f"{place}: expected a mapping, got {show(expect)}")
    for key, value in expect.items():
        check = _CHECKS.get(key)
        if check is None:
            raise InputError(
                f"{place}.{one_line(key, 60)}: is no field here; allowed are {', '.join(_CHECKS)}"
            )
        for line in check(node, value, f"{place}.{key}"):
            yield f"{node.name}: {key}{line}"


def _check_cpus(node: NodeStep, expect: Any, place: str) -> Iterator[str]:
    if not isinstance(expect, Mapping):
        raise InputError(f"{place}: expected a mapping of CPU lists to values, got {show(expect)}")
    groups = {cpu: group for group in node.plan.groups for cpu in group.cpus}
    for text, wanted in expect.items():
        try:
            cpus = parse_cpulist(str(text))
        except ValueError:
            raise InputError(
                f"{place}: expected a CPU list such as 0-3,8, got {one_line(text, 60)!r}"
            ) from None
        for name, value in _fields(wanted, f"{place}.{text}"):
            wrong = {
                cpu: is_now
                for cpu in sorted(cpus)
                if (is_now := _cpu_value(node, groups.get(cpu), cpu, name, place)) != value
            }
            if wrong:
                first = next(iter(wrong.values()))
                yield f" {format_cpulist(wrong)} {name}: expected {show(value)}, is {show(first)}"


def _fields(wanted: Any, place: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(wanted, Mapping):
        raise InputError(f"{place}: expected a mapping of fields to values, got {show(wanted)}")
    for name, value in wanted.items():
        if name == "shows" and isinstance(value, Mapping):
            yield from ((f"shows.{inner}", inner_value) for inner, inner_value in value.items())
        else:
            yield name, value


def _cpu_value(node: NodeStep, group: CpuGroup | None, cpu: int, name: str, place: str) -> Any:
    if group is None:
        return None
    target, owner = group.target, group.container
    shown = node.shown.get(cpu, {})
    values = {
        "pool": str(group.pool),
        "profile": group.profile,
        "pod": f"{owner.namespace}/{owner.pod}" if owner else None,
        **{item.key: getattr(target, item.name) for item in SETTINGS},
        "cstates": dict(target.idle) or None,
        "held": group.held,
        **{f"shows.{item.key}": shown.get(item.name) for item in SETTINGS},
    }
    if name not in values:
        raise InputError(
            f"{place}: {one_line(name, 60)!r} is no field here; allowed are {', '.join(values)}"
        )
    return values[name]


def _check_resources(node: NodeStep, expect: Any, _: str) -> Iterator[str]:
    if dict(node.plan.extended_resources) != expect:
        yield f": expected {expect}, is {dict(node.plan.extended_resources)}"


def _check_problems(node: NodeStep, expect: Any, _: str) -> Iterator[str]:
    codes = sorted({str(problem.code) for problem in node.plan.problems})
    if codes != sorted(expect):
        yield f": expected {sorted(expect)}, is {codes}"


def _named(
    of: Callable[[NodeStep], Mapping[str, Any]], what: str
) -> Callable[[NodeStep, Any, str], Iterator[str]]:
    """Compares values by name; those that are not expected may be anything, and what is not asked
    for is the word baseline.
    """

    def check(node: NodeStep, expect: Any, place: str) -> Iterator[str]:
        if not isinstance(expect, Mapping):
            raise InputError(
                f"{place}: expected a mapping of {what}, or to {BASELINE}, got {show(expect)}"
            )
        found = of(node)
        for name, value in expect.items():
            if name not in found:
                yield (
                    f" {one_line(name, 60)}: expected {show(value)}, does not exist; there are"
                    f" {', '.join(found) or 'none'}"
                )
            elif (BASELINE if found[name] is None else found[name]) != value:
                yield f" {name}: expected {show(value)}, is {show(found[name] or BASELINE)}"

    return check


def _uncore(node: NodeStep) -> dict[str, Any]:
    return {
        target.entry.name: None if target.min_khz is None else [target.min_khz, target.max_khz]
        for target in node.plan.uncore
    }


def _caps(node: NodeStep) -> dict[str, Any]:
    return {
        target.zone.name: next((uw / UW for uw in target.limits if uw is not None), None)
        for target in node.plan.caps
    }


def _fabrics(node: NodeStep) -> dict[str, Any]:
    return {str(target.fabric.package): target.pstates for target in node.plan.fabrics}


def _equals(of: Callable[[NodeStep], Any]) -> Callable[[NodeStep, Any, str], Iterator[str]]:
    def check(node: NodeStep, expect: Any, _: str) -> Iterator[str]:
        if of(node) != expect:
            yield f": expected {show(expect)}, is {show(of(node))}"

    return check


def _between(of: Callable[[EnergyView], float]) -> Callable[[NodeStep, Any, str], Iterator[str]]:
    """Compares watts with the least and the most that they may be."""

    def check(node: NodeStep, expect: Any, place: str) -> Iterator[str]:
        if (
            not isinstance(expect, list)
            or len(expect) != 2
            or not all(isinstance(item, int | float) for item in expect)
        ):
            raise InputError(
                f"{place}: expected least and most watts, such as [40, 60], got {show(expect)}"
            )
        watts = None if node.energy is None else round(of(node.energy), 1)
        if watts is None or not expect[0] <= watts <= expect[1]:
            yield f": expected {expect[0]} to {expect[1]}, is {watts}"

    return check


_CHECKS: _Checks = {
    "cpus": _check_cpus,
    "resources": _check_resources,
    "problems": _check_problems,
    "uncore": _named(_uncore, "entries to limits"),
    "caps": _named(_caps, "zones to watts"),
    "fabrics": _named(_fabrics, "packages to P-states"),
    "watts": _between(lambda energy: energy.watts),
    "savedWatts": _between(lambda energy: energy.saved),
    "turbo": _equals(lambda node: BASELINE if node.plan.boost is None else node.plan.boost),
    "writes": _equals(lambda node: len(node.report.writes) if node.report else None),
    "drift": _equals(lambda node: len(node.report.drift) if node.report else None),
    "settled": _equals(lambda node: node.report.settled if node.report else None),
    "agent": _equals(lambda node: "running" if node.alive else "dead"),
}
