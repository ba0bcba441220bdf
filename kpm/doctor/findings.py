"""What the doctor may find: stable codes, what each means; the source of docs/user/doctor.md."""

from enum import StrEnum

from attrs import frozen


class Level(StrEnum):
    """error: something that is asked for does not happen; warning: it may not, or costs more."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """Stable codes of findings."""

    NO_SCALING_DRIVER = "no-scaling-driver"
    SCALING_DRIVER_OFF = "scaling-driver-off"
    FALLBACK_DRIVER = "fallback-driver"
    NO_EPP = "no-epp"
    NO_IDLE_STATES = "no-idle-states"
    IDLE_STATES_LIMITED = "idle-states-limited"
    FIRMWARE_LIMIT = "firmware-limit"
    TURBO_OFF = "turbo-off"
    OTHER_DAEMON = "other-daemon"
    CPU_MANAGER = "cpu-manager"
    RESERVED_CPUS = "reserved-cpus"
    NO_POD_RESOURCES = "no-pod-resources"
    SELINUX = "selinux"
    SYSFS_READ_ONLY = "sysfs-read-only"
    CGROUP_V1 = "cgroup-v1"
    OLD_KERNEL = "old-kernel"
    OLD_KUBERNETES = "old-kubernetes"
    NO_KINDS = "no-kinds"
    NO_POWERCONFIG = "no-powerconfig"
    NO_OPERATOR = "no-operator"
    NO_ADMISSION_POLICIES = "no-admission-policies"
    POD_SECURITY = "pod-security"
    NO_RIGHT = "no-right"
    NODE_SILENT = "node-silent"
    NODE_REFUSED = "node-refused"
    OTHER_SYSTEM = "other-system"


#: What each code means.
MEANINGS: dict[Code, str] = {
    Code.NO_SCALING_DRIVER: "No CPU has a scaling driver: no frequency can be set.",
    Code.SCALING_DRIVER_OFF: "The processor's own scaling driver is there and switched off.",
    Code.FALLBACK_DRIVER: (
        "The processor has a scaling driver of its own, and an older, general one is used: no EPP,"
        " few frequencies."
    ),
    Code.NO_EPP: "Without hardware P-states there is no energy performance preference (EPP).",
    Code.NO_IDLE_STATES: "No CPU has idle states: C-states can be neither allowed nor forbidden.",
    Code.IDLE_STATES_LIMITED: "The kernel's command line keeps CPUs from their idle states.",
    Code.FIRMWARE_LIMIT: "Heat, power or firmware holds CPUs below what is asked for.",
    Code.TURBO_OFF: "Turbo is off and no object asks for that here.",
    Code.OTHER_DAEMON: "A daemon of the node sets frequencies, governors or limits of power too.",
    Code.CPU_MANAGER: "The kubelet hands out no CPUs of one's own: no pod gets exclusive CPUs.",
    Code.RESERVED_CPUS: (
        "The kubelet names no reserved CPUs: which ones the system keeps changes with every pod."
    ),
    Code.NO_POD_RESOURCES: (
        "The kubelet's PodResources socket is not there: nobody knows whose CPUs are whose."
    ),
    Code.SELINUX: "SELinux enforces: a policy that is not the usual one may refuse an agent.",
    Code.SYSFS_READ_ONLY: "/sys is mounted read-only here: nothing can be set.",
    Code.CGROUP_V1: "Control groups are of version 1: energy of pods is not measured by CPU time.",
    Code.OLD_KERNEL: "The kernel is older than 5.10.",
    Code.OLD_KUBERNETES: "The API server is older than 1.30: admission policies do not exist.",
    Code.NO_KINDS: "The kinds of this system are not installed.",
    Code.NO_POWERCONFIG: "There is no PowerConfig, or several: no node is managed, or one is not.",
    Code.NO_OPERATOR: "No operator renews its lease: nothing is deployed or rolled up.",
    Code.NO_ADMISSION_POLICIES: (
        "Admission policies that keep agents to what is theirs are absent: no agents are made."
    ),
    Code.POD_SECURITY: "The namespace's Pod Security level refuses the agents' pods.",
    Code.NO_RIGHT: "You may not do what a verb of this program needs.",
    Code.NODE_SILENT: "A node that is selected has no agent that reports.",
    Code.NODE_REFUSED: "An agent reports that something is refused or does not settle.",
    Code.OTHER_SYSTEM: "Another system in the cluster sets what this one sets.",
}


@frozen
class Finding:
    """One finding. where: the node, object or file; mend: a command or a setting, which nobody
    runs by himself.
    """

    level: Level
    code: Code
    where: str
    message: str
    mend: str


def error(code: Code, where: str, message: str, mend: str) -> Finding:
    """Something that is asked for does not happen."""
    return Finding(Level.ERROR, code, where, message, mend)


def warning(code: Code, where: str, message: str, mend: str) -> Finding:
    """Something may not happen, or costs more."""
    return Finding(Level.WARNING, code, where, message, mend)
