"""A simulated cluster: every node a kernel model with an agent, every step planned and applied by
the real code.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import Factory, define, evolve, field, frozen

from kpm.formats.documents import Document
from kpm.process.errors import InputError, one_line
from kpm.request.cpu_manager import assign_cpus
from kpm.request.nodes import reserved_cpus
from kpm.request.objects import GivenObjects, cluster_of
from kpm.request.readings import signals_of, watts_of
from kpm.simulate.energy import EnergyView, SimMeter, works
from kpm.simulate.scenario import ForeignLimit, Scenario, SimulatedNode, Step, cpus_of
from kpm_applier.discovery.discover import Discovery
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier, Report
from kpm_applier.state.baseline import cap_in_force
from kpm_applier.state.record import State
from kpm_applier.sysfs.host import Watch, write_one_by_one
from kpm_planner.caps.schedule import CapState, Reading
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.cluster import Node, Pod
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Problem
from kpm_planner.model.quantities import UW
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from kpm_planner.selection import Accepted, accept
from kpm_planner.versions import Versions

#: How long after a write a policy shows it, in simulated seconds.
_LATENCY = 0.002


@frozen
class NodeStep:
    """A node after a step. changed: whether anything was written or planned anew; report: None
    while the agent is dead.

    energy: of the time before the step, where something ran.
    """

    name: str
    plan: NodePlan
    machine: Machine
    shown: Mapping[int, Mapping[str, Any]]
    report: Report | None
    alive: bool
    changed: bool
    energy: EnergyView | None = None


@frozen
class StepView:
    """A step as it went. events: one line each; pending: pods that no node could take."""

    number: int
    name: str
    at: int
    events: tuple[str, ...]
    nodes: tuple[NodeStep, ...]
    problems: tuple[Problem, ...]
    differences: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


class Killed(BaseException):
    """The agent is killed between two writes."""


@define
class MemoryStore:
    """A state file that outlives its agent."""

    path = ""

    state: State = State()

    def lock(self) -> None:
        """There is one agent a node."""

    def unlock(self) -> None:
        """There is one agent a node."""

    def load(self) -> State:
        """The state, as an agent finds it that starts anew."""
        return self.state

    def save(self, state: State) -> None:
        """Keep the state."""
        self.state = state


@define
class _MortalHost:
    """A kernel model under an agent that may be killed after some writes."""

    model: KernelModel
    writes_left: int | None = None

    @property
    def live(self) -> bool:
        return False

    def read(self, path: str) -> bytes:
        return self.model.read(path)

    def write(self, path: str, data: bytes) -> None:
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise Killed
            self.writes_left -= 1
        self.model.write(path, data)

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        return write_one_by_one(self, writes)

    def read_all(self, paths: Sequence[str]) -> Sequence[bytes | OSError]:
        return self.model.read_all(paths)

    def differing(
        self, paths: Sequence[str], expected: Sequence[bytes]
    ) -> dict[str, bytes | OSError]:
        return self.model.differing(paths, expected)

    def keep(self, paths: Iterable[str]) -> None:
        self.model.keep(paths)

    def list(self, path: str) -> tuple[str, ...]:
        return self.model.list(path)

    def wait(self, seconds: float) -> None:
        self.model.wait(seconds)

    def now(self) -> float:
        return self.model.now()

    def watch(self, files: Mapping[str, bytes]) -> Watch:
        return self.model.watch(files)

    def forget(self) -> None:
        self.model.forget()


@define
class SimNode:
    """A node at run time."""

    node: Node
    model: KernelModel
    store: MemoryStore
    reserved: frozenset[int] | None
    discovery: Discovery | None
    host: _MortalHost
    agent: Applier | None = None
    pods: dict[tuple[str, str], Pod] = field(factory=dict)
    allocation: Allocation = Allocation()
    plan: NodePlan | None = None
    touched: bool = True
    readings: Mapping[str, Reading] = field(factory=dict)
    power_uw: Mapping[int, int] = field(factory=dict)
    previous: CapState | None = None
    parts_uw: Mapping[int, int] = field(factory=dict)
    meter: SimMeter = field(default=Factory(lambda self: SimMeter(self.model), takes_self=True))
    energy: EnergyView | None = None

    def start_agent(self) -> None:
        """A new agent process."""
        self.host.writes_left = None
        self.agent = Applier(self.host, self.store)
        self.agent.open(known=self.discovery)
        self.discovery = None
        self.touched = True
        owned = self.store.state.groups
        self.previous, self.parts_uw = (
            cap_in_force(self.agent.shown, owned) if owned else (None, {})
        )


@define
class World:
    """The cluster of a scenario. `advance` carries out one step."""

    scenario: Scenario
    nodes: dict[str, SimNode] = field(factory=dict)
    documents: dict[tuple[str, str, str], Document] = field(factory=dict)
    cluster: GivenObjects = GivenObjects()
    accepted: Accepted = field(init=False)
    clock: int = 0
    pending: dict[tuple[str, str], Pod] = field(factory=dict)
    selectors: dict[tuple[str, str], Mapping[str, str]] = field(factory=dict)
    loads: dict[str, float] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self._change_objects(self.scenario.objects, ())
        known: dict[int, Discovery] = {}
        for item in self.scenario.nodes:
            self.nodes[item.name] = self._build(item, known)

    def _build(self, item: SimulatedNode, known: dict[int, Discovery]) -> SimNode:
        """A node; equal machines are discovered once."""
        model = KernelModel(item.machine, latency=_LATENCY)
        host = _MortalHost(model)
        node = SimNode(
            Node(item.name, item.labels),
            model,
            MemoryStore(),
            reserved=item.reserved,
            discovery=known.get(id(item.machine)),
            host=host,
        )
        node.start_agent()
        if node.agent is not None and node.agent.discovery is not None:
            known.setdefault(id(item.machine), node.agent.discovery)
        return node

    def advance(self, number: int, step: Step) -> StepView:
        """One step: what happens, then every agent that has reason to looks, plans and applies."""
        self._pass_time(step)
        place = f"{self.scenario.source}: step {number}"
        objects = [
            Document(item, f"{place}: apply[{index}]") for index, item in enumerate(step.apply)
        ]
        events = self._change_objects(objects, step.delete)
        events += self._change_pods(step, place)
        events += self._change_machines(step, place)
        events += self._change_agents(step, place)
        events += self._change_signals(step, place)
        self._settle()
        wanted = step.expect or {}
        views = [
            self._pass(name, node, step.resync, name in wanted) for name, node in self.nodes.items()
        ]
        pending = tuple("/".join(key) for key in self.pending)
        return StepView(
            number,
            step.name,
            self.clock,
            events=tuple(events),
            nodes=tuple(views),
            problems=self.accepted.problems,
            pending=pending,
        )

    def _pass_time(self, step: Step) -> None:
        seconds = 1 if step.at is None else max(step.at - self.clock, 0)
        self.clock += seconds
        for node in self.nodes.values():
            if not self.loads:
                node.model.wait(seconds)
                continue
            online = frozenset(
                cpu.id for cpu in node.model.machine.cpus if cpu.id not in node.model.offline
            )
            named = [("/".join(key), pod) for key, pod in node.pods.items()]
            node.energy = (
                node.meter.pass_time(
                    seconds, works(named, node.allocation.reported, self.loads, online)
                )
                if seconds
                else None
            )

    def _settle(self) -> None:
        """Let what others did take effect before the agents look."""
        for node in self.nodes.values():
            if node.touched:
                node.model.settle()

    def _change_objects(self, applied: Iterable[Document], deleted: Iterable[str]) -> list[str]:
        """Apply and delete objects; all nodes are touched where any was."""
        events = []
        for document in applied:
            cluster_of([document])
            metadata: Mapping[str, Any] = document.content["metadata"]
            key = (
                str(document.content["kind"]),
                str(metadata.get("namespace") or ""),
                str(metadata["name"]),
            )
            events.append(
                f"{'applied' if key not in self.documents else 'edited'} {key[0]}/{key[2]}"
            )
            self.documents[key] = document
        for text in deleted:
            kind, _, name = text.partition("/")
            keys = [key for key in self.documents if key[0] == kind and key[2] == name]
            if not keys:
                raise InputError(
                    f"{self.scenario.source}: delete: expected Kind/name of an object that is"
                    f" there, got {one_line(text, 60)!r}"
                )
            for key in keys:
                del self.documents[key]
            events.append(f"deleted {text}")
        if events or not hasattr(self, "accepted"):
            self.cluster = cluster_of(self.documents.values())
            self.accepted = accept(self.cluster.intent)
            for node in self.nodes.values():
                node.touched = True
        return events

    def _change_pods(self, step: Step, place: str) -> list[str]:
        events = []
        for text in step.stop:
            namespace, mark, name = text.rpartition("/")
            key = (namespace if mark else "default", name)
            owner = next((node for node in self.nodes.values() if key in node.pods), None)
            if owner is None and self.pending.pop(key, None) is None:
                raise InputError(
                    f"{place}: stop: expected namespace/name of a pod that runs, got"
                    f" {one_line(text, 60)!r}"
                )
            if owner is not None:
                del owner.pods[key]
                self._allocate(owner)
            events.append(f"pod {'/'.join(key)} ended")
        for index, item in enumerate(step.start):
            events.append(self._start(self._pod(item, f"{place}: start[{index}]")))
        for key, pod in list(self.pending.items()) if step.stop else []:
            del self.pending[key]
            events.append(self._start(pod))
        return events

    def _pod(self, content: Mapping[str, object], source: str) -> Pod:
        pods = cluster_of([Document({"apiVersion": "v1", "kind": "Pod", **content}, source)]).pods
        if not pods:
            raise InputError(f"{source}: expected a Pod, got {one_line(content.get('kind'), 40)!r}")
        pod = evolve(pods[0], phase="Running")
        spec: Any = content.get("spec")
        self.selectors[pod.meta.namespace or "default", pod.meta.name] = (
            spec.get("nodeSelector") or {}
        )
        return pod

    def _start(self, pod: Pod) -> str:
        key = (pod.meta.namespace or "default", pod.meta.name)
        for node in self.nodes.values():
            if pod.node in (None, node.node.name) and self._fits(pod, node):
                node.pods[key] = evolve(pod, node=node.node.name)
                refused = self._allocate(node)
                if not refused:
                    owned = frozenset().union(
                        *(
                            entry.cpus
                            for entry in node.allocation.reported
                            if (entry.namespace, entry.pod) == key
                        )
                    )
                    return f"pod {'/'.join(key)} started on {node.node.name}" + (
                        f" with CPUs {format_cpulist(owned)}" if owned else ""
                    )
                del node.pods[key]
                self._allocate(node)
        self.pending[key] = pod
        return f"pod {'/'.join(key)} is pending: no node has room"

    def _fits(self, pod: Pod, node: SimNode) -> bool:
        """Whether the scheduler would try the node: node selector and extended resources."""
        wanted = self.selectors.get((pod.meta.namespace or "default", pod.meta.name), {})
        if any(node.node.labels.get(key) != value for key, value in wanted.items()):
            return False
        offered = node.plan.extended_resources if node.plan is not None else {}
        held: dict[str, int] = {}
        for item in (pod, *node.pods.values()):
            for container in item.containers:
                for name, amount in container.resources:
                    held[name] = held.get(name, 0) + int(amount)
        return pod.node is not None or all(
            held[name] <= offered.get(name, 0)
            for container in pod.containers
            for name, _ in container.resources
        )

    def _allocate(self, node: SimNode) -> bool:
        """Let the CPU manager hand out CPUs; whether it refused any."""
        machine = evolve(
            node.model.machine,
            cpus=tuple(
                evolve(cpu, online=cpu.id not in node.model.offline)
                for cpu in node.model.machine.cpus
            ),
        )
        reserved = (
            reserved_cpus(self.cluster, node.node) if node.reserved is None else node.reserved
        )
        allocation, refused = assign_cpus(machine, node.pods.values(), reserved, node.allocation)
        node.allocation = (
            allocation if node.reserved is not None else evolve(allocation, allocatable=None)
        )
        node.touched = True
        return bool(refused)

    def _change_machines(self, step: Step, place: str) -> list[str]:
        events = []
        for verb, online in (("offline", False), ("online", True)):
            for name, text in (getattr(step, verb) or {}).items():
                node = self._node(name, f"{place}: {verb}")
                for cpu in cpus_of(text, f"{place}: {verb}.{name}"):
                    node.model.plug(cpu, online=online)
                node.touched = True
                events.append(f"CPUs {text} of {name} go {verb}")
        for name, on in (step.boost or {}).items():
            folder = (
                "intel_pstate/no_turbo"
                if _inverted(self._node(name, f"{place}: boost").model)
                else "cpufreq/boost"
            )
            path = f"devices/system/cpu/{folder}"
            events.append(
                self._foreign(
                    name, path, str(int(on is not folder.startswith("intel"))), f"{place}: boost"
                )
            )
        for write in step.write:
            events.append(
                self._foreign(write.node, write.path, str(write.value), f"{place}: write")
            )
        return events + [self._limit(limit, place) for limit in step.limit]

    def _limit(self, limit: ForeignLimit, place: str) -> str:
        """Somebody else limits a frequency domain, or ends that; what is said of it."""
        node = self._node(limit.node, f"{place}: limit")
        if limit.domain not in node.model.policies:
            raise InputError(
                f"{place}: limit.domain: expected a frequency domain of {limit.node}, got"
                f" {limit.domain}"
            )
        node.model.limit(limit.domain, None if limit.max_mhz is None else limit.max_mhz * 1000)
        node.touched = True
        ended = limit.max_mhz is None
        what = "is no longer limited" if ended else f"is limited to {limit.max_mhz} MHz"
        return f"frequency domain {limit.domain} of {limit.node} {what} by somebody else"

    def _foreign(self, name: str, path: str, value: str, place: str) -> str:
        node = self._node(name, place)
        try:
            node.model.write(path, value.encode())
        except OSError as failure:
            raise InputError(f"{place}: {one_line(path, 80)}: {failure.strerror}") from None
        node.touched = True
        return f"somebody else writes {value} to {path} of {name}"

    def _change_agents(self, step: Step, place: str) -> list[str]:
        events = []
        for name in step.kill:
            self._node(name, f"{place}: kill").agent = None
            events.append(f"the agent of {name} is killed")
        for name in step.restart:
            self._node(name, f"{place}: restart").start_agent()
            events.append(f"the agent of {name} starts")
        for name, count in (step.crash or {}).items():
            if type(count) is not int or count < 0:
                raise InputError(
                    f"{place}: crash.{name}: expected a number of writes, got"
                    f" {one_line(repr(count), 40)}"
                )
            node = self._node(name, f"{place}: crash")
            node.host.writes_left, node.touched = count, True
            events.append(f"the agent of {name} will be killed after {count} writes")
        return events

    def _change_signals(self, step: Step, place: str) -> list[str]:
        events = []
        readings = {}
        for name, value in (step.readings or {}).items():
            watts = watts_of(str(value))
            if watts is None:
                raise InputError(
                    f"{place}: readings.{one_line(name, 60)}: expected a number of watts, got"
                    f" {one_line(repr(value), 40)}"
                )
            readings[name] = Reading(watts, self.instant)
            events.append(f"the source of PowerCap {name} answers {watts:g} W")
        for node in self.nodes.values() if readings else ():
            node.readings, node.touched = {**node.readings, **readings}, True
        for name, packages in (step.power or {}).items():
            node = self._node(name, f"{place}: power")
            node.power_uw, node.touched = (
                {package: watts * UW for package, watts in enumerate(packages)},
                True,
            )
            events.append(f"the packages of {name} take {', '.join(map(str, packages))} W")
        for name, percent in (step.load or {}).items():
            key = name if "/" in name else f"default/{name}"
            if not 0 <= percent <= 100 or not any(
                key == "/".join(pod) for node in self.nodes.values() for pod in node.pods
            ):
                raise InputError(
                    f"{place}: load.{one_line(name, 60)}: expected 0 to 100 of a pod that runs,"
                    f" got {percent}"
                )
            self.loads[key] = percent / 100
            events.append(f"pod {key} uses {percent} % of its CPUs")
        return events

    @property
    def instant(self) -> datetime:
        """The time on the clock."""
        return self.scenario.start + timedelta(seconds=self.clock)

    def _node(self, name: str, place: str) -> SimNode:
        if name not in self.nodes:
            raise InputError(
                f"{place}: expected one of the nodes {', '.join(list(self.nodes)[:10])}, got"
                f" {one_line(name, 60)!r}"
            )
        return self.nodes[name]

    def _pass(self, name: str, node: SimNode, resync: bool, looked_at: bool) -> NodeStep:
        """What an agent does when something has happened; nothing where nothing has."""
        report = Report() if node.agent is not None else None
        changed = False
        due = (
            node.plan is not None
            and node.plan.valid_until is not None
            and self.instant >= node.plan.valid_until
        )
        if node.agent is not None and (node.touched or resync or due):
            try:
                changed, report = self._reconcile(node, node.agent)
            except Killed:
                node.agent, report, changed = None, None, True
        node.touched = node.touched and node.agent is None
        plan = node.plan or NodePlan(name)
        shown = shown_settings(node.model) if changed or looked_at else {}
        return NodeStep(
            name,
            plan,
            node.model.machine,
            shown=shown,
            report=report,
            alive=node.agent is not None,
            changed=changed,
            energy=node.energy,
        )

    def _reconcile(self, node: SimNode, agent: Applier) -> tuple[bool, Report]:
        if agent.changed():
            agent.discover()
            self._allocate(node)
        before = node.plan
        signals = signals_of(
            self.accepted.intent.caps, node.readings, node.power_uw, node.previous, node.parts_uw
        )

        def planned(machine: Machine) -> NodePlan:
            versions = Versions(before.versions if before is not None else ())
            node.plan = plan_node(
                self.accepted,
                NodeInput(node.node, machine, node.allocation, signals, versions),
                self.instant,
            )
            return node.plan

        plan, report = agent.bring(planned)
        node.previous = plan.cap_state
        return plan != before or bool(report.writes or report.outcomes), report


def _inverted(model: KernelModel) -> bool:
    return any(
        (policy.spec.driver or "").startswith("intel_") for policy in model.policies.values()
    )


def shown_settings(model: KernelModel) -> dict[int, dict[str, Any]]:
    """What the files of each online CPU that has a policy show once they stand still: the name of a
    setting → its value.
    """
    model.settle()
    return {
        cpu: model.shown_by(cpu, policy)
        for policy in model.policies.values()
        for cpu in policy.spec.cpus
        if cpu not in model.offline
    }
