"""What users ask for: the custom resources as values, as they were written.

Nothing here is resolved or judged. A frequency is an integer or a text; a quantity has been parsed by the shell.
`description` in a field's metadata is the text that the resource's schema shows.
"""

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from kpm_planner.quantities import Quantity

OPENSHIFT_GROUP = "power.openshift.io"
INTEL_GROUP = "power.intel.com"
#: API group → the one namespace in which its objects count.
SYSTEM_NAMESPACE = {OPENSHIFT_GROUP: "power-manager", INTEL_GROUP: "intel-power"}

EPP_WORDS = ("performance", "balance_performance", "balance_power", "power")


def _text(description: str) -> dict[str, str]:
    return {"description": description}


@frozen
class Meta:
    """Identity of an object. created: None where it is not known, which counts as newest."""

    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    uid: str = ""
    created: datetime | None = None


@frozen
class Requirement:
    """One expression of a label selector; operator: In, NotIn, Exists, DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@frozen
class LabelSelector:
    """A Kubernetes label selector: all of it must match."""

    match_labels: Mapping[str, str] = field(factory=dict, hash=False)
    match_expressions: tuple[Requirement, ...] = ()


@frozen
class NodeSelector:
    """Wrapper of a label selector over nodes."""

    label_selector: LabelSelector | None = None


@frozen
class PStates:
    """Frequency limits, governor, energy-performance preference."""

    min: int | str | None = field(default=None, metadata=_text('Lowest frequency: MHz below 100000, kHz from there on, or a percentage such as "40%".'))
    max: int | str | None = field(default=None, metadata=_text('Highest frequency: MHz below 100000, kHz from there on, or a percentage such as "40%".'))
    governor: str | None = field(default=None, metadata=_text("A governor that the node's driver offers."))
    epp: str | None = field(default=None, metadata=_text("performance, balance_performance, balance_power or power."))


@frozen
class CStates:
    """Idle states, by name or by the longest wake-up latency, never both."""

    names: Mapping[str, bool] | None = field(default=None, hash=False, metadata=_text("Idle state name to on or off; a state not named stays as it was."))
    max_latency_us: int | None = field(default=None, metadata=_text("States with a longer exit latency (µs) are off, the others on."))


@frozen
class CpuScalingPolicy:
    """Dynamic frequency for polling workloads. Durations as Go writes them: "10ms"."""

    workload_type: str | None = None
    sample_period: str | None = None
    cooldown_period: str | None = None
    target_usage: int | None = None
    allowed_usage_difference: int | None = None
    allowed_frequency_difference: int | None = None
    scale_percentage: int | None = None
    fallback_freq_percent: int | None = None


@frozen
class ReservedCpus:
    """CPUs kept from pods, and the profile that they run under (none: baseline)."""

    cores: tuple[int, ...] = ()
    power_profile: str | None = None


@frozen
class PowerProfile:
    """How a CPU should run."""

    meta: Meta
    group: str = OPENSHIFT_GROUP
    name: str | None = None
    shared: bool = False
    node_selector: NodeSelector | None = None
    pstates: PStates = PStates()
    cstates: CStates = CStates()
    cpu_capacity: int | str | None = None
    cpu_scaling_policy: CpuScalingPolicy | None = None


@frozen
class PowerWorkload:
    """The shared pool (allCores) and the reserved CPUs of the nodes it selects."""

    meta: Meta
    group: str = OPENSHIFT_GROUP
    name: str | None = None
    all_cores: bool = False
    reserved_cpus: tuple[ReservedCpus, ...] = ()
    power_node_selector: Mapping[str, str] | None = field(default=None, hash=False)
    power_profile: str | None = None


@frozen
class PowerNodeConfig:
    """The shared pool and the reserved CPUs of all nodes that match."""

    meta: Meta
    group: str = OPENSHIFT_GROUP
    node_selector: NodeSelector | None = None
    shared_power_profile: str | None = None
    reserved_cpus: tuple[ReservedCpus, ...] = ()


@frozen
class DieSelector:
    """Uncore limits of a package or of one die of it. Units: kHz."""

    package: int | None = None
    die: int | None = None
    min: int | None = None
    max: int | None = None


@frozen
class Uncore:
    """Uncore frequency limits of a node named like the object, or of the nodes it selects. Units: kHz."""

    meta: Meta
    group: str = OPENSHIFT_GROUP
    sys_min: int | None = None
    sys_max: int | None = None
    die_selector: tuple[DieSelector, ...] = ()
    node_selector: NodeSelector | None = None


@frozen
class PowerConfig:
    """Which nodes are managed, and what hands out CPUs beside the kubelet."""

    meta: Meta
    group: str = OPENSHIFT_GROUP
    power_node_selector: Mapping[str, str] | None = field(default=None, hash=False)
    custom_devices: tuple[str, ...] = ()


@frozen
class Node:
    """A cluster node."""

    name: str
    labels: Mapping[str, str] = field(factory=dict, hash=False)


@frozen
class Container:
    """A container of a pod that can own CPUs: an app container or a restartable init container.

    cpu, memory: (request, limit) with the request defaulted to the limit, None where absent. resources: other requests
    by name. claims: whether it uses resource claims. finished: whether it has terminated for good.
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
    """A pod. phase: "" where unknown. guaranteed: the API's QoS class, or computed from the containers where absent."""

    meta: Meta
    containers: tuple[Container, ...] = ()
    node: str | None = None
    phase: str = ""
    started: datetime | None = None
    guaranteed: bool = False

    @property
    def live(self) -> bool:
        """Whether its containers can still own CPUs; a deletionTimestamp changes nothing."""
        return self.phase not in ("Succeeded", "Failed")


@frozen
class Intent:
    """All objects of a cluster that decide about power, in any order."""

    profiles: tuple[PowerProfile, ...] = ()
    workloads: tuple[PowerWorkload, ...] = ()
    node_configs: tuple[PowerNodeConfig, ...] = ()
    uncores: tuple[Uncore, ...] = ()
    configs: tuple[PowerConfig, ...] = ()
