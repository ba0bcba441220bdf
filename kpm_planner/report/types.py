"""The types of what a node's agent reports, as the API has them: PowerNode in lines for people,
PowerNodeState in fields for programs.

`description` in a field's metadata is the text of the resource's schema.
"""

from typing import TYPE_CHECKING, Any

from attrs import field, fields, frozen

from kpm_planner.model.target import TOLD

#: Characters of a published machine and of what its kubelet says; the rest of a status stays below
#: 16 KiB beside them.
LONGEST_MACHINE, LONGEST_ALLOCATION = 12 << 10, 4 << 10


def _text(description: str) -> dict[str, object]:
    return {"description": description}


@frozen
class Condition:
    """One aspect of a node's state, as Kubernetes conditions are."""

    type: str = field(metadata=_text("What is judged."))
    status: str = field(
        metadata={"description": "Whether it is so.", "enum": ["True", "False", "Unknown"]}
    )
    reason: str = field(metadata=_text("One word for why."))
    message: str = field(default="", metadata=_text("One sentence for a person."))
    last_transition_time: str | None = field(
        default=None,
        metadata={"description": "When the status last changed.", "format": "date-time"},
    )


@frozen(
    these={
        **{
            item.name: field(default=None, type=item.kind, metadata=_text(item.about))
            for item in TOLD
        },
        **{
            name: field(
                default=(), type=tuple[str, ...], metadata=_text(f"Idle states that are {word}.")
            )
            for name, word in (("idle_on", "on"), ("idle_off", "off"))
        },
    }
)
class Values:
    """Settings of CPUs. As requested ones: left out where the plan asks nothing. As effective ones:
    left out where the kernel has no such file, or it cannot be read.

    Units: kHz.
    """

    if TYPE_CHECKING:
        idle_on: tuple[str, ...]
        idle_off: tuple[str, ...]

        def __init__(self, **values: Any) -> None: ...


# schemas and the wire format read a class's types from here
Values.__annotations__ = {item.name: item.type for item in fields(Values)}


@frozen
class CpuValues:
    """What was asked of some CPUs, and what their files show."""

    cpus: str = field(metadata=_text("CPU ids as a list such as 0-3,8."))
    requested: Values = field(
        default=Values(), metadata=_text("What the plan asks; left out is baseline.")
    )
    effective: Values = field(default=Values(), metadata=_text("What the kernel shows."))


@frozen
class PoolState:
    """CPUs of one pool under one profile."""

    cpus: str = field(metadata=_text("CPU ids as a list such as 0-3,8."))
    power_profile: str | None = field(
        default=None, metadata=_text("The PowerProfile in force; left out: baseline.")
    )


@frozen
class ContainerState:
    """A container that owns CPUs."""

    name: str = field(metadata=_text("Container name."))
    id: str = field(default="", metadata=_text("Container id with its runtime."))
    pod: str = field(default="", metadata=_text("Pod name."))
    namespace: str = field(default="", metadata=_text("Pod namespace."))
    pod_uid: str = field(default="", metadata=_text("Pod uid."))
    exclusive_cpus: tuple[int, ...] = field(
        default=(), metadata=_text("CPUs that are the container's own.")
    )
    power_profile: str = field(
        default="", metadata=_text("The profile in force; left out: baseline.")
    )
    workload: str = field(default="", metadata=_text("The PowerWorkload object that lists it."))


@frozen
class ProblemState:
    """Something that could not be honoured on this node (docs/user/problems.md lists the codes)."""

    severity: str = field(metadata=_text("error: the object has no effect here. warning: it has."))
    code: str = field(metadata=_text("Stable code."))
    object: str = field(metadata=_text("Kind/name that asked."))
    message: str = field(default="", metadata=_text("What is wrong and what is allowed."))
    field: str = field(default="", metadata=_text("Field that asked."))


@frozen
class ProfileState:
    """A profile on this node."""

    name: str = field(metadata=_text("PowerProfile."))
    valid: bool = field(default=True, metadata=_text("Whether it can be used here."))
    errors: tuple[str, ...] = field(default=(), metadata=_text("Why not."))


@frozen
class UncoreState:
    """An uncore entry. Units: kHz."""

    name: str = field(metadata=_text("Directory of the entry."))
    requested_min_khz: int | None = field(
        default=None, metadata=_text("What the plan asks; left out: baseline. kHz.")
    )
    requested_max_khz: int | None = field(
        default=None, metadata=_text("What the plan asks; left out: baseline. kHz.")
    )
    min_khz: int | None = field(default=None, metadata=_text("What the file holds now, kHz."))
    max_khz: int | None = field(default=None, metadata=_text("What the file holds now, kHz."))


