"""What users ask for: the custom resources as values, as they were written.

Nothing here is resolved or judged. A frequency is an integer or a text; a quantity has been parsed
by the shell. `description` in a field's metadata is the text that the resource's schema shows.
"""

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from kpm_planner.model.agent_settings import AgentSettings
from kpm_planner.model.quantities import Quantity
from kpm_planner.model.schema import described as _text

OPENSHIFT_GROUP = "power.openshift.io"
INTEL_GROUP = "power.intel.com"
AMD_GROUP = "power.amdepyc.com"
#: API group → the one namespace in which its objects count.
SYSTEM_NAMESPACE = {
    OPENSHIFT_GROUP: "power-manager",
    INTEL_GROUP: "intel-power",
    AMD_GROUP: "power-manager",
}

EPP_WORDS = ("performance", "balance_performance", "balance_power", "power")


@frozen
class Meta:
    """Identity of an object. created: None where it is not known, which counts as newest.
    generation: of its spec, 0 where not known.
    """

    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    uid: str = ""
    created: datetime | None = None
    generation: int = 0


@frozen
class Requirement:
    """One expression of a label selector; operator: In, NotIn, Exists, DoesNotExist."""

    key: str = field(metadata=_text("The label."))
    operator: str = field(
        metadata=_text(
            "How the label is compared with the values.",
            enum=["In", "NotIn", "Exists", "DoesNotExist"],
        )
    )
    values: tuple[str, ...] = field(
        default=(),
        metadata=_text("Values for In and NotIn; none for Exists and DoesNotExist.", maxItems=64),
    )


@frozen
class LabelSelector:
    """A Kubernetes label selector: all of it must match."""

    match_labels: Mapping[str, str] = field(
        factory=dict,
        hash=False,
        metadata=_text("Labels that must have these values.", maxProperties=64),
    )
    match_expressions: tuple[Requirement, ...] = field(
        default=(), metadata=_text("Expressions that must all hold.", maxItems=64)
    )


@frozen
class NodeSelector:
    """Which nodes are meant, by their labels."""

    label_selector: LabelSelector | None = field(
        default=None, metadata=_text("A label selector over nodes; an empty one selects all.")
    )


_FREQUENCY = (
    'MHz below 100000, kHz from there on, or a percentage of the range of that CPU such as "40%".'
)


@frozen
class PStates:
    """Frequency limits, governor, energy-performance preference."""

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


