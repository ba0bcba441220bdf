"""Hyperthreads of one core with different targets: the hardware runs both at the higher one, so a
warning says so.
"""

from kpm_planner.domains import frequency_part, values_in_force
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Code, Problem, warning
from kpm_planner.parts import Part


def sibling_problems(parts: list[Part], machine: Machine) -> list[Problem]:
    """A warning for each core whose online hyperthreads ask for different frequencies and would get
    different ones: two targets can mean the same once baseline is filled in.
    """
    if not machine.shared_cores or len(parts) < 2:
        return []
    part_of = {cpu: part for part in parts for cpu in part.cpus}
    mixed = [
        core
        for core in machine.shared_cores
        if any(part_of[cpu] is not part_of[core[0]] for cpu in core[1:])
    ]
    return [
        warning(
            Code.SIBLING_CONFLICT,
            "Node",
            f"cpu{core[0]}",
            f"CPUs {format_cpulist(core)} are one core with different targets; the hardware runs"
            " the higher",
        )
        for core in mixed
        if len({frequency_part(part_of[cpu].resolved.target) for cpu in core}) > 1
        and len({_in_force(cpu, part_of[cpu], machine) for cpu in core}) > 1
    ]


def _in_force(cpu: int, part: Part, machine: Machine) -> tuple[object, ...]:
    """What a CPU's target means on its domain; nothing where its frequency cannot be set."""
    number = machine.by_id[cpu].domain
    domain = None if number is None else machine.domain_by_id.get(number)
    if domain is None or not domain.managed:
        return ()
    return tuple(values_in_force(domain, part.resolved.target).values())