@frozen
class UncoreStatus:
    """Uncore frequencies of the node: first as the earlier operator tells them, then each entry."""

    name: str = field(
        default="", metadata=_text("The Uncore object in force here; left out: none.")
    )
    config: str = field(default="", metadata=_text("What it asks for, in words."))
    errors: tuple[str, ...] = field(default=(), metadata=_text("What is wrong with it here."))
    entries: tuple[UncoreState, ...] = field(default=(), metadata=_text("Uncore entries."))


@frozen
class ProfileConfig:
    """A profile on this node, as the earlier operator tells it."""

    name: str = field(metadata=_text("PowerProfile."))
    config: str = field(
        default="", metadata=_text("What it sets here, in words; frequencies in kHz.")
    )
    errors: tuple[str, ...] = field(default=(), metadata=_text("What is wrong with it here."))


@frozen
class ProfileCpus:
    """CPUs under one profile."""

    power_profile: str = field(
        default="", metadata=_text("The profile in force; left out: baseline.")
    )
    cpu_list: str = field(default="", metadata=_text("CPU ids as a list such as 0-3,8."))
    errors: tuple[str, ...] = field(default=(), metadata=_text("What is wrong with them."))


@frozen
class SharedCpus:
    """The shared pool, as the earlier operator tells it."""

    power_profile: str = field(
        default="", metadata=_text("The profile in force; left out: baseline.")
    )
    power_node_config: str = field(default="", metadata=_text("The object that made the pool."))
    cpu_list: str = field(default="", metadata=_text("CPU ids as a list such as 0-3,8."))
    errors: tuple[str, ...] = field(default=(), metadata=_text("What is wrong with it."))


@frozen
class ReservedCpuPool:
    """Reserved CPUs of one object, as the earlier operator tells them."""

    power_node_config: str = field(default="", metadata=_text("The object that reserves them."))
    power_profile_cpus: tuple[ProfileCpus, ...] = field(default=(), metadata=_text("By profile."))


@frozen
class PowerContainer:
    """A container with CPUs of its own, as the earlier operator tells it."""

    name: str = field(metadata=_text("Container name."))
    id: str = field(default="", metadata=_text("Container id with its runtime."))
    power_profile: str = field(
        default="", metadata=_text("The profile in force; left out: baseline.")
    )
    cpu_numbers: tuple[int, ...] = field(
        default=(), metadata=_text("CPUs that are the container's own.")
    )
    errors: tuple[str, ...] = field(default=(), metadata=_text("What is wrong with it."))


@frozen
class ExclusiveCpus:
    """A pod with CPUs of its own, as the earlier operator tells it."""

    pod_uid: str = field(default="", metadata=_text("Pod uid; left out: not known."))
    pod: str = field(default="", metadata=_text("Pod name."))
    power_containers: tuple[PowerContainer, ...] = field(
        default=(), metadata=_text("Its containers with CPUs of their own.")
    )


@frozen
class CpuPools:
    """The pools once more, in the form of the earlier operator, for programs that read that."""

    shared: SharedCpus | None = field(default=None, metadata=_text("The shared pool."))
    reserved: tuple[ReservedCpuPool, ...] = field(default=(), metadata=_text("Reserved CPUs."))
    exclusive: tuple[ExclusiveCpus, ...] = field(
        default=(), metadata=_text("Pods with CPUs of their own.")
    )


@frozen
class NodeInfo:
    """What does not change while a node is up."""

    cpu_capacity: int = field(default=0, metadata=_text("CPUs of the machine, offline ones too."))
    architecture: str = field(default="", metadata=_text("As the kernel names it, such as x86_64."))


@frozen
class PowerCapState:
    """The power limit of a package or die. Units: mW."""

    zone: str = field(metadata=_text("Zone by its name."))
    limit: str = field(metadata=_text("Which of its limits."))
    requested_milliwatts: int | None = field(
        default=None, metadata=_text("What the plan asks, mW.")
    )
    milliwatts: int | None = field(
        default=None, metadata=_text("What the file holds now, mW; left out: it cannot be read.")
    )


@frozen
class FabricState:
    """The data fabric of an AMD package; 0 is the fastest P-state."""

    package: int = field(metadata=_text("Package number."))
    pstates: str = field(
        default="",
        metadata=_text("Asked: one P-state, or the slowest and the fastest; left out: automatic."),
    )


