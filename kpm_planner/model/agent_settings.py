"""Settings of the node agents, as they stand in a PowerConfig."""

from enum import StrEnum

from attrs import field, frozen

from kpm_planner.model.schema import described as _text


class IdleStates(StrEnum):
    """How agents may set idle states, the most first; it is a matter of privilege.

    BY_NAME: each state by itself, which needs CAP_SYS_ADMIN. BY_LATENCY: maxLatencyUs alone, as a
    limit of each CPU, which needs no capability. OFF: not at all.
    """

    BY_NAME = "byName"
    BY_LATENCY = "byLatency"
    OFF = "off"

    @classmethod
    def of(cls, text: str | None) -> "IdleStates":
        """A setting as it is written; left out, the most; a word of another version is taken for
        the least.
        """
        return cls.BY_NAME if text is None else cls(text) if text in set(cls) else cls.OFF

    def within(self, most: "IdleStates") -> "IdleStates":
        """The same, or what is the most that is allowed."""
        order = list(IdleStates)
        return order[max(order.index(self), order.index(most))]


class CpuSource(StrEnum):
    """Where agents learn which container has which CPUs.

    PODRESOURCES: from the kubelet alone, asked while a container is awaited. NRI: from the
    container runtime as well, before the container's first instruction, and that others than the
    kubelet hand out CPUs. AUTO: from both where the runtime has NRI.
    """

    AUTO = "auto"
    PODRESOURCES = "podresources"
    NRI = "nri"

    @classmethod
    def of(cls, text: str | None) -> "CpuSource":
        """A setting as it is written; a word of another version is taken for the one that is always
        there.
        """
        return cls.AUTO if text is None else cls(text) if text in set(cls) else cls.PODRESOURCES


class MetricsAccess(StrEnum):
    """Who may read the agents' metrics.

    OPEN: whoever reaches the port, without TLS. CERTIFICATE: by TLS, who shows a certificate of the
    authority that the Secret names. TOKEN: by TLS, who shows a token of the cluster whose account
    may get /metrics.
    """

    OPEN = "open"
    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105  # the name of a way, no secret

    @classmethod
    def of(cls, text: str | None) -> "MetricsAccess":
        """A setting as it is written; a word of another version is taken
        for the closest of them.
        """
        return cls.OPEN if text is None else cls(text) if text in set(cls) else cls.CERTIFICATE


@frozen
class Toleration:
    """A taint that the agent's pods tolerate, as in a pod's specification."""

    key: str | None = field(
        default=None,
        metadata=_text(
            "The taint's key; left out with operator Exists: every taint.", maxLength=316
        ),
    )
    operator: str | None = field(
        default=None,
        metadata=_text("How key and value are compared. Default Equal.", enum=["Exists", "Equal"]),
    )
    value: str | None = field(default=None, metadata=_text("The taint's value.", maxLength=63))
    effect: str | None = field(
        default=None,
        metadata=_text(
            "The effect that is tolerated; left out: all.",
            enum=["NoSchedule", "PreferNoSchedule", "NoExecute"],
        ),
    )
    toleration_seconds: int | None = field(
        default=None, metadata=_text("How long NoExecute is tolerated; left out: for ever.")
    )


METRIC_LEVELS = ("node", "pod", "container", "process")
METRIC_NAMES = ("kpm", "kepler", "kepler-0.7")


@frozen
class MetricSettings:
    """What the agents measure and tell; left out altogether, no energy is measured."""

    levels: tuple[str, ...] = field(
        default=(),
        metadata=_text(
            "What energy is told of; process needs /proc. Where there are more series than"
            " maxSeries, those named last are left out. Default node, pod, container.",
            maxItems=4,
            items={"enum": list(METRIC_LEVELS)},
        ),
    )
    names: tuple[str, ...] = field(
        default=(),
        metadata=_text(
            "Names of the energy metrics: our own, Kepler's present ones, those of its 0.7 line."
            " Default kpm, kepler.",
            maxItems=3,
            items={"enum": list(METRIC_NAMES)},
        ),
    )
    idle: str | None = field(
        default=None,
        metadata=_text(
            "Whose idle energy is: owner, of exclusive CPUs (default); requests, beside that by CPU"
            " request; node, nobody's.",
            enum=["owner", "requests", "node"],
        ),
    )
    interval: str | None = field(
        default=None,
        metadata=_text("How often the meters are read, 1s to 60s. Default 10s.", maxLength=16),
    )
    estimate: bool = field(
        default=False,
        metadata=_text(
            "Estimate the energy of nodes that have no meter; what is estimated is labelled so."
        ),
    )
    max_series: int | None = field(
        default=None,
        metadata=_text(
            "Most energy series that a node tells. Default 20000.", minimum=100, maximum=1_000_000
        ),
    )


