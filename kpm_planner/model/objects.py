"""What users ask for: the custom resources as values, as they were written; power caps have a
module of their own.

Nothing here is resolved or judged. A frequency is an integer or a text; a quantity has been parsed
by the shell. `description` in a field's metadata is the text that the resource's schema shows.
"""

from collections.abc import Mapping

from attrs import field, frozen

from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import OPENSHIFT_GROUP, Meta, NodeSelector
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.model.schema import described as _text

EPP_WORDS = ("performance", "balance_performance", "balance_power", "power")
#: Words for values of the energy performance bias (kernel, arch/x86/kernel/cpu/intel_epb.c).
EPB_WORDS = {
    "performance": 0,
    "balance-performance": 4,
    "normal": 6,
    "balance-power": 8,
    "power": 15,
}
LARGEST_EPB = 15


_FREQUENCY = (
    'MHz below 100000, kHz from there on, a percentage of the range of that CPU such as "40%", or'
    " min, base (the highest without turbo) or max."
)


@frozen
class PStates:
    """Frequency limits, governor, energy-performance preference and bias."""

    min: int | str | None = field(
        default=None,
        metadata=_text(
            f"Lowest frequency: {_FREQUENCY} Left out: the hardware's minimum.", maxLength=16
        ),
    )
    max: int | str | None = field(
        default=None,
        metadata=_text(
            f"Highest frequency: {_FREQUENCY} Left out: the hardware's maximum.", maxLength=16
        ),
    )
    governor: str | None = field(
        default=None,
        metadata=_text(
            "A governor that the node's scaling driver offers, such as powersave or performance.",
            maxLength=15,
        ),
    )
    epp: str | None = field(
        default=None,
        metadata=_text(
            "Energy performance preference; under governor performance only performance.",
            enum=list(EPP_WORDS),
        ),
    )
    epb: int | str | None = field(
        default=None,
        metadata=_text(
            "Energy performance bias of Intel CPUs, of each CPU alone: 0 (performance) to 15"
            f" (power), or {', '.join(EPB_WORDS)}.",
            maxLength=19,
        ),
    )

    @property
    def asks_frequency(self) -> bool:
        """Whether anything is asked of frequencies; the bias is none."""
        return (self.min, self.max, self.governor, self.epp) != (None, None, None, None)


@frozen
class CStates:
    """Idle states, by name or by the longest wake-up latency, never both."""

    names: Mapping[str, bool] | None = field(
        default=None,
        hash=False,
        metadata=_text(
            "Idle state name to on (true) or off (false); a state not named stays as it was.",
            maxProperties=32,
        ),
    )
    max_latency_us: int | None = field(
        default=None,
        metadata=_text(
            "States with a longer exit latency (µs) are off, the others on.",
            minimum=0,
            maximum=10_000_000,
        ),
    )


_CPU_LIST = {"maxItems": 4096}


@frozen
class ReservedCpus:
    """CPUs kept from pods, and the profile that they run under (none: baseline)."""

    cores: tuple[int, ...] = field(
        default=(), metadata=_text("CPU ids as Linux numbers them.", **_CPU_LIST)
    )
    power_profile: str | None = field(
        default=None,
        metadata=_text(
            "Name of a PowerProfile; left out: the CPUs stay as they were.", maxLength=253
        ),
    )


_NAME = _text("Must be metadata.name where it is given; kept for older manifests.", maxLength=253)


_EARLIER = "As earlier versions wrote it; write it below pstates."


@frozen
class PowerProfile:
    """How a CPU should run: frequency limits, governor, energy preference, idle states.

    min, max, governor, epp: as the operators before this one had them, beside pstates; what pstates
    says counts.
    """

    meta: Meta
    group: str = OPENSHIFT_GROUP
    name: str | None = field(default=None, metadata=_NAME)
    shared: bool = field(
        default=False,
        metadata=_text(
            "Whether it is meant for the shared pool; a shared profile is not offered to pods."
        ),
    )
    node_selector: NodeSelector | None = field(
        default=None, metadata=_text("Nodes on which the profile is offered; left out: all.")
    )
    pstates: PStates = field(
        default=PStates(),
        metadata=_text("Frequency limits, governor, energy performance preference."),
    )
    cstates: CStates = field(
        default=CStates(), metadata=_text("Idle states, by names or by maxLatencyUs.")
    )
    cpu_capacity: int | str | None = field(
        default=None,
        metadata=_text(
            'How many CPUs of a node may run under it: a number, or a share such as "75%". Left'
            " out: all.",
            maxLength=16,
        ),
    )
    cpu_scaling_policy: CpuScalingPolicy | None = field(
        default=None,
        metadata=_text(
            "Frequency that follows the load of a polling workload; needs governor userspace."
        ),
    )
    min: int | str | None = field(default=None, metadata=_text(_EARLIER, maxLength=16))
    max: int | str | None = field(default=None, metadata=_text(_EARLIER, maxLength=16))
    governor: str | None = field(default=None, metadata=_text(_EARLIER, maxLength=15))
    epp: str | None = field(default=None, metadata=_text(_EARLIER, maxLength=32))


@frozen
class PowerWorkload:
    """The shared pool (allCores) and the reserved CPUs of the nodes that it selects; one a node is
    also made for each profile.
    """

    meta: Meta
    group: str = OPENSHIFT_GROUP
    name: str | None = field(default=None, metadata=_NAME)
    all_cores: bool = field(
        default=False,
        metadata=_text(
            "Whether all CPUs that are neither reserved nor exclusive run under powerProfile."
        ),
    )
    reserved_cpus: tuple[ReservedCpus, ...] = field(
        default=(),
        metadata=_text(
            "CPUs kept for the system, each list with a profile of its own.", maxItems=256
        ),
    )
    power_node_selector: Mapping[str, str] | None = field(
        default=None,
        hash=False,
        metadata=_text("Labels of the nodes that are meant.", maxProperties=64, labels=True),
    )
    power_profile: str | None = field(
        default=None, metadata=_text("Name of the PowerProfile.", maxLength=253)
    )