@frozen
class EarlierVersion:
    """An object of which an earlier version is in force, since the one that is written now has
    errors on this node.
    """

    object: str = field(metadata=_text("Kind/name."))
    generation: int | None = field(
        default=None, metadata=_text("metadata.generation of the version in force.")
    )
    since: str | None = field(
        default=None,
        metadata=_text("When that version was first valid here (RFC 3339); left out: not known."),
    )


@frozen
class PoolSizes:
    """How many CPUs each pool has."""

    shared: int = field(default=0, metadata=_text("Under the shared profile."))
    reserved: int = field(default=0, metadata=_text("Kept for the system."))
    exclusive: int = field(default=0, metadata=_text("Owned by containers."))
    unmanaged: int = field(default=0, metadata=_text("Covered by nothing."))
    offline: int = field(default=0, metadata=_text("Offline."))


@frozen
class PowerNodeStateStatus:
    """State of one node, for programs."""

    sizes: PoolSizes = field(default=PoolSizes(), metadata=_text("Number of CPUs in each pool."))
    shared_pool: tuple[PoolState, ...] = field(
        default=(), metadata=_text("CPUs under the shared profile.")
    )
    reserved_pools: tuple[PoolState, ...] = field(
        default=(), metadata=_text("CPUs kept for the system.")
    )
    exclusive_pools: tuple[ContainerState, ...] = field(
        default=(), metadata=_text("Containers with CPUs of their own.")
    )
    profiles: tuple[ProfileState, ...] = field(
        default=(), metadata=_text("Profiles that are offered here.")
    )
    values: tuple[CpuValues, ...] = field(
        default=(), metadata=_text("Requested and effective values, CPUs with equal ones together.")
    )
    uncore: UncoreStatus | None = field(
        default=None,
        metadata=_text("Uncore frequencies; left out: the machine has none that can be set."),
    )
    power_caps: tuple[PowerCapState, ...] = field(
        default=(), metadata=_text("Power limits that are asked for, and what their files show.")
    )
    fabrics: tuple[FabricState, ...] = field(
        default=(), metadata=_text("AMD data fabrics that are set.")
    )
    turbo: bool | None = field(
        default=None, metadata=_text("Whether turbo is asked to be on; left out: baseline.")
    )
    problems: tuple[ProblemState, ...] = field(
        default=(), metadata=_text("What could not be honoured.")
    )
    conditions: tuple[Condition, ...] = field(
        default=(),
        metadata={
            "description": "Conditions of the node's agent.",
            "list_map_keys": ["type"],
            "maxItems": 32,
        },
    )
    omitted: int | None = field(
        default=None, metadata=_text("Entries that are left out above for lack of room.")
    )
    earlier_versions: tuple[EarlierVersion, ...] = field(
        default=(), metadata=_text("Objects of which an earlier version is in force here.")
    )
    node_info: NodeInfo | None = field(
        default=None, metadata=_text("What does not change while the node is up.")
    )
    cpu_pools: CpuPools | None = field(
        default=None, metadata=_text("The pools in the form of the earlier operator.")
    )
    power_profiles: tuple[ProfileConfig, ...] = field(
        default=(), metadata=_text("The profiles in the form of the earlier operator.")
    )
    allocation: str = field(
        default="",
        metadata={
            "description": "What the kubelet says about CPUs of containers; as xz and base64.",
            "maxLength": LONGEST_ALLOCATION,
        },
    )
    machine: str = field(
        default="",
        metadata={
            "description": (
                "The machine as `kpm discover -o json` gives it, with what it held before this"
                " system; as xz and base64."
            ),
            "maxLength": LONGEST_MACHINE,
        },
    )


@frozen
class PowerNodeStatus:
    """State of one node in lines for people; frequencies in kHz, the maximum first."""

    sizes: PoolSizes | None = field(
        default=None, metadata=_text("Number of CPUs in each pool; left out: nothing is planned.")
    )
    power_profiles: tuple[str, ...] = field(
        default=(), metadata=_text("name: max || min || epp || governor || idle states")
    )
    power_workloads: tuple[str, ...] = field(default=(), metadata=_text("profile: profile || CPUs"))
    shared_pool: str = field(default="", metadata=_text("profile || max || min || CPUs"))
    reserved_pools: tuple[str, ...] = field(default=(), metadata=_text("max || min || CPUs"))
    unaffected_cores: str = field(default="", metadata=_text("CPUs that nothing covers."))
    power_containers: tuple[ContainerState, ...] = field(
        default=(), metadata=_text("Containers with CPUs of their own.")
    )
    custom_devices: tuple[str, ...] = field(
        default=(), metadata=_text("Extended resources that hand out CPUs.")
    )
    omitted: int | None = field(
        default=None, metadata=_text("Entries that are left out above for lack of room.")
    )
