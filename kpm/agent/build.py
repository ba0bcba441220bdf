"""An agent out of its settings."""

import os
import sys
import time

from attrs import frozen

from kpm.agent.cluster import Cluster
from kpm.agent.kubelet import Kubelet, Sockets
from kpm.agent.machine import Tuner
from kpm.agent.report import Reporter
from kpm.agent.run import Agent, still_wanted
from kpm.agent.scaling import ScalerProcess
from kpm.kube.api import Api, ApiError, connect
from kpm.kube.events import Recorder
from kpm.kube.kinds import AGENT_NAME, NODES, namespace_ends, power
from kpm.logs import Log
from kpm.loops import trouble_logger
from kpm_applier.diff import Repair
from kpm_applier.session import Applier
from kpm_applier.state import StateStore
from kpm_applier.sysfs import SysfsHost

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


def build_agent(settings: Settings, kubeconfig: str | None, log: Log) -> Agent:
    """An agent that is ready to run. Errors: InputError."""
    api = connect(kubeconfig)

    def make() -> Applier:
        host = SysfsHost(settings.sysfs)
        return Applier(host, StateStore(settings.state_dir, host.root, live=host.live), Repair(settings.repair))

    def changed() -> None:
        agent.wake.set()

    agent = Agent(
        node=settings.node,
        resync=settings.resync,
        cluster=Cluster(api, settings.node, settings.group, settings.namespace, changed, trouble_logger(log)),
        kubelet=Kubelet(Sockets(settings.kubelet_socket, settings.claim_socket)),
        tuner=Tuner(make, log, settings.measure_only),
        reporter=Reporter(
            api, settings.group, settings.namespace, settings.node,
            Recorder(api, AGENT_NAME, os.uname().nodename, settings.namespace, log, time.monotonic), log, time.monotonic,
        ),
        log=log,
        scaler=ScalerProcess([*_PROGRAM, "scaler", "--sysfs", settings.sysfs, "--telemetry-dir", settings.telemetry_dir, "--log-level", settings.log_level], log),
        wanted=lambda: still_wanted(
            lambda: _configs(api, settings), lambda: _labels(api, settings.node), lambda: not namespace_ends(api, settings.namespace)
        ),
    )  # fmt: skip
    return agent


def _configs(api: Api, settings: Settings) -> list[tuple[dict[str, str], bool]]:
    """Selector of each PowerConfig, and whether it is being deleted, the oldest first."""
    try:
        items = api.list(power(settings.group, "powerconfigs", settings.namespace), {}).get("items") or []
    except ApiError as failure:
        if failure.missing:  # the kind itself is gone
            return []
        raise
    items.sort(key=lambda item: (item["metadata"].get("creationTimestamp") or "", item["metadata"].get("name") or ""))
    return [(dict((item.get("spec") or {}).get("powerNodeSelector") or {}), bool(item["metadata"].get("deletionTimestamp"))) for item in items]


def _labels(api: Api, node: str) -> dict[str, str] | None:
    try:
        return dict((api.get(NODES, node).get("metadata") or {}).get("labels") or {})
    except ApiError as failure:
        if failure.missing:
            return None
        raise
