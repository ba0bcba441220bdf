"""What the agent sees of the cluster: its node, its pods, and the objects that users make."""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, field, frozen

from kpm.formats.pods import structure_node, structure_pod
from kpm.formats.wire import KINDS, WireError, intent_of, parse_time, read_object
from kpm.kube.api import Api, ApiError, Object
from kpm.kube.informer import ApiListWatch, Informer, key_of
from kpm.kube.kinds import AGENT_NAME, NODES, PART_OF, PODS, USER_KINDS, power
from kpm.process.threads import Threads
from kpm_planner.caps.schedule import Reading
from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import GENERATED, Node, Pod
from kpm_planner.model.objects import (
    Intent,
    PowerConfig,
    Unreadable,
)
from kpm_planner.model.problems import Code, Problem, error
from kpm_planner.rivals import policy_of

_CRIO = ("cpu-freq-governor.crio.io", "cpu-c-states.crio.io")


@frozen
class NodeView:
    """The agent's node. resources: extended resources of ours that it shows, capacity and
    allocatable.
    """

    node: Node
    uid: str
    resources: Mapping[str, tuple[str | None, str | None]] = field(factory=dict, hash=False)


@frozen
class PodView:
    """A pod, and what in it is known to change CPU settings as well. ending: somebody has deleted
    it.
    """

    pod: Pod
    rival: str = ""
    ending: bool = False


@frozen
class Skipped:
    """An object that this version cannot read. identity: of one whose versions are remembered."""

    problem: Problem
    identity: Unreadable | None = None


@frozen
class CapView:
    """A PowerCap, and what its server last said as the operator has published it."""

    cap: PowerCap
    reading: Reading | None = None


@frozen
class ClusterView:
    """All of it at one moment. node: None where it does not exist any more. ending: uids of pods
    that have been deleted and still run.

    published: answers of the servers of PowerCaps, by name.
    """

    intent: Intent
    faults: tuple[Problem, ...]
    node: NodeView | None
    pods: tuple[Pod, ...]
    rivals: tuple[str, ...]
    ending: frozenset[str] = frozenset()
    published: Mapping[str, Reading] = field(factory=dict, hash=False)

    @property
    def config(self) -> PowerConfig | None:
        """The PowerConfig that is oldest, if there is one."""
        return min(
            self.intent.configs,
            key=lambda item: (item.meta.created is None, item.meta.created, item.meta.name),
            default=None,
        )


def node_view(document: Object, group: str) -> NodeView:
    """What is kept of a node."""
    status = document.get("status") or {}
    capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
    keys = {key for key in (*capacity, *allocatable) if str(key).startswith(f"{group}/")}
    return NodeView(
        structure_node(document),
        str((document.get("metadata") or {}).get("uid") or ""),
        {key: (capacity.get(key), allocatable.get(key)) for key in sorted(keys)},
    )


def pod_view(document: Object, namespace: str = "") -> "PodView | Skipped":
    """What is kept of a pod. namespace: this system's own."""
    try:
        pod = structure_pod(document)
    except WireError as failure:
        place = "/".join(key_of(document))
        return Skipped(error(Code.OBJECT_UNREADABLE, f"Pod/{place}", "", str(failure)))
    ending = bool((document.get("metadata") or {}).get("deletionTimestamp"))
    return PodView(pod, _rival(document, pod, namespace) if pod.live else "", ending)


def _rival(document: Object, pod: Pod, namespace: str) -> str:
    """Who else changes CPU settings, as far as pods tell."""
    labels, place = pod.meta.labels, f"{pod.meta.namespace}/{pod.meta.name}"
    if policy_of(pod):
        return f"{policy_of(pod)} (pod {place})"
    if labels.get("openshift-app") == "tuned":
        return "tuned"
    if labels.get("name") == "powercap":
        return f"powercap (pod {place})"
    if pod.meta.name.startswith(f"{AGENT_NAME}-") and (
        pod.meta.namespace,
        labels.get(PART_OF[0]),
    ) != (namespace, PART_OF[1]):
        return f"another power manager (pod {place})"
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    if any(str(key).startswith(_CRIO) for key in annotations):
        return f"CRI-O (annotations of pod {place})"
    return ""


def object_view(document: Object, kind: str, group: str) -> Any:
    """What is kept of an object of ours."""
    value, fault = read_object(document, kind, group)
    if fault is None:
        return value
    metadata = document.get("metadata") or {}
    return Skipped(
        fault,
        Unreadable(kind, group, str(metadata.get("name") or ""), str(metadata.get("uid") or "")),
    )


