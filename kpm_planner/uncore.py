"""Uncore limits: system, package, die (U1, U2), and with them the fabric of AMD
packages.
"""

from attrs import evolve, frozen

from kpm_planner.fabric import (
    FabricTarget,
    baseline_fabrics,
    fabric_faults,
    fabric_targets,
    validate_fabric,
)
from kpm_planner.model.machine import Machine, UncoreEntry
from kpm_planner.model.objects import Uncore
from kpm_planner.model.problems import Code, Problem, error, has_errors, warning
from kpm_planner.model.target import frequency_range
from kpm_planner.model.why import Why
from kpm_planner.selection import reference, selector_problems

_STEP_KHZ = 100_000


@frozen
class UncoreTarget:
    """Wanted limits of one uncore entry; None is baseline. Units: kHz.

    maker: Kind/name of the object that they come from, "" for none.
    """

    entry: UncoreEntry
    min_khz: int | None = None
    max_khz: int | None = None
    because: tuple[Why, ...] = ()
    maker: str = ""


#: What an end may be beside kHz: those of the hardware's range. An uncore has no base frequency.
_WORDS = ("min", "max")


@frozen
class _Limit:
    """One range somebody asked for: where, for which package and die (None: all), both ends in kHz
    or as words.
    """

    field: str
    package: int | None
    die: int | None
    low: int | str
    high: int | str

    @property
    def place(self) -> str:
        """Where, in words."""
        package = "every package" if self.package is None else f"package {self.package}"
        return package if self.die is None else f"{package} die {self.die}"

    def on(self, entry: UncoreEntry) -> tuple[int, int] | None:
        """Both ends on an entry, kHz; None where they name a hardware limit that is not known."""
        ends = {"min": entry.hardware_min_khz, "max": entry.hardware_max_khz}
        low, high = (
            ends[end] if isinstance(end, str) else _step(end) for end in (self.low, self.high)
        )
        return None if low is None or high is None else (low, high)

    def covers(self, entry: UncoreEntry) -> bool:
        die = entry.domain if entry.die is None else entry.die
        return (self.package is None or entry.package == self.package) and (
            self.die is None or die == self.die
        )


@frozen
class UncorePlan:
    """Targets of every uncore entry and every AMD fabric of a machine."""

    entries: tuple[UncoreTarget, ...] = ()
    fabrics: tuple[FabricTarget, ...] = ()
    problems: tuple[Problem, ...] = ()


def plan_uncore(winner: Uncore | None, machine: Machine, node: str) -> UncorePlan:
    """Targets for every uncore entry and fabric of the machine. winner: the object that holds on
    the node.

    An invalid object has no effect at all.
    """
    if winner is None:
        return baseline_uncore(machine, "no Uncore object covers it")
    problems: list[Problem] = []
    if not machine.uncore and (winner.amd is None or _asks_limits(winner)):
        problems.append(
            warning(
                Code.UNCORE_UNSUPPORTED,
                reference(winner),
                "",
                f"node {node} has no uncore frequency control",
            )
        )
    faults = uncore_faults(winner, machine)
    problems += faults if machine.uncore or winner.amd is not None else ()
    if has_errors(faults):
        return evolve(
            baseline_uncore(machine, f"{reference(winner)} has errors, so baseline"),
            problems=tuple(problems),
        )
    limits = _limits(winner) if machine.uncore else []
    return UncorePlan(
        tuple(_target(entry, limits, reference(winner)) for entry in machine.uncore),
        fabric_targets(winner, machine),
        tuple(problems),
    )


def uncore_faults(uncore: Uncore, machine: Machine) -> tuple[Problem, ...]:
    """Faults of an Uncore object, those that only a machine shows too."""
    faults = list(validate_uncore(uncore))
    limits = [] if has_errors(tuple(faults)) or not machine.uncore else _limits(uncore)
    faults += _machine_faults(uncore, limits, machine)
    faults += [] if has_errors(tuple(faults)) else fabric_faults(uncore, machine)
    return tuple(faults)


def baseline_uncore(machine: Machine, reason: str) -> UncorePlan:
    """Everything as it was."""
    return UncorePlan(
        tuple(UncoreTarget(entry, because=(Why(reason),)) for entry in machine.uncore),
        baseline_fabrics(machine, reason),
    )


def _asks_limits(uncore: Uncore) -> bool:
    return uncore.sys_min is not None or uncore.sys_max is not None or bool(uncore.die_selector)