@frozen
class PowerNodeConfig:
    """The shared pool, the reserved CPUs and the turbo switch of all nodes that match; of two, each
    field counts by itself.
    """

    meta: Meta
    group: str = OPENSHIFT_GROUP
    node_selector: NodeSelector | None = field(
        default=None, metadata=_text("Nodes that are meant; left out: none.")
    )
    shared_power_profile: str | None = field(
        default=None,
        metadata=_text(
            "Name of the PowerProfile of all CPUs that are neither reserved nor exclusive.",
            maxLength=253,
        ),
    )
    reserved_cpus: tuple[ReservedCpus, ...] = field(
        default=(),
        metadata=_text(
            "CPUs kept for the system, each list with a profile of its own.", maxItems=256
        ),
    )
    turbo: bool | None = field(
        default=None,
        metadata=_text(
            "Whether the whole node may run above its base frequencies; left out: it stays as it"
            " was."
        ),
    )


_UNCORE_KHZ = {"minimum": 100_000, "maximum": 12_700_000, "maxLength": 16}
_UNCORE = "kHz, or min or max of what the hardware can"


@frozen
class DieSelector:
    """Uncore limits of a package or of one die of it. Units: kHz."""

    package: int | None = field(default=None, metadata=_text("Package (socket) number.", minimum=0))
    die: int | None = field(
        default=None, metadata=_text("Die number; left out: all dies of the package.", minimum=0)
    )
    min: int | str | None = field(
        default=None, metadata=_text(f"Lowest uncore frequency, {_UNCORE}.", **_UNCORE_KHZ)
    )
    max: int | str | None = field(
        default=None, metadata=_text(f"Highest uncore frequency, {_UNCORE}.", **_UNCORE_KHZ)
    )


@frozen
class AmdFabric:
    """P-states of AMD's data fabric; 0 is the fastest."""

    df_pstate_min: int | None = field(
        default=None,
        metadata=_text(
            "Slowest P-state that is allowed; equal to dfPstateMax fixes it.", minimum=0, maximum=3
        ),
    )
    df_pstate_max: int | None = field(
        default=None,
        metadata=_text(
            "Fastest P-state that is allowed, not above dfPstateMin.", minimum=0, maximum=3
        ),
    )
    package: int | None = field(
        default=None, metadata=_text("Package (socket) number; left out: all.", minimum=0)
    )


@frozen
class Uncore:
    """Uncore frequency limits of the node that it is named after, or of the nodes it selects.

    Units: kHz.
    """

    meta: Meta
    group: str = OPENSHIFT_GROUP
    sys_min: int | str | None = field(
        default=None,
        metadata=_text(f"Lowest uncore frequency of the whole node, {_UNCORE}.", **_UNCORE_KHZ),
    )
    sys_max: int | str | None = field(
        default=None,
        metadata=_text(f"Highest uncore frequency of the whole node, {_UNCORE}.", **_UNCORE_KHZ),
    )
    die_selector: tuple[DieSelector, ...] = field(
        default=(),
        metadata=_text(
            "Limits of single packages or dies; they beat sysMin and sysMax.", maxItems=128
        ),
    )
    node_selector: NodeSelector | None = field(
        default=None,
        metadata=_text("Nodes that are meant; left out: the node with this object's name."),
    )
    amd: AmdFabric | None = field(
        default=None,
        metadata=_text(
            "Data-fabric P-states of AMD packages; needs the HSMP driver and the agents' access"
            " to it."
        ),
    )


@frozen
class PowerConfig:
    """Which nodes are managed, what hands out CPUs beside the kubelet, and the agents' settings."""

    meta: Meta
    group: str = OPENSHIFT_GROUP
    power_node_selector: Mapping[str, str] | None = field(
        default=None,
        hash=False,
        metadata=_text(
            "Labels of the nodes that get an agent; left out or empty: all nodes.",
            maxProperties=64,
            labels=True,
        ),
    )
    custom_devices: tuple[str, ...] = field(
        default=(),
        metadata=_text(
            "Extended resources whose device plug-ins hand out CPUs, in place of the kubelet's CPU"
            " manager.",
            maxItems=64,
        ),
    )
    duplicate_power_config: str | None = field(
        default=None,
        metadata=_text(
            "What becomes of a PowerConfig that is not the oldest: delete (default), or reject,"
            " which only marks it.",
            enum=["delete", "reject"],
        ),
    )
    agent: AgentSettings = field(
        default=AgentSettings(), metadata=_text("Settings of the node agents.")
    )
    power_profiles: tuple[str, ...] = field(
        default=(),
        metadata=_text(
            "Profiles that operators before this one made; write PowerProfiles.", maxItems=64
        ),
    )


@frozen
class Unreadable:
    """An object that is there and cannot be read."""

    kind: str
    group: str
    name: str
    uid: str


@frozen
class Intent:
    """All objects of a cluster that decide about power, in any order.

    namespace: the one in which they count, where it is known; else that of the PowerConfig, else
    the usual one of their group.
    """

    profiles: tuple[PowerProfile, ...] = ()
    workloads: tuple[PowerWorkload, ...] = ()
    node_configs: tuple[PowerNodeConfig, ...] = ()
    uncores: tuple[Uncore, ...] = ()
    configs: tuple[PowerConfig, ...] = ()
    caps: tuple[PowerCap, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    namespace: str | None = field(default=None, kw_only=True)
