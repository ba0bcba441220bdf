"""An agent out of its settings."""

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import frozen

from kpm.agent.agent import Agent, still_wanted
from kpm.agent.caps import CapFollower
from kpm.agent.cluster import Cluster
from kpm.agent.external import External
from kpm.agent.guard import TelemetryGuard
from kpm.agent.kubelet import Kubelet, Sockets
from kpm.agent.machine import Tuner
from kpm.agent.report import Reporter
from kpm.agent.reports import Reports
from kpm.agent.scaling import ScalerProcess
from kpm.kube.api import Api, ApiError
from kpm.kube.events import Recorder
from kpm.kube.kinds import AGENT_NAME, NODES, namespace_ends, power
from kpm.process.logs import Log
from kpm.request.options import TreeOptions
from kpm.request.tree import make_applier
from kpm_applier.diff import Repair

if TYPE_CHECKING:
    from kpm.agent.elsewhere import Elsewhere
    from kpm.energy.collector import EnergyMeter, EnergySettings

_PROGRAM = (sys.executable, "-m", "kpm")


@frozen
class Settings:
    """What an agent is told at its start. resync: seconds."""

    node: str
    group: str
    namespace: str
    sysfs: str
    state_dir: str
    kubelet_socket: str
    claim_socket: str | None = None
    resync: float = 60.0
    repair: str = "write"
    measure_only: bool = False
    telemetry_dir: str = ""
    log_level: str = "info"
    hsmp: str | None = None
    energy: "EnergySettings | None" = None
    cgroup: str = "/sys/fs/cgroup"
    estimate: bool = False
    helper: str | None = None
    pod_uid: str = ""
    containers: str | None = None
    cdi: str = ""


def build_agent(settings: Settings, cluster: Cluster, wake: threading.Event, log: Log) -> Agent:
    """An agent that is ready to run. cluster: its informers, started perhaps; wake: what they set
    when something has changed.
    """
    api, changed = cluster.api, wake.set
    tree = TreeOptions(settings.sysfs, settings.state_dir, settings.hsmp, settings.helper)
    tuner = Tuner(lambda: make_applier(tree, Repair(settings.repair)), log, settings.measure_only)
    agent = Agent(
        node=settings.node,
        resync=settings.resync,
        cluster=cluster,
        wake=wake,
        kubelet=Kubelet(
            Sockets(settings.kubelet_socket, settings.claim_socket),
            elsewhere=_elsewhere(settings, log),
        ),
        tuner=tuner,
        reports=Reports(
            Reporter(
                api,
                settings.group,
                settings.namespace,
                node=settings.node,
                events=Recorder(
                    api,
                    AGENT_NAME,
                    settings.node,
                    fallback_namespace=settings.namespace,
                    log=log,
                    monotonic=time.monotonic,
                ),
                log=log,
                monotonic=time.monotonic,
            ),
            changed,
        ),
        log=log,
        scaler=ScalerProcess(_scaler(settings), log),
        guard=TelemetryGuard(api, time.monotonic),
        caps=CapFollower(tuner, External(api, settings.namespace, log, changed, cluster.threads)),
        pod_uid=settings.pod_uid,
        energy=None if settings.energy is None else _energy(settings, settings.energy, log),
        wanted=lambda: still_wanted(
            lambda: _configs(api, settings),
            lambda: _labels(api, settings.node),
            lambda: not namespace_ends(api, settings.namespace),
        ),
    )
    if settings.containers:
        from kpm.agent.runtime import Runtime

        agent.runtime = Runtime(settings.containers, changed, agent.worth_waiting, log)
    return agent


def _elsewhere(settings: Settings, log: Log) -> "Callable[[], Elsewhere] | None":
    """What reads cgroups and CDI files, loaded when a container is left without CPUs; None where
    that is not wanted.
    """
    if not settings.cdi:
        return None

    def make() -> "Elsewhere":
        from kpm.agent.elsewhere import Elsewhere

        return Elsewhere(settings.cgroup, settings.cdi, log)

    return make


def _scaler(settings: Settings) -> list[str]:
    words = [
        *_PROGRAM,
        "scaler",
        "--sysfs",
        settings.sysfs,
        "--telemetry-dir",
        settings.telemetry_dir,
        "--log-level",
        settings.log_level,
    ]
    return [*words, "--helper", settings.helper] if settings.helper else words


def _energy(settings: Settings, energy: "EnergySettings", log: Log) -> "EnergyMeter":
    """The meter; what it needs is loaded only where something is to be measured."""
    from kpm.energy.coefficients import coefficients_for
    from kpm.energy.collector import EnergyMeter
    from kpm.energy.exposition import build_labels
    from kpm.energy.sampler import Roots, Sampler

    sampler = Sampler(
        Roots(settings.sysfs, energy.proc, settings.cgroup),
        coefficients=coefficients_for(energy.proc) if settings.estimate else None,
    )
    return EnergyMeter(settings.node, energy, sampler, log, build_labels())


def _configs(api: Api, settings: Settings) -> list[tuple[dict[str, str], bool]]:
    """Selector of each PowerConfig, and whether it is being deleted, the oldest first."""
    try:
        items = (
            api.list(power(settings.group, "powerconfigs", settings.namespace), {}).get("items")
            or []
        )
    except ApiError as failure:
        if failure.missing:  # the kind itself is gone
            return []
        raise
    items.sort(
        key=lambda item: (
            item["metadata"].get("creationTimestamp") or "",
            item["metadata"].get("name") or "",
        )
    )
    return [
        (
            dict((item.get("spec") or {}).get("powerNodeSelector") or {}),
            bool(item["metadata"].get("deletionTimestamp")),
        )
        for item in items
    ]


def _labels(api: Api, node: str) -> dict[str, str] | None:
    try:
        return dict((api.get(NODES, node).get("metadata") or {}).get("labels") or {})
    except ApiError as failure:
        if failure.missing:
            return None
        raise
