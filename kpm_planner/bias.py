"""Energy performance bias (EPB): what a profile may ask, and what a CPU gets of it.

Intel CPUs have a register of their own for it, 0 for performance to 15 for power; it counts where
no EPP does. Drivers of CPUs that have HWP but no register for EPP keep EPP in the one of EPB
(kernel, intel_pstate_get_epp), and two settings cannot have one place (kernel documentation, Intel
Performance and Energy Bias Hint).
"""

from collections.abc import Iterable

from kpm_planner.model.machine import CoreKind, Machine
from kpm_planner.model.objects import EPB_WORDS, LARGEST_EPB, PowerProfile
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.selection import reference

FIELD = "spec.pstates.epb"
_NUMBERS = {str(number): number for number in range(LARGEST_EPB + 1)}


def bias_of(value: int | str | None) -> int | None:
    """The bias as a number; None for what is none.

    >>> bias_of("normal"), bias_of("7"), bias_of(15), bias_of(16), bias_of("low")
    (6, 7, 15, None, None)
    """
    if isinstance(value, str):
        value = _NUMBERS.get(value, EPB_WORDS.get(value))
    return value if value is not None and 0 <= value <= LARGEST_EPB else None


def bias_faults(profile: PowerProfile) -> Iterable[Problem]:
    """What is wrong without looking at a machine."""
    value = profile.pstates.epb
    if value is not None and bias_of(value) is None:
        allowed = f"0 to {LARGEST_EPB} or {', '.join(EPB_WORDS)}"
        yield error(Code.EPB_VALUE, reference(profile), FIELD, f"expected {allowed}, got {value!r}")


def bias_hindrances(profile: PowerProfile, machine: Machine) -> Iterable[Problem]:
    """What keeps this machine from it; the rest of the profile holds."""
    if profile.pstates.epb is None:
        return
    missing = [kind for kind, _ in machine.kinds if "epb" not in kind.alone]
    if missing:
        whose = "the CPUs have" if len(missing) == len(machine.kinds) else "some CPUs have"
        why = f"{whose} no energy_perf_bias, or none that is not their EPP; the rest holds"
        yield warning(Code.EPB_UNSUPPORTED, reference(profile), FIELD, why)


def resolve_bias(profile: PowerProfile, kind: CoreKind) -> tuple[int | None, str]:
    """The bias of a kind of core, with the reason; None is baseline."""
    value = bias_of(profile.pstates.epb)
    if value is None or "epb" not in kind.alone:
        return None, ""
    return value, f"epb {value}: {FIELD} {profile.pstates.epb}"