@frozen
class AgentSettings:
    """Settings of the node agents."""

    image: str | None = field(
        default=None, metadata=_text("Container image; left out: the operator's.", maxLength=512)
    )
    image_pull_policy: str | None = field(
        default=None,
        metadata=_text("When the image is pulled.", enum=["Always", "IfNotPresent", "Never"]),
    )
    tolerations: tuple[Toleration, ...] = field(
        default=(), metadata=_text("Taints that the agents tolerate.", maxItems=64)
    )
    resync_period: str | None = field(
        default=None,
        metadata=_text(
            'How often an agent looks without being told to, such as "60s". Default 60s, at'
            " least 5s.",
            maxLength=16,
        ),
    )
    repair: str | None = field(
        default=None,
        metadata=_text(
            "What is done about values that somebody else wrote. Default write.",
            enum=["write", "report"],
        ),
    )
    log_level: str | None = field(
        default=None,
        metadata=_text(
            "Least severity that is logged. Default info.",
            enum=["debug", "info", "warning", "error"],
        ),
    )
    claim_socket: str | None = field(
        default=None,
        metadata=_text(
            "Second PodResources socket below /var/lib/kubelet, of a driver that hands out CPUs"
            " through resource claims.",
            maxLength=255,
        ),
    )
    measure_only: bool = field(default=False, metadata=_text("Plan and report, but write nothing."))
    power_caps: tuple[str, ...] = field(
        default=(),
        metadata=_text(
            "What the agents may cap power with: rapl, zones of Intel and others; amd, the sensor"
            " of AMD's HSMP driver.",
            maxItems=2,
            items={"enum": ["rapl", "amd"]},
        ),
    )
    idle_states: str | None = field(
        default=None,
        metadata=_text(
            "How idle states are set: byName (default), for which the pod's helper has"
            " CAP_SYS_ADMIN; byLatency, maxLatencyUs alone and no capability; off.",
            enum=[item.value for item in IdleStates],
        ),
    )
    source: str | None = field(
        default=None,
        metadata=_text(
            "Where the agents learn which container has which CPUs: podresources, the kubelet"
            " alone; nri, the container runtime too, which the helper is connected to then; auto"
            " (default), nri where the runtime has it.",
            enum=[item.value for item in CpuSource],
        ),
    )
    crio_annotations: str | None = field(
        default=None,
        metadata=_text(
            "What CRI-O's annotations cpu-freq-governor.crio.io and cpu-c-states.crio.io are for a"
            " container with CPUs of its own that asks for no profile: conflict (default), named as"
            " what sets its CPUs too; accept, done as a profile would be.",
            enum=["conflict", "accept"],
        ),
    )
    metrics: MetricSettings | None = field(
        default=None,
        metadata=_text(
            "Energy of node, pods and containers in /metrics; the agents then read devices and"
            " cgroups, for level process /proc too."
        ),
    )
    metrics_access: str | None = field(
        default=None,
        metadata=_text(
            "Who may read /metrics: open (default), whoever reaches the port; certificate, by TLS,"
            " who shows a certificate of ca.crt; token, by TLS, who shows a token whose account may"
            " get /metrics. The last two take tls.crt, tls.key and ca.crt from the Secret"
            " power-node-agent-metrics.",
            enum=[item.value for item in MetricsAccess],
        ),
    )
    metrics_port: int | None = field(
        default=None,
        metadata=_text(
            "Port of /metrics. Default 10258; probes have a port of their own, 8081.",
            minimum=1024,
            maximum=65535,
        ),
    )