@frozen
class CpuScalingPolicy:
    """Dynamic frequency for polling workloads. Durations as Go writes them: "10ms"."""

    workload_type: str | None = field(
        default=None, metadata=_text("What kind of load is scaled.", enum=["polling-dpdk"])
    )
    sample_period: str | None = field(
        default=None,
        metadata=_text(
            "Time between two looks at the load, 10ms to 1s. Default 10ms.", maxLength=16
        ),
    )
    cooldown_period: str | None = field(
        default=None,
        metadata=_text(
            "Time without change after a change, at least samplePeriod. Default 30ms.", maxLength=16
        ),
    )
    target_usage: int | None = field(
        default=None,
        metadata=_text(
            "Busy share of the polling loop to aim at, per cent. Default 80.",
            minimum=1,
            maximum=100,
        ),
    )
    allowed_usage_difference: int | None = field(
        default=None,
        metadata=_text(
            "Distance from targetUsage that changes nothing. Default 5.", minimum=0, maximum=50
        ),
    )
    allowed_frequency_difference: int | None = field(
        default=None,
        metadata=_text("Smallest change of frequency, MHz. Default 25.", minimum=0, maximum=99_999),
    )
    scale_percentage: int | None = field(
        default=None,
        metadata=_text(
            "How strongly the frequency follows the load, per cent. Default 50.",
            minimum=10,
            maximum=200,
        ),
    )
    fallback_freq_percent: int | None = field(
        default=None,
        metadata=_text(
            "Where between min and max to go without telemetry, per cent. Default 0.",
            minimum=0,
            maximum=100,
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
        metadata=_text("Labels of the nodes that are meant.", maxProperties=64),
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


DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_CLOCK = "^([01][0-9]|2[0-3]):[0-5][0-9]$"
_WATTS = {"minimum": 1, "maximum": 100_000}


@frozen
class StaticCap:
    """The same cap at all times."""

    watts: int | None = field(default=None, metadata=_text("The cap, W.", **_WATTS))


@frozen
class CapEntry:
    """From when on which cap holds."""

    time: str | None = field(
        default=None,
        metadata=_text(
            "When it begins, HH:MM in the source's time zone.", pattern=_CLOCK, maxLength=5
        ),
    )
    days: tuple[str, ...] = field(
        default=(),
        metadata=_text(
            "Days on which it begins; left out: every day.", maxItems=7, items={"enum": list(DAYS)}
        ),
    )
    watts: int | None = field(
        default=None, metadata=_text("The cap, W; this or percent.", **_WATTS)
    )
    percent: int | None = field(
        default=None,
        metadata=_text(
            "The cap as a share of maxWatts, or where that is left out of the maximum that firmware"
            " names.",
            minimum=1,
            maximum=100,
        ),
    )


@frozen
class SolarCap:
    """peakWatts x sin(pi x (t - sunrise) / (sunset - sunrise)) ^ exponent between sunrise and
    sunset, nothing outside.
    """

    peak_watts: int | None = field(
        default=None, metadata=_text("The cap half-way between sunrise and sunset, W.", **_WATTS)
    )
    sunrise: str | None = field(
        default=None,
        metadata=_text(
            "HH:MM in the source's time zone. Default 04:00.", pattern=_CLOCK, maxLength=5
        ),
    )
    sunset: str | None = field(
        default=None,
        metadata=_text("HH:MM, after sunrise. Default 20:00.", pattern=_CLOCK, maxLength=5),
    )
    exponent: int | None = field(
        default=None, metadata=_text("How steep the curve is. Default 4.", minimum=1, maximum=16)
    )


@frozen
class MarketCap:
    """peakWatts x volume of now / largest volume of the day."""

    peak_watts: int | None = field(
        default=None, metadata=_text("The cap at the largest volume, W.", **_WATTS)
    )
    volumes: tuple[int, ...] = field(
        default=(),
        metadata=_text(
            "Traded volume in equal parts of the day from midnight on, such as 24 or 96; of any"
            " unit.",
            maxItems=1440,
        ),
    )


@frozen
class ConfigMapKey:
    """A key of a ConfigMap in the system's namespace."""

    name: str | None = field(default=None, metadata=_text("Name of the ConfigMap.", maxLength=253))
    key: str | None = field(
        default=None, metadata=_text("Key whose text is a number of watts.", maxLength=253)
    )


@frozen
class ExternalCap:
    """A number of watts that somebody else names."""

    config_map: ConfigMapKey | None = field(
        default=None, metadata=_text("A key of a ConfigMap; this or url.")
    )
    url: str | None = field(
        default=None,
        metadata=_text(
            "An http or https address that answers with a number of watts.", maxLength=2048
        ),
    )
    max_age: str | None = field(
        default=None,
        metadata=_text("How old the last answer may be, such as 10m. Default 10m.", maxLength=16),
    )
    fallback_watts: int | None = field(
        default=None,
        metadata=_text(
            "The cap while there is no answer young enough, W; left out: none.", **_WATTS
        ),
    )


@frozen
class CapSource:
    """Where a cap comes from: exactly one of its kinds."""

    static: StaticCap | None = field(default=None, metadata=_text("The same cap at all times."))
    schedule: tuple[CapEntry, ...] = field(
        default=(),
        metadata=_text("Caps by time of day; the entry that began last holds.", maxItems=256),
    )
    solar: SolarCap | None = field(default=None, metadata=_text("A cap that follows the sun."))
    market: MarketCap | None = field(
        default=None, metadata=_text("A cap that follows traded volume.")
    )
    external: ExternalCap | None = field(
        default=None, metadata=_text("A cap that somebody else names.")
    )
    time_zone: str | None = field(
        default=None,
        metadata=_text("Time zone of all times, such as Europe/Paris. Default UTC.", maxLength=64),
    )


@frozen
class PowerCap:
    """How much power the packages of the nodes that it selects may take. Units: W."""

    meta: Meta
    group: str = OPENSHIFT_GROUP
    node_selector: NodeSelector | None = field(
        default=None, metadata=_text("Nodes that are meant; left out: none.")
    )
    source: CapSource = field(
        default=CapSource(),
        metadata=_text(
            "Where the cap comes from: exactly one of static, schedule, solar, market, external."
        ),
    )
    min_watts: int | None = field(
        default=None,
        metadata=_text(
            "The cap is never lower, W, of node or package as `per` says. Default 10 a package.",
            **_WATTS,
        ),
    )
    max_watts: int | None = field(
        default=None,
        metadata=_text("The cap is never higher, W, of node or package as `per` says.", **_WATTS),
    )
    max_step_watts: int | None = field(
        default=None,
        metadata=_text("The cap rises by at most so much a period, W; it falls at once.", **_WATTS),
    )
    divide: str | None = field(
        default=None,
        metadata=_text(
            "How a node's budget is divided over its packages. Default equal.",
            enum=["equal", "demand"],
        ),
    )
    per: str | None = field(
        default=None,
        metadata=_text(
            "Whether the source names the budget of the node (default) or of each package.",
            enum=["node", "package"],
        ),
    )
    constraint: str | None = field(
        default=None,
        metadata=_text(
            "Which limit is set; all: long_term and short_term alike. Default long_term.",
            enum=["long_term", "short_term", "all"],
        ),
    )
    period: str | None = field(
        default=None,
        metadata=_text("How often the cap is looked at anew, 5s to 1h. Default 60s.", maxLength=16),
    )


_UNCORE_KHZ = {"minimum": 100_000, "maximum": 12_700_000}


@frozen
class DieSelector:
    """Uncore limits of a package or of one die of it. Units: kHz."""

    package: int | None = field(default=None, metadata=_text("Package (socket) number.", minimum=0))
    die: int | None = field(
        default=None, metadata=_text("Die number; left out: all dies of the package.", minimum=0)
    )
    min: int | None = field(
        default=None, metadata=_text("Lowest uncore frequency, kHz.", **_UNCORE_KHZ)
    )
    max: int | None = field(
        default=None, metadata=_text("Highest uncore frequency, kHz.", **_UNCORE_KHZ)
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
    sys_min: int | None = field(
        default=None,
        metadata=_text("Lowest uncore frequency of the whole node, kHz.", **_UNCORE_KHZ),
    )
    sys_max: int | None = field(
        default=None,
        metadata=_text("Highest uncore frequency of the whole node, kHz.", **_UNCORE_KHZ),
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
            "Labels of the nodes that get an agent; left out or empty: all nodes.", maxProperties=64
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
class Node:
    """A cluster node."""

    name: str
    labels: Mapping[str, str] = field(factory=dict, hash=False)


@frozen
class Container:
    """A container of a pod that can own CPUs: an app container or a restartable init container.

    cpu, memory: (request, limit) with the request defaulted to the limit, None where absent.
    resources: other requests by name. claims: whether it uses resource claims. finished: whether it
    has terminated for good.
    """

    name: str
    cpu: tuple[Quantity | None, Quantity | None] = (None, None)
    memory: tuple[Quantity | None, Quantity | None] = (None, None)
    resources: tuple[tuple[str, Quantity], ...] = ()
    claims: bool = False
    finished: bool = False
    id: str = ""


@frozen
class Pod:
    """A pod. phase: "" where unknown. guaranteed: the API's QoS class, or computed from the
    containers where absent.

    wishes: annotations of CRI-O's that are about its CPUs. static_uid: of a static pod, the uid
    that the kubelet itself gives it; the API's is that of its mirror. others: (name, id) of
    containers that can own no CPUs.
    """

    meta: Meta
    containers: tuple[Container, ...] = ()
    node: str | None = None
    phase: str = ""
    started: datetime | None = None
    guaranteed: bool = False
    wishes: tuple[tuple[str, str], ...] = ()
    static_uid: str = ""
    others: tuple[tuple[str, str], ...] = ()

    @property
    def node_uid(self) -> str:
        """Its uid as cgroups and the container runtime have it."""
        return self.static_uid or self.meta.uid

    @property
    def live(self) -> bool:
        """Whether its containers can still own CPUs; a deletionTimestamp changes nothing."""
        return self.phase not in ("Succeeded", "Failed")


@frozen
class Unreadable:
    """An object that is there and cannot be read."""

    kind: str
    group: str
    name: str
    uid: str


@frozen
class Intent:
    """All objects of a cluster that decide about power, in any order."""

    profiles: tuple[PowerProfile, ...] = ()
    workloads: tuple[PowerWorkload, ...] = ()
    node_configs: tuple[PowerNodeConfig, ...] = ()
    uncores: tuple[Uncore, ...] = ()
    configs: tuple[PowerConfig, ...] = ()
    caps: tuple[PowerCap, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