class Cluster:
    """The informers of one agent."""

    def __init__(
        self,
        api: Api,
        node: str,
        group: str,
        namespace: str,
        changed: Callable[[], None],
        trouble: Callable[[str, ApiError], None],
        threads: Threads,
        idle_states: IdleStates = IdleStates.BY_NAME,
    ) -> None:
        """threads: of the process. idle_states: the most that a PowerConfig may ask for."""
        self.api, self.node_name, self.group, self.threads = api, node, group, threads
        self.namespace = namespace
        self._started = False
        self.nodes = Informer(
            "nodes",
            ApiListWatch(api, NODES, {"fieldSelector": f"metadata.name={node}"}),
            changed,
            lambda obj: node_view(obj, group),
            trouble,
        )
        self.pods = Informer(
            "pods",
            ApiListWatch(api, PODS, {"fieldSelector": f"spec.nodeName={node}"}),
            changed,
            lambda obj: pod_view(obj, namespace),
            trouble,
        )
        mine = {"labelSelector": f"!{GENERATED}"}
        self.objects = {
            plural: Informer(
                plural,
                ApiListWatch(api, power(group, plural, namespace), mine),
                changed,
                _reader(kind, group, idle_states),
                trouble,
            )
            for plural, kind in USER_KINDS.items()
        }

    def start(self) -> None:
        """List and watch, in threads; a second call does nothing."""
        if not self._started:
            self._started = True
            for informer in self.informers:
                informer.start(self.threads)

    @property
    def informers(self) -> tuple[Informer, ...]:
        """All of them."""
        return (self.nodes, self.pods, *self.objects.values())

    @property
    def unsynced(self) -> tuple[str, ...]:
        """Kinds that have not been listed yet; until then nothing is known of them."""
        return tuple(item.name for item in self.informers if not item.synced)

    def own_node(self) -> NodeView | None:
        """The node as the informer has it; asked for where it was never listed, as at the end of an
        agent that had only begun.
        """
        if self.nodes.synced:
            found: NodeView | None = self.nodes.get(self.node_name)
            return found
        try:
            return node_view(self.api.get(NODES, self.node_name), self.group)
        except ApiError:
            return None

    def pod(self, uid: str) -> Pod | None:
        """One pod of the node; None where it has not been seen yet."""
        return next(
            (
                item.pod
                for item in self.pods.values()
                if isinstance(item, PodView) and item.pod.node_uid == uid
            ),
            None,
        )

    def view(self) -> ClusterView:
        """All that is known now."""
        seen = self.pods.values()
        pods = [item for item in seen if isinstance(item, PodView)]
        held: list[Any] = [
            value for informer in self.objects.values() for value in informer.values()
        ]
        found: list[Any] = [value.cap if isinstance(value, CapView) else value for value in held]
        sorted_out = {
            kind: [item for item in found if isinstance(item, kind)] for kind in KINDS.values()
        }
        unreadable = tuple(
            item.identity
            for item in found
            if isinstance(item, Skipped) and item.identity is not None
        )
        intent = intent_of(sorted_out, unreadable=unreadable, namespace=self.namespace)
        return ClusterView(
            intent,
            tuple(item.problem for item in (*found, *seen) if isinstance(item, Skipped)),
            self.nodes.get(self.node_name),
            pods=tuple(item.pod for item in pods),
            rivals=tuple(sorted({item.rival for item in pods if item.rival})),
            ending=frozenset(item.pod.meta.uid for item in pods if item.ending),
            published={
                item.cap.meta.name: item.reading
                for item in held
                if isinstance(item, CapView) and item.reading is not None
            },
        )


def cap_view(document: Object, group: str) -> Any:
    """What is kept of a PowerCap."""
    value = object_view(document, "PowerCap", group)
    return CapView(value, _published(document)) if isinstance(value, PowerCap) else value


def _published(document: Object) -> Reading | None:
    """The answer that the operator has published; None for anything that is none."""
    from kpm.request.readings import watts_of

    status = document.get("status")
    told = status.get("external") if isinstance(status, Mapping) else None
    if not isinstance(told, Mapping):
        return None
    watts = watts_of(str(told.get("watts") or ""))
    try:
        at = parse_time(str(told.get("at") or ""), "status.external.at")
    except WireError:
        return None
    return None if watts is None else Reading(watts, at)


def _reader(kind: str, group: str, idle_states: IdleStates) -> Callable[[Object], Any]:
    if kind == "PowerCap":
        return lambda document: cap_view(document, group)
    if kind != "PowerConfig":
        return lambda document: object_view(document, kind, group)
    return lambda document: _limited(object_view(document, kind, group), idle_states)


def _limited(config: Any, most: IdleStates) -> Any:
    """A PowerConfig that asks for no more than the operator allows."""
    if not isinstance(config, PowerConfig) or most is IdleStates.BY_NAME:
        return config
    return evolve(
        config,
        agent=evolve(
            config.agent, idle_states=IdleStates.of(config.agent.idle_states).within(most).value
        ),
    )
