"""What could not be honoured, as values with stable codes.

A problem is collected, never raised: one bad object never stops the rest. An error makes its object
invalid on that node, a warning does not. docs/user/problems.md lists this registry.
"""

from enum import StrEnum

from attrs import frozen


class Severity(StrEnum):
    """How much a problem spoils."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """The stable codes; a code is never renamed and never used for something else."""

    ADMISSION_MISSING = "admission-missing"
    AGENT_IMAGE = "agent-image"
    ALLOCATION_DIFFERS = "allocation-differs"
    ALLOCATION_UNKNOWN = "allocation-unknown"
    CAP_CONSTRAINT = "cap-constraint"
    CAP_HOST = "cap-host"
    CAP_MIRROR = "cap-mirror"
    CAP_RANGE = "cap-range"
    CAP_SOURCE = "cap-source"
    CAP_STALE = "cap-stale"
    CAP_SUPERSEDED = "cap-superseded"
    CAP_TIME_ZONE = "cap-time-zone"
    CAP_UNSUPPORTED = "cap-unsupported"
    CAPACITY_CLAMPED = "capacity-clamped"
    CAPACITY_FORMAT = "capacity-format"
    CONFIG_SUPERSEDED = "config-superseded"
    CPU_MANAGER_INACTIVE = "cpu-manager-inactive"
    DOMAIN_CONFLICT = "domain-conflict"
    DRIVER_UNTESTED = "driver-untested"
    ENERGY_CGROUPS = "energy-cgroups"
    ENERGY_IMPLAUSIBLE = "energy-implausible"
    ENERGY_NO_METER = "energy-no-meter"
    ENERGY_RESET = "energy-reset"
    ENERGY_SERIES = "energy-series"
    ENERGY_STATE = "energy-state"
    ENERGY_UNREADABLE = "energy-unreadable"
    ENERGY_WRAPPED = "energy-wrapped"
    EPB_UNSUPPORTED = "epb-unsupported"
    EPB_VALUE = "epb-value"
    EPP_GOVERNOR = "epp-governor"
    EPP_UNSUPPORTED = "epp-unsupported"
    EPP_WORD = "epp-word"
    FABRIC_RANGE = "fabric-range"
    FABRIC_UNSUPPORTED = "fabric-unsupported"
    FREQUENCY_BASE_UNKNOWN = "frequency-base-unknown"
    FREQUENCY_COLLAPSED = "frequency-collapsed"
    FREQUENCY_FORMAT = "frequency-format"
    FREQUENCY_LIMIT_UNKNOWN = "frequency-limit-unknown"
    FREQUENCY_LIMITED = "frequency-limited"
    FREQUENCY_ORDER = "frequency-order"
    FREQUENCY_RANGE = "frequency-range"
    FREQUENCY_UNSUPPORTED = "frequency-unsupported"
    GOVERNOR_STATIC = "governor-static"
    GOVERNOR_UNAVAILABLE = "governor-unavailable"
    IDLE_ALL_OFF = "idle-all-off"
    IDLE_BOTH = "idle-both"
    IDLE_LATENCY = "idle-latency"
    IDLE_LIMITED = "idle-limited"
    IDLE_MECHANISM = "idle-mechanism"
    IDLE_NAME_UNKNOWN = "idle-name-unknown"
    IDLE_UNSUPPORTED = "idle-unsupported"
    LAST_VALID = "last-valid"
    NAME_IN_BOTH_GROUPS = "name-in-both-groups"
    NAME_MISMATCH = "name-mismatch"
    NAME_TOO_LONG = "name-too-long"
    NAMESPACE_IGNORED = "namespace-ignored"
    NO_SELECTOR = "no-selector"
    NODE_NOT_SELECTED = "node-not-selected"
    OBJECT_UNREADABLE = "object-unreadable"
    POD_ANNOTATIONS = "pod-annotations"
    POD_COUNT = "pod-count"
    POD_COUNT_CHANGED = "pod-count-changed"
    POD_EARLIER_GROUP = "pod-earlier-group"
    POD_NOT_GUARANTEED = "pod-not-guaranteed"
    POD_OVERLAP = "pod-overlap"
    POD_PROFILE = "pod-profile"
    POD_TWO_PROFILES = "pod-two-profiles"
    POD_UNKNOWN = "pod-unknown"
    POD_WITHOUT_CPUS = "pod-without-cpus"
    PROFILE_EARLIER_FORM = "profile-earlier-form"
    PROFILE_INVALID = "profile-invalid"
    PROFILE_MISSING = "profile-missing"
    PROFILE_NOT_SHARED = "profile-not-shared"
    RESERVED_CONFLICT = "reserved-conflict"
    RESERVED_DIFFERS = "reserved-differs"
    RESERVED_OWNED = "reserved-owned"
    RESERVED_UNKNOWN_CPU = "reserved-unknown-cpu"
    RIVAL_POLICY = "rival-policy"
    SCALING_POLICY = "scaling-policy"
    SELECTOR_INVALID = "selector-invalid"
    SHARED_SUPERSEDED = "shared-superseded"
    SIBLING_CONFLICT = "sibling-conflict"
    TURBO_SUPERSEDED = "turbo-superseded"
    TURBO_UNSUPPORTED = "turbo-unsupported"
    UNCORE_DIE = "uncore-die"
    UNCORE_ENDS = "uncore-ends"
    UNCORE_ORDER = "uncore-order"
    UNCORE_RANGE = "uncore-range"
    UNCORE_SUPERSEDED = "uncore-superseded"
    UNCORE_UNSUPPORTED = "uncore-unsupported"
    VERSION_UNKNOWN = "version-unknown"
    WRITE_REFUSED = "write-refused"


@frozen(order=True)
class Problem:
    """One thing that could not be honoured.

    object: "Kind/name", "Pod/namespace/name" or "Node/name"; field: the user's own path below it,
    or "".
    """

    severity: Severity
    code: Code
    object: str
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.object}: {self.field}" if self.field else self.object
        return f"{self.severity}: {place}: {self.message} [{self.code}]"


def error(code: Code, obj: str, field: str, message: str) -> Problem:
    """A problem that makes its object invalid on the node."""
    return Problem(Severity.ERROR, code, _printable(obj), _printable(field), _printable(message))


def warning(code: Code, obj: str, field: str, message: str) -> Problem:
    """A problem that leaves its object in force."""
    return Problem(Severity.WARNING, code, _printable(obj), _printable(field), _printable(message))


def _printable(text: str) -> str:
    """What users wrote, with everything escaped that would break a line or colour a terminal."""
    return (
        text
        if text.isprintable()
        else "".join(
            (
                char
                if char.isprintable()
                else char.encode("unicode_escape", "backslashreplace").decode()
            )
            for char in text
        )
    )


def has_errors(problems: tuple[Problem, ...]) -> bool:
    """Whether any of the problems is an error."""
    # asked of every profile and every owner, and most have none
    return bool(problems) and any(problem.severity is Severity.ERROR for problem in problems)


#: What each code means and what to do; the source of docs/user/problems.md.
REGISTRY: dict[Code, tuple[str, str]] = {
    Code.ADMISSION_MISSING: (
        (
            "The admission policies that keep agents and operator to what is theirs are not"
            " installed, or do not refuse; no agents are made."
        ),
        (
            "kubectl apply -f admission-policies.yaml of the release (an OLM bundle cannot carry"
            " them), or make deploy, or the Helm chart."
        ),
    ),
    Code.AGENT_IMAGE: (
        (
            "The PowerConfig names an image of the agents that the operator's settings do not"
            " allow; agents run the operator's own."
        ),
        (
            "Name it in AGENT_IMAGES_ALLOWED of the operator and in the admission policy"
            " power-manager-operator, or leave agent.image out."
        ),
    ),
    Code.ALLOCATION_DIFFERS: (
        (
            "The kubelet says that a container has other CPUs than the container runtime has bound"
            " it to, or its claim names others than it is bound to."
        ),
        (
            "Usually passes; else another NRI plugin moves containers (balloons, topology-aware):"
            " let one of them hand out CPUs."
        ),
    ),
    Code.ALLOCATION_UNKNOWN: (
        "Which CPUs the containers own is not known.",
        (
            "Nothing that could be allocated is written until it is. Offline: give --pod-resources"
            " or --assign-cpus."
        ),
    ),
    Code.CAP_CONSTRAINT: (
        "The package has no limit of the name that `constraint` asks for.",
        "Use long_term, or unselect the node.",
    ),
    Code.CAP_HOST: (
        "The cap's source is a server that the operator's settings do not name, so nobody asks it.",
        "Name its host in EXTERNAL_HOSTS of the operator, or let a ConfigMap hold the number.",
    ),
    Code.CAP_MIRROR: (
        (
            "The memory-mapped twin of the package's limit is lower than the cap, and the hardware"
            " obeys the lower one."
        ),
        "Raise it in firmware, or stop what sets it (thermald); this system never writes it.",
    ),
    Code.CAP_RANGE: (
        "The bounds, the step or the period of the cap make no sense.",
        "See the message for what is allowed.",
    ),
    Code.CAP_SOURCE: (
        "The source of the cap is not exactly one valid source.",
        "Give one of static, schedule, solar, market, external as the message says.",
    ),
    Code.CAP_STALE: (
        "The external source has not answered lately.",
        "See to the source; fallbackWatts or no cap holds meanwhile.",
    ),
    Code.CAP_SUPERSEDED: ("Two PowerCaps match one node; one holds.", "Keep one of them."),
    Code.CAP_TIME_ZONE: (
        "The time zone does not exist.",
        "Write a name such as UTC or Europe/Paris.",
    ),
    Code.CAP_UNSUPPORTED: (
        "The node has nothing that caps the power of a package.",
        (
            "See `kpm discover`; in a cluster set spec.agent.powerCaps of the PowerConfig, on AMD"
            " load amd_hsmp."
        ),
    ),
    Code.CAPACITY_CLAMPED: (
        "cpuCapacity is more than the node has, or rounds down to no CPU.",
        "Lower or raise cpuCapacity.",
    ),
    Code.CAPACITY_FORMAT: (
        "cpuCapacity is neither a whole number from 1 nor a percentage.",
        'Write 4 or "75%".',
    ),
    Code.CONFIG_SUPERSEDED: (
        "More than one PowerConfig; the oldest holds.",
        "Delete the later one.",
    ),
    Code.CPU_MANAGER_INACTIVE: (
        "The kubelet names no allocatable CPUs, so it hands out none.",
        "Set cpuManagerPolicy: static and reservedSystemCPUs in the kubelet's configuration.",
    ),
    Code.DOMAIN_CONFLICT: (
        "CPUs of one frequency domain have different targets; the highest holds.",
        "Give the CPUs of a domain to one profile, or accept the higher one.",
    ),
    Code.DRIVER_UNTESTED: (
        "The node's scaling driver is none of those that were tried; the general rules set it.",
        "Try the profile on one node, look at `kpm diff` afterwards, and tell us what you saw.",
    ),
    Code.ENERGY_CGROUPS: (
        "The node has more cgroups than are measured one by one.",
        "The CPU time of the rest counts as system; find what makes cgroups without end.",
    ),
    Code.ENERGY_IMPLAUSIBLE: (
        "A meter shows more than can have passed through it; the interval is not counted.",
        "See to the sensor; other meters go on.",
    ),
    Code.ENERGY_NO_METER: (
        "The node has nothing that measures energy.",
        (
            "Normal in virtual machines; set estimate: true to have an estimate, which is labelled"
            " as one."
        ),
    ),
    Code.ENERGY_RESET: (
        "A counter began anew; the energy of that interval is not known and not counted.",
        "None, if a driver was loaded again or the machine slept.",
    ),
    Code.ENERGY_SERIES: (
        "There are more time series than maxSeries; the levels named last are left out.",
        "Raise maxSeries, or choose fewer levels.",
    ),
    Code.ENERGY_STATE: (
        "The totals of energy cannot be kept over a restart of the agent.",
        "See the message; counters begin at 0 when the agent starts.",
    ),
    Code.ENERGY_UNREADABLE: (
        (
            "A meter cannot be read, or shows what is no number; its energy counts with the next"
            " reading."
        ),
        "RAPL counters need root; see the message for the file.",
    ),
    Code.ENERGY_WRAPPED: (
        (
            "The time between two readings allows for more than one wrap of the counter; the least"
            " is counted."
        ),
        "Sample more often.",
    ),
    Code.EPB_UNSUPPORTED: (
        "The CPUs have no energy performance bias, or none beside their EPP.",
        "Remove epb for these nodes; where EPP and EPB are one register, set epp.",
    ),
    Code.EPB_VALUE: (
        "epb is neither a number from 0 to 15 nor one of its words.",
        "See the message for what is allowed.",
    ),
    Code.EPP_GOVERNOR: (
        "Under governor performance the kernel accepts no EPP but performance.",
        "Drop epp, or choose governor powersave.",
    ),
    Code.EPP_UNSUPPORTED: (
        "The node's driver has no EPP; the rest of the profile applies.",
        "Remove epp for these nodes, or switch the driver's mode.",
    ),
    Code.EPP_WORD: (
        "The EPP is not one of the four words.",
        "Write performance, balance_performance, balance_power or power.",
    ),
    Code.FABRIC_RANGE: (
        "The data-fabric P-states are out of range, the wrong way round, or only one is given.",
        "0 is the fastest: dfPstateMax at most dfPstateMin.",
    ),
    Code.FABRIC_UNSUPPORTED: (
        "The node's data fabric cannot be set.",
        (
            "Load amd_hsmp, turn HSMP on in firmware, use the hsmp overlay; ranges need protocol 5"
            " or 7."
        ),
    ),
    Code.FREQUENCY_BASE_UNKNOWN: (
        "The profile asks for the base frequency, and the node does not say what it is.",
        "Write MHz, kHz or a percentage; `kpm discover -o json` shows baseKHz where it is known.",
    ),
    Code.FREQUENCY_COLLAPSED: (
        "Minimum and maximum meet at the maximum of one kind of core.",
        "Lower the minimum, or use percentages.",
    ),
    Code.FREQUENCY_FORMAT: (
        "The value is no frequency.",
        'Write MHz (1500), kHz (1500000), a percentage ("40%"), or min, base or max.',
    ),
    Code.FREQUENCY_LIMIT_UNKNOWN: (
        (
            "The frequency is above the hardware's highest of now; turbo is off, and no file says"
            " how high it would go with turbo. It is clamped."
        ),
        "Turn turbo on, or ask for less.",
    ),
    Code.FREQUENCY_LIMITED: (
        (
            "Limits of intel_pstate as a whole, which somebody else has set, keep CPUs from the"
            " frequencies that are asked."
        ),
        (
            "Set min_perf_pct and max_perf_pct of intel_pstate back where they come from: TuneD,"
            " TLP, a boot script."
        ),
    ),
    Code.FREQUENCY_ORDER: ("The minimum lies above the maximum.", "Swap or correct them."),
    Code.FREQUENCY_RANGE: (
        "The frequency lies outside the range of every core of the node.",
        "Choose a value inside the range; percentages always are.",
    ),
    Code.FREQUENCY_UNSUPPORTED: (
        "CPUs of the node have no scaling driver, or no file says what range it has.",
        "Check `kpm discover`; C-states still apply.",
    ),
    Code.GOVERNOR_STATIC: (
        "Under this driver powersave pins CPUs at the lowest frequency.",
        "Choose schedutil or ondemand if that is not meant.",
    ),
    Code.GOVERNOR_UNAVAILABLE: (
        "The governor does not exist on the node.",
        "Choose one of those that the message lists.",
    ),
    Code.IDLE_ALL_OFF: (
        "All idle states are off; the kernel uses the first one all the same.",
        "Leave at least one state on.",
    ),
    Code.IDLE_BOTH: ("Both names and maxLatencyUs are given.", "Give one of them."),
    Code.IDLE_LATENCY: ("maxLatencyUs is not a whole number from 0.", "Write microseconds."),
    Code.IDLE_LIMITED: (
        (
            "Somebody else limits how long CPUs may take to wake up, so deeper idle states are not"
            " entered, whatever a profile asks."
        ),
        "See CRI-O's annotations of the pods there, and TuneD's profile.",
    ),
    Code.IDLE_MECHANISM: (
        (
            "The agents may not set idle states in the way that the profile asks for; its C-states"
            " stay as they are."
        ),
        (
            "Use maxLatencyUs under idleStates: byLatency, names under byName; the operator's"
            " --idle-states may allow less."
        ),
    ),
    Code.IDLE_NAME_UNKNOWN: (
        "No CPU of the node has an idle state of this name.",
        "Use a name that the message lists, or maxLatencyUs.",
    ),
    Code.IDLE_UNSUPPORTED: (
        "The node has no idle states to manage.",
        "Check `kpm discover`; frequencies still apply.",
    ),
    Code.LAST_VALID: (
        (
            "The object has errors on this node since it was edited; the version that was last"
            " valid here stays in force, or, where that has errors today too, baseline."
        ),
        "Mend the object, or delete it to let go.",
    ),
    Code.NAME_IN_BOTH_GROUPS: (
        "The same name exists in both API groups.",
        "Delete one of the two.",
    ),
    Code.NAME_MISMATCH: (
        "spec.name differs from metadata.name, which is the identity.",
        "Make them equal, or drop spec.name.",
    ),
    Code.NAME_TOO_LONG: (
        "The name does not fit in an extended resource.",
        "Use at most 63 characters.",
    ),
    Code.NAMESPACE_IGNORED: (
        "The object is not in the system's namespace and has no effect.",
        "Create it in the namespace that the message names.",
    ),
    Code.NO_SELECTOR: (
        (
            "The object has no nodeSelector, and where it needs one it is in force nowhere; an"
            " Uncore without one is about the node of its name."
        ),
        "Write nodeSelector: {labelSelector: {}} for all nodes, or labels of those that are meant.",
    ),
    Code.NODE_NOT_SELECTED: (
        "The PowerConfig does not select this node; nothing on it is managed.",
        "Label the node, or change powerNodeSelector.",
    ),
    Code.OBJECT_UNREADABLE: (
        "The object holds something that this version cannot read; it has no effect.",
        "Correct the field that the message names.",
    ),
    Code.POD_ANNOTATIONS: (
        "The pod has annotations by which CRI-O sets its CPUs too, or with a value that is none.",
        "Drop them, or set agent.crioAnnotations: accept.",
    ),
    Code.POD_COUNT: (
        "The number of profile resources differs from the number of CPUs.",
        "Ask for as many of the profile as of cpu.",
    ),
    Code.POD_COUNT_CHANGED: (
        "The container's CPUs changed after it had been accepted.",
        "Nothing; the profile stays in force.",
    ),
    Code.POD_EARLIER_GROUP: (
        "A pod asks for a profile in the group of an earlier operator; it has it while it runs.",
        "Change its manifest before it is created again: nodes offer the group of the message.",
    ),
    Code.POD_NOT_GUARANTEED: (
        "The container asks for a profile but can own no CPUs.",
        "Whole cpu, requests equal to limits, for all containers.",
    ),
    Code.POD_OVERLAP: (
        "Two containers are reported to own one CPU; the later pod has it.",
        "Usually passes; else restart the kubelet.",
    ),
    Code.POD_PROFILE: (
        "The profile is missing, invalid or shared; its CPUs stay at baseline.",
        "Correct the profile or the pod.",
    ),
    Code.POD_TWO_PROFILES: ("A container asks for more than one profile.", "Ask for exactly one."),
    Code.POD_UNKNOWN: (
        "CPUs are reported for a pod that the API does not show.",
        "Usually passes; its CPUs stay at baseline.",
    ),
    Code.POD_WITHOUT_CPUS: (
        (
            "The container runs and asks for a profile, and the kubelet names no CPUs of its own"
            " for it."
        ),
        (
            "It is treated like any container without a profile. Give it whole CPUs of its own (QoS"
            " Guaranteed), or make it anew."
        ),
    ),
    Code.PROFILE_EARLIER_FORM: (
        (
            "The profile has fields as the operators before this one wrote them, or a PowerConfig"
            " names profiles that those made."
        ),
        "Write them below spec.pstates, and profiles as PowerProfiles.",
    ),
    Code.PROFILE_INVALID: (
        "The profile has errors on this node.",
        "See the profile's own problems.",
    ),
    Code.PROFILE_MISSING: (
        "No profile of this name is in force on this node.",
        "Create it, or correct the name or the selector.",
    ),
    Code.PROFILE_NOT_SHARED: (
        "The profile of the shared pool is not marked shared.",
        "Set shared: true unless pods use it too.",
    ),
    Code.RESERVED_CONFLICT: (
        "One reserved CPU has two profiles; it stays at baseline.",
        "Name it once.",
    ),
    Code.RESERVED_DIFFERS: (
        "The reserved CPUs differ from those that the kubelet reserves.",
        "Make reservedCPUs and reservedSystemCPUs equal.",
    ),
    Code.RESERVED_OWNED: (
        "A container owns a reserved CPU and has it.",
        "Make reservedCPUs and reservedSystemCPUs equal.",
    ),
    Code.RESERVED_UNKNOWN_CPU: ("A reserved CPU does not exist on the node.", "Correct the list."),
    Code.RIVAL_POLICY: (
        (
            "A resource policy of NRI (balloons, topology-aware) runs on the node; it moves"
            " containers and may set frequencies. The message says what it holds."
        ),
        (
            "Let it set no frequencies; its containers are tuned where agent.source is auto or nri"
            " and they ask for a profile."
        ),
    ),
    Code.SCALING_POLICY: (
        "The scaling policy is out of its ranges.",
        "See the message for the range.",
    ),
    Code.SELECTOR_INVALID: (
        "The label selector is not valid; it selects nothing.",
        "Use In, NotIn, Exists, DoesNotExist as the API has them.",
    ),
    Code.SHARED_SUPERSEDED: (
        "Two objects define the shared pool of one node; the older holds.",
        "Keep one of them.",
    ),
    Code.SIBLING_CONFLICT: (
        "Hyperthreads of one core have different targets; the hardware runs the higher.",
        "Give whole cores to one profile.",
    ),
    Code.TURBO_SUPERSEDED: (
        "Two PowerNodeConfigs set turbo of one node differently; the older holds.",
        "Keep one of them, or give them the same value.",
    ),
    Code.TURBO_UNSUPPORTED: (
        "The node has no switch of turbo.",
        "None; the rest of the object applies.",
    ),
    Code.UNCORE_DIE: (
        "The package or die does not exist on the node.",
        "Use one that the message lists.",
    ),
    Code.UNCORE_ENDS: ("Only one end of an uncore range is given.", "Give both ends."),
    Code.UNCORE_ORDER: ("The uncore minimum lies above the maximum.", "Swap or correct them."),
    Code.UNCORE_RANGE: (
        "The uncore frequency lies outside the entry's range.",
        "Choose a value inside the range.",
    ),
    Code.UNCORE_SUPERSEDED: ("Two Uncore objects match one node; one holds.", "Keep one of them."),
    Code.UNCORE_UNSUPPORTED: (
        "The node has no uncore frequency control.",
        "Load intel_uncore_frequency, or unselect the node.",
    ),
    Code.VERSION_UNKNOWN: (
        (
            "The object has errors, and which version of it was last valid on the node is not known"
            " here: a plan without the node's state, or state that was lost."
        ),
        "Mend the object; `kpm apply` and agents keep the last valid version.",
    ),
    Code.WRITE_REFUSED: (
        (
            "The kernel, or what stands before it, refused a write; that file alone keeps what it"
            " held."
        ),
        "See the message for errno and remedy.",
    ),
}
