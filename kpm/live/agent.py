"""A node's CPUs by its agent's metrics, through the API server's proxy to the agent's pod.

The agent tells each CPU where energy is measured (spec.agent.metrics of the PowerConfig); the port
is under the NetworkPolicy and the access that it has. Without the right to pods/proxy, or without
such metrics, what is known from the node's state is shown, and one line says what is missing.
What comes is a pod's word: it is bounded, and read field by field.
"""

import re
from collections.abc import Iterator, Mapping

from attrs import define, field

from kpm.cluster.node import NodeStatus, node_of
from kpm.kube.api import Api, ApiError
from kpm.kube.kinds import AGENT_NAME, PODS
from kpm.live.picture import CpuNow, Picture
from kpm_planner.model.cpuset import parse_cpulist

_LINE = re.compile(r"(kpm_[a-z_]+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_WANTED = frozenset(
    {
        "kpm_cpu_frequency_hertz",
        "kpm_cpu_busy_ratio",
        "kpm_domain_limit_hertz",
        "kpm_idle_state_seconds_total",
        "kpm_node_power_watts",
        "kpm_pod_power_watts",
    }
)
_MOST_SERIES = 200_000
_LARGEST_CPU = 65_535


@define(eq=False)
class NodeLooks:
    """Looks at one node of a cluster."""

    api: Api
    group: str
    namespace: str
    node: str
    _idle: dict[tuple[str, str], float] = field(factory=dict)

    def look(self) -> Picture:
        """The node now. Errors: ApiError, InputError where nothing is known of it."""
        status = node_of(self.api, self.group, self.namespace, self.node)
        try:
            series = list(parsed(self._scraped()))
        except ApiError as failure:
            note = f"nothing live: get pods/proxy of the agent: {failure}"
            return Picture(self.node, _known(status), notes=(note,))
        if not any(name == "kpm_cpu_busy_ratio" for name, _, _ in series):
            note = (
                "nothing live: the agent tells no CPUs; set spec.agent.metrics: {} of the"
                " PowerConfig"
            )
            return Picture(self.node, _known(status), notes=(note,))
        return self._picture(status, series)

    def _scraped(self) -> str:
        """The metrics of the node's agent. Errors: ApiError."""
        query = {
            "fieldSelector": f"spec.nodeName={self.node}",
            "labelSelector": f"app.kubernetes.io/name={AGENT_NAME}",
            "limit": "5",
        }
        pods = self.api.list(PODS, query).get("items") or ()
        for pod in pods:
            meta = pod.get("metadata") or {}
            port, scheme = _port(pod)
            if meta.get("namespace") == self.namespace:
                name = f"{scheme}{meta.get('name')}:{port}"
                return self.api.proxied(self.namespace, name, "metrics")
        raise ApiError(404, "NotFound", f"no agent's pod runs on {self.node}")

    def _picture(
        self, status: NodeStatus, series: list[tuple[str, Mapping[str, str], float]]
    ) -> Picture:
        cpus: dict[int, dict[str, float]] = {}
        limits: dict[int, dict[str, float]] = {}
        power, pods = dict[str, float](), dict[str, float]()
        idle = dict[tuple[str, str], float]()
        for name, labels, value in series:
            if name in ("kpm_cpu_frequency_hertz", "kpm_cpu_busy_ratio"):
                cpus.setdefault(_number(labels, "cpu"), {})[name] = value
            elif name == "kpm_domain_limit_hertz":
                limits.setdefault(_number(labels, "domain"), {})[labels.get("limit", "")] = value
            elif name == "kpm_idle_state_seconds_total":
                idle[labels.get("pool", ""), labels.get("idle_state", "")] = value
            elif name == "kpm_node_power_watts":
                power[labels.get("place", "")] = value
            elif labels.get("mode", "busy") == "busy":
                pod = f"{labels.get('namespace')}/{labels.get('pod')}"
                pods[pod] = pods.get(pod, 0.0) + value
        before, self._idle = self._idle, idle
        shown = tuple(_live(item, cpus, limits) for item in _known(status))
        by_watts = sorted(pods.items(), key=lambda item: -item[1])
        return Picture(
            self.node, shown, tuple(power.items()), tuple(by_watts), idle=_pool_shares(before, idle)
        )


def parsed(text: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """The series of an exposition that are shown: name, labels, value."""
    for count, line in enumerate(text.splitlines()):
        if count >= _MOST_SERIES:
            return
        found = _LINE.fullmatch(line) if line.startswith("kpm_") else None
        if found is None or found[1] not in _WANTED:
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        if value == value and abs(value) < 1e15:  # noqa: PLR0124 - not a number is not itself
            yield found[1], dict(_LABEL.findall(found[2])), value


def _port(pod: Mapping[str, object]) -> tuple[int, str]:
    """The port of an agent's metrics, and how the proxy is told that it speaks TLS."""
    spec = pod.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    for container in containers if isinstance(containers, list) else ():
        if not isinstance(container, dict):
            continue
        words = [str(word) for word in container.get("args") or container.get("command") or ()]
        for port in container.get("ports") or ():
            if isinstance(port, dict) and port.get("name") == "metrics":
                number = port.get("containerPort")
                tls = "https:" if "--metrics-cert" in words else ""
                return (number if type(number) is int else 10258), tls
    return 10258, ""


def _known(status: NodeStatus) -> tuple[CpuNow, ...]:
    """The CPUs as the node's state tells them."""
    owner: dict[int, tuple[str, str]] = {}
    for row in status.pools:
        for cpu in parse_cpulist(row.cpus):
            owner[cpu] = (row.pool, row.holder)
    found = {}
    for values in status.status.values:
        for cpu in parse_cpulist(values.cpus):
            shows = values.effective
            low, high = (getattr(shows, name) for name in ("min_khz", "max_khz"))
            found[cpu] = CpuNow(cpu, *owner.get(cpu, ("", "")), low_khz=low, high_khz=high)
    return tuple(found[cpu] for cpu in sorted(found))


def _live(
    item: CpuNow, cpus: Mapping[int, Mapping[str, float]], limits: Mapping[int, Mapping[str, float]]
) -> CpuNow:
    """A CPU with what the metrics tell of it."""
    told = cpus.get(item.cpu, {})
    hertz = told.get("kpm_cpu_frequency_hertz")
    ends = limits.get(item.cpu, {})
    low, high = ends.get("min"), ends.get("max")
    return CpuNow(
        item.cpu,
        item.pool,
        item.holder,
        low_khz=item.low_khz if low is None else int(low / 1000),
        high_khz=item.high_khz if high is None else int(high / 1000),
        khz=None if hertz is None else int(hertz / 1000),
        busy=told.get("kpm_cpu_busy_ratio"),
    )


def _number(labels: Mapping[str, str], name: str) -> int:
    """A CPU or domain; -1 for what is none."""
    text = labels.get(name, "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else -1
    return number if number <= _LARGEST_CPU else -1


def _pool_shares(
    before: Mapping[tuple[str, str], float], now: Mapping[tuple[str, str], float]
) -> tuple[tuple[str, tuple[tuple[str, float], ...]], ...]:
    """Pool → how its time in idle states divides over them since the last look."""
    passed: dict[str, dict[str, float]] = {}
    for (pool, state), seconds in now.items():
        more = seconds - before.get((pool, state), seconds)
        if more > 0:
            passed.setdefault(pool, {})[state] = more
    return tuple(
        (pool, tuple((state, more / sum(states.values())) for state, more in states.items()))
        for pool, states in passed.items()
    )