def validate_uncore(uncore: Uncore) -> tuple[Problem, ...]:
    """Faults of an Uncore object that can be seen without a machine."""
    obj = reference(uncore)
    if not _asks_limits(uncore) and uncore.amd is None:
        return (
            error(
                Code.UNCORE_ENDS,
                obj,
                "spec",
                "asks for nothing: sysMin and sysMax, dieSelector or amd is needed",
            ),
            *selector_problems(uncore.node_selector, obj),
        )
    problems = _end_faults(obj, "spec.sysMin", "spec.sysMax", uncore.sys_min, uncore.sys_max)
    for index, item in enumerate(uncore.die_selector):
        field = f"spec.dieSelector[{index}]"
        if item.package is None:
            problems.append(
                error(Code.UNCORE_DIE, obj, f"{field}.package", "is missing; a package is needed")
            )
        if item.min is None and item.max is None:
            problems.append(
                error(Code.UNCORE_ENDS, obj, field, "has neither min nor max; both are needed")
            )
        problems += _end_faults(obj, f"{field}.min", f"{field}.max", item.min, item.max)
    return (*problems, *validate_fabric(uncore), *selector_problems(uncore.node_selector, obj))


def _end_faults(
    obj: str, low_field: str, high_field: str, low: int | str | None, high: int | str | None
) -> list[Problem]:
    if (low is None) != (high is None):
        given, absent = (high_field, low_field) if low is None else (low_field, high_field)
        return [
            error(
                Code.UNCORE_ENDS,
                obj,
                absent,
                f"is missing while {given} is given; both ends are needed",
            )
        ]
    wrong = [
        error(Code.UNCORE_RANGE, obj, field, f"expected kHz, min or max, got {end!r}")
        for field, end in ((low_field, low), (high_field, high))
        if isinstance(end, str) and end not in _WORDS
    ]
    numbers = isinstance(low, int) and isinstance(high, int) and low > high
    if numbers or (low, high) == ("max", "min"):
        message = f"{_in_khz(low)} is above {high_field} {_in_khz(high)}"
        wrong.append(error(Code.UNCORE_ORDER, obj, low_field, message))
    return wrong


def _in_khz(end: int | str | None) -> str:
    return f"{end} kHz" if isinstance(end, int) else str(end)


def _limits(uncore: Uncore) -> list[_Limit]:
    """The ranges asked for, the most specific first: die, package, system."""
    found = [
        _Limit(f"spec.dieSelector[{index}]", item.package, item.die, item.min, item.max)
        for index, item in enumerate(uncore.die_selector)
        if item.min is not None and item.max is not None
    ]
    found.sort(key=lambda limit: (limit.die is None, limit.field))
    if uncore.sys_min is not None and uncore.sys_max is not None:
        found.append(_Limit("spec.sysMin", None, None, uncore.sys_min, uncore.sys_max))
    return found


def _step(khz: int) -> int:
    return khz // _STEP_KHZ * _STEP_KHZ


def _machine_faults(uncore: Uncore, limits: list[_Limit], machine: Machine) -> list[Problem]:
    problems = []
    obj = reference(uncore)
    seen: set[tuple[int | None, int | None]] = set()
    for limit in limits:
        covered = [entry for entry in machine.uncore if limit.covers(entry)]
        if not covered:
            message = f"{limit.place} does not exist here; the node has {_places(machine)}"
            problems.append(error(Code.UNCORE_DIE, obj, limit.field, message))
        if (limit.package, limit.die) in seen:
            message = f"{limit.place} is named twice"
            problems.append(error(Code.UNCORE_DIE, obj, limit.field, message))
        seen.add((limit.package, limit.die))
        for entry in covered:
            message = _misfit(limit, entry)
            if message:
                problems.append(error(Code.UNCORE_RANGE, obj, limit.field, message))
                break
    return problems


def _misfit(limit: _Limit, entry: UncoreEntry) -> str:
    """Why a range cannot be set on an entry; "" where it can."""
    ends, low, high = limit.on(entry), entry.hardware_min_khz, entry.hardware_max_khz
    if ends is None:
        return f"{limit.low}..{limit.high}: no file says what {entry.name} can do"
    if low is not None and high is not None and not low <= ends[0] <= ends[1] <= high:
        return f"{ends[0]}..{ends[1]} kHz is outside the range of {entry.name}, {low}..{high} kHz"
    return ""


def _places(machine: Machine) -> str:
    """The packages and dies that have an uncore of their own, in words."""
    found = {
        (entry.package, entry.domain if entry.die is None else entry.die)
        for entry in machine.uncore
    }
    return ", ".join(
        f"package {package}" if die is None else f"package {package} die {die}"
        for package, die in sorted(found, key=str)
    )


def _target(entry: UncoreEntry, limits: list[_Limit], obj: str) -> UncoreTarget:
    limit = next((limit for limit in limits if limit.covers(entry)), None)
    if limit is None:
        return UncoreTarget(entry, because=(Why(f"{obj} does not cover it", object=obj),))
    ends = limit.on(entry)
    assert ends is not None  # an object with such a fault has no effect
    low, high = ends
    text = f"{frequency_range(low, high)}: {obj} {limit.field}, rounded down to 100 MHz"
    return UncoreTarget(entry, low, high, (Why(text, object=obj, field=limit.field),), obj)
