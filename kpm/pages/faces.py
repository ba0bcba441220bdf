"""What the cells of a map show: of a machine as it is, of a plan, of the difference of both."""

from collections.abc import Iterable, Mapping

from attrs import evolve

from kpm.pages.maps import Face
from kpm_planner.domains import values_in_force
from kpm_planner.model.assignment import Pool
from kpm_planner.model.machine import Cpu, Machine
from kpm_planner.model.quantities import format_ghz
from kpm_planner.model.target import Target
from kpm_planner.plan import NodePlan


def faces_of_machine(machine: Machine) -> dict[int, Face]:
    """CPUs as their files show them."""
    found = {}
    for cpu in machine.cpus:
        if not cpu.online:
            found[cpu.id] = Face("offline", words="offline")
            continue
        domain = None if cpu.domain is None else machine.domain_by_id.get(cpu.domain)
        settings = None if domain is None else domain.settings
        off = frozenset(state.name for state in cpu.idle if not state.enabled)
        found[cpu.id] = face_of(
            "unmanaged",
            None if settings is None else settings.min_khz,
            None if settings is None else settings.max_khz,
            others=[] if settings is None else [settings.governor, _epp(settings.epp)],
            off=off,
        )
    return found


def faces_of_plan(plan: NodePlan, machine: Machine) -> dict[int, Face]:
    """CPUs as a plan asks for them, baseline filled in."""
    found = {}
    before = faces_of_machine(machine)
    for group in plan.groups:
        for cpu in group.cpus:
            if group.pool is Pool.OFFLINE:
                found[cpu] = Face("offline", words="offline")
            elif group.held:
                found[cpu] = evolve(before[cpu], pool=str(group.pool))
            else:
                found[cpu] = _planned(machine, machine.by_id[cpu], group.target, str(group.pool))
    return found


def changed(before: Mapping[int, Face], after: Mapping[int, Face]) -> dict[int, Face]:
    """The faces after, those marked whose values are others than before."""
    return {
        cpu: evolve(face, changed=cpu not in before or _values(before[cpu]) != _values(face))
        for cpu, face in after.items()
    }


def marked(faces: Mapping[int, Face], cpus: Iterable[int]) -> dict[int, Face]:
    """The same faces, these CPUs marked."""
    chosen = frozenset(cpus)
    return {cpu: evolve(face, changed=cpu in chosen) for cpu, face in faces.items()}


def _values(face: Face) -> tuple[object, ...]:
    return face.low_khz, face.high_khz, face.off, face.words


def _planned(machine: Machine, cpu: Cpu, target: Target, pool: str) -> Face:
    domain = None if cpu.domain is None else machine.domain_by_id.get(cpu.domain)
    values = {} if domain is None else values_in_force(domain, target)
    wanted = dict(target.idle)
    off = frozenset(state.name for state in cpu.idle if not wanted.get(state.name, state.enabled))
    others = [values.get("governor"), _epp(values.get("epp"))]
    latency = target.latency_us
    others.append(None if latency is None else f"wakes within {latency} µs")
    return face_of(pool, values.get("min_khz"), values.get("max_khz"), others=others, off=off)


def _epp(value: str | None) -> str | None:
    return None if value is None else f"EPP {value}"


def face_of(
    pool: str,
    low: int | None,
    high: int | None,
    *,
    others: Iterable[str | None],
    off: frozenset[str],
) -> Face:
    """A cell: its range, other values in words, and the idle states that are off."""
    ends = [None if khz is None else format_ghz(khz) for khz in (low, high)]
    speed = f"{' to '.join(end or '?' for end in ends)} GHz" if any(ends) else ""
    states = f"off: {' '.join(sorted(off))}" if off else ""
    words = ", ".join(part for part in (speed, *others, states) if part)
    return Face(pool, low, high, off, words)
