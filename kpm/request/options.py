"""What the options of the command line name, as values: a machine, and what a plan is asked for."""

from attrs import frozen

#: Where the agent's helper listens: for writes, and to tell of containers.
HELPER_SOCKET = "/run/kpm/helper.sock"
CONTAINERS_SOCKET = "/run/kpm/containers.sock"


@frozen
class TreeOptions:
    """Which machine, and where its baselines are kept.

    hsmp: None for the usual device of a running kernel. helper: the socket of who writes it, None
    for this process.
    """

    sysfs: str
    state_dir: str = ""
    hsmp: str | None = None
    helper: str | None = None


@frozen
class PlanOptions:
    """What a plan is asked for, as texts."""

    node: str | None = None
    pod_resources: tuple[str, ...] = ()
    assign_cpus: bool = False
    at: str | None = None
    cap_reading: tuple[str, ...] = ()
    cdi: str = ""
    labels: tuple[str, ...] = ()
