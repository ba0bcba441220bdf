"""P-states of AMD's data fabric (amd_hsmp, messages 0Dh, 0Eh and 22h; 0 is the fastest)."""

from attrs import frozen

from kpm_planner.model.machine import Fabric, Machine
from kpm_planner.model.objects import AmdFabric, Uncore
from kpm_planner.model.problems import Code, Problem, error, warning
from kpm_planner.model.why import Why
from kpm_planner.selection import reference

#: Values of the fabric's one file: automatic, one P-state, or the slowest and the fastest.
AUTOMATIC = "auto"
SLOWEST = 3
#: Only these protocols of the HSMP know the message that sets a range.
RANGE_PROTOCOLS = frozenset({5, 7})


@frozen
class FabricTarget:
    """What is asked of the fabric of one package: None is baseline,
    else "N" or "SLOWEST FASTEST".
    """

    fabric: Fabric
    pstates: str | None = None
    because: tuple[Why, ...] = ()


def baseline_fabrics(machine: Machine, reason: str) -> tuple[FabricTarget, ...]:
    """Every fabric as it was, which is automatic."""
    return tuple(FabricTarget(fabric, because=(Why(reason),)) for fabric in machine.fabrics)


def validate_fabric(uncore: Uncore) -> tuple[Problem, ...]:
    """Faults of the AMD part of an Uncore object that can be seen without a machine."""
    amd, obj = uncore.amd, reference(uncore)
    if amd is None:
        return ()
    low, high = amd.df_pstate_min, amd.df_pstate_max
    if low is None or high is None:
        absent = "dfPstateMin" if low is None else "dfPstateMax"
        return (
            error(
                Code.FABRIC_RANGE,
                obj,
                f"spec.amd.{absent}",
                "is missing; both ends are needed, equal ones fix the P-state",
            ),
        )
    for name, value in (("dfPstateMin", low), ("dfPstateMax", high)):
        if not 0 <= value <= SLOWEST:
            return (
                error(
                    Code.FABRIC_RANGE,
                    obj,
                    f"spec.amd.{name}",
                    f"expected 0, the fastest, to {SLOWEST}, got {value}",
                ),
            )
    if high > low:
        return (
            error(
                Code.FABRIC_RANGE,
                obj,
                "spec.amd.dfPstateMax",
                f"{high} is slower than dfPstateMin {low}; 0 is the fastest P-state",
            ),
        )
    return ()


def fabric_faults(uncore: Uncore, machine: Machine) -> tuple[Problem, ...]:
    """Why a machine cannot do what the AMD part asks."""
    amd, obj = uncore.amd, reference(uncore)
    if amd is None:
        return ()
    if not machine.fabrics:
        reason = machine.fabric_fault or "there is no HSMP device; the driver is amd_hsmp"
        # an Intel node takes its own part of an object for both
        say = warning if machine.uncore else error
        return (
            say(
                Code.FABRIC_UNSUPPORTED, obj, "spec.amd", f"the data fabric cannot be set: {reason}"
            ),
        )
    if not _covered(amd, machine):
        has = ", ".join(str(fabric.package) for fabric in machine.fabrics)
        return (
            error(
                Code.FABRIC_RANGE,
                obj,
                "spec.amd.package",
                f"package {amd.package} does not exist here; the node has {has}",
            ),
        )
    old = [
        fabric.protocol
        for fabric in _covered(amd, machine)
        if fabric.protocol not in RANGE_PROTOCOLS
    ]
    if amd.df_pstate_min != amd.df_pstate_max and old:
        has = "that of this node is not known" if old[0] is None else f"this node has {old[0]}"
        message = f"a range needs HSMP protocol 5 or 7, {has}; equal ends work everywhere"
        return (error(Code.FABRIC_UNSUPPORTED, obj, "spec.amd", message),)
    return ()


def _covered(amd: AmdFabric, machine: Machine) -> list[Fabric]:
    return [fabric for fabric in machine.fabrics if amd.package in (None, fabric.package)]


def fabric_targets(uncore: Uncore, machine: Machine) -> tuple[FabricTarget, ...]:
    """The targets of a valid object."""
    obj, amd = reference(uncore), uncore.amd
    if amd is None:
        return baseline_fabrics(machine, f"{obj} does not cover it")
    fixed = amd.df_pstate_min == amd.df_pstate_max
    text = str(amd.df_pstate_min) if fixed else f"{amd.df_pstate_min} {amd.df_pstate_max}"
    states = f" {text}" if fixed else f"s {amd.df_pstate_max} to {amd.df_pstate_min}"
    because = Why(f"P-state{states}: {obj} spec.amd", object=obj, field="spec.amd")
    covered = _covered(amd, machine)
    left = (Why(f"{obj} does not cover it", object=obj),)
    return tuple(
        (
            FabricTarget(fabric, text, (because,))
            if fabric in covered
            else FabricTarget(fabric, None, left)
        )
        for fabric in machine.fabrics
    )
