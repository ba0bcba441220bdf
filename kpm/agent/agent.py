"""The agent's loop: one thread that sees, plans, applies and reports; everything else only wakes
it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from attrs import Factory, define, evolve, field, frozen

from kpm.agent.caps import CapFollower
from kpm.agent.cluster import Cluster, ClusterView, NodeView
from kpm.agent.guard import TelemetryGuard
from kpm.agent.kubelet import Kubelet
from kpm.agent.machine import Tuner
from kpm.agent.report import SAID_ANEW, Reporter
from kpm.agent.reports import Reports
from kpm.agent.scaling import ScalerProcess
from kpm.kube.api import ApiError
from kpm.kube.events import About
from kpm.kube.kinds import workload_name
from kpm.process.logs import Log
from kpm.process.loops import Listing
from kpm_planner.caps.schedule import Signals
from kpm_planner.caps.zones import holding_cap
from kpm_planner.entitlement import requested_profiles
from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.allocation import Allocation, RuntimeCpus
from kpm_planner.model.changes import Pass
from kpm_planner.model.cluster import Meta, Node
from kpm_planner.model.machine import Machine
from kpm_planner.model.problems import Problem
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from kpm_planner.selection import Accepted, accept, selects_map

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from kpm.agent.metrics import AgentMetrics
    from kpm.agent.runtime import Creation, Runtime
    from kpm.energy.collector import EnergyMeter

    # loaded when there is something to report
    from kpm_planner.report.types import Condition, PowerNodeStateStatus, PowerNodeStatus

#: Seconds between questions to the kubelet while a container's CPUs are awaited: at first, and at
#: most.
_ASK_AGAIN, _ASK_LATER = 0.02, 1.0
_CLOSED_RETRY = 1.0
#: The last report is tried for less than the pod's grace period.
_LAST_TRIES, _LAST_PAUSE = 30, 1.0
_STUCK = 3
#: Seconds for which a machine that cannot be had is no news yet.
REFUSAL_LASTS = 15.0


@frozen
class _Inputs:
    """What a pass plans from beside the machine."""

    accepted: Accepted
    node: Node
    allocation: Allocation
    signals: Signals


@frozen
class _Planned:
    """The last input and the plan that came of it; equal input is not planned again."""

    item: NodeInput | None = None
    view: ClusterView | None = None
    inputs: _Inputs | None = None
    plan: NodePlan = NodePlan("")


@define
class _Text:
    """What was published last, and its text; made again for another value alone."""

    value: Machine | Allocation | None = None
    text: str = ""

    def of(self, value: Machine | Allocation) -> str:
        """What is published of a value; nothing where it is too long."""
        if value is not self.value and value != self.value:
            from kpm.formats.published import packed

            self.text = packed(value) or ""
        self.value = value
        return self.text


@define(eq=False)
class Agent:
    """One node's agent. resync: seconds. wanted: asks the API server whether the agent is still
    wanted, None where it does not say.

    pod_uid: of the pod that this process is, where it is one. settled_in: called after the first
    pass, for what can wait until then.
    """

    node: str
    resync: float
    cluster: Cluster
    kubelet: Kubelet
    tuner: Tuner
    reports: Reports
    log: Log
    scaler: ScalerProcess
    caps: CapFollower
    guard: TelemetryGuard
    wanted: Callable[[], bool | None]
    energy: "EnergyMeter | None" = None
    pod_uid: str = ""
    runtime: "Runtime | None" = None
    settled_in: Callable[[], None] = lambda: None
    wake: threading.Event = field(factory=threading.Event)
    listing: Listing = field(default=Factory(lambda self: Listing(self.log), takes_self=True))
    passed_once: bool = False
    last_tick: float = 0.0
    _stop: bool = False
    _plugged: deque[Collection[int]] = field(factory=deque)
    _looked: float = 0.0
    _waiting_since: float | None = None
    _planned: _Planned = _Planned()
    _metrics: "AgentMetrics | None" = None
    _registry: "CollectorRegistry | None" = None
    _making: threading.Lock = field(factory=threading.Lock)
    _reported: tuple[object, ...] = ()
    _machine_text: _Text = field(factory=_Text)
    _allocation_text: _Text = field(factory=_Text)
    _metered: tuple[object, ...] = ()
    _uid: str | None = None
    _refused_since: float | None = None

    def run(self) -> None:
        """Until SIGTERM: pass after pass. Then leave."""
        self.cluster.start()
        self.reports.start(self.cluster.threads)
        if self.energy is not None:
            self.energy.start(self.cluster.threads)
        if self.runtime is not None:
            self.runtime.start(self.cluster.threads)
        self.last_tick = time.monotonic()
        self.wake.set()
        while not self._stop:
            self.wake.wait(self._pause())
            self.wake.clear()
            if not self._stop:
                self._tick_safely()
        self.leave()

    def stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """End `run` soon; safe in a signal handler."""
        self._stop = True
        self.wake.set()

    def plugged(self, cpus: Collection[int]) -> None:
        """These CPUs came or went, or some that nobody knows; safe in any thread."""
        self._plugged.append(cpus)
        self.wake.set()

    def healthy(self) -> bool:
        """Whether the loop is going round, and no thread is down or begins anew all the time."""
        return (
            time.monotonic() - self.last_tick < _STUCK * max(self.resync, 10.0)
            and not self.cluster.threads.trouble()
        )

    def ready(self) -> bool:
        """Whether a first pass was made; what the hardware cannot do does not matter."""
        return self.passed_once

    def _tick_safely(self) -> None:
        """A pass that fails in a way nobody thought of costs only itself (R6); the log has it, and
        the next one comes after a pause.
        """
        try:
            self.tick()
        except Exception:  # the machine's settings stay, and so does the agent
            self.log.exception("pass failed")
            time.sleep(_CLOSED_RETRY)

    def tick(self) -> None:
        """One pass: see, plan, apply, report."""
        self.last_tick = time.monotonic()
        if not self.listing.done(self.cluster.unsynced):
            # the machine is looked at while the API server answers; nothing is written yet
            self.tuner.ready()
            return
        view = self.cluster.view()
        # a SIGTERM that came before this process could take one is lost
        if self.pod_uid and self.pod_uid in view.ending:
            self.stop()
            return
        if not self._has_machine(view):
            return
        if view.node is None:
            self._planned = _Planned()
            # deleted or not yet there: nothing is known of what is wanted, so nothing is changed
            return
        self._bring(view, view.node)
        if not self.passed_once:
            self.passed_once = True
            self.settled_in()

    def _has_machine(self, view: ClusterView) -> bool:
        """Whether the machine can be tuned now; it is looked at anew where that is due."""
        self.tuner.names_states = (
            IdleStates.of(view.config.agent.idle_states if view.config else None)
            is IdleStates.BY_NAME
        )
        if not self.tuner.ready():
            self._say_refused()
            return False
        self.tuner.prove()
        self._refused_since = None
        if self._plugged or self.last_tick - self._looked >= self.resync:
            self._looked = self.last_tick
            self.tuner.look_anew(self._came_or_went())
            return self.tuner.ready()
        return True

    def _bring(self, view: ClusterView, node: NodeView) -> None:
        """Plan for the node, apply it, and tell everybody."""
        started = time.monotonic()
        told = self.runtime.picture() if self.runtime is not None else None
        inputs = self._inputs(view, node, told.containers if told is not None else ())
        plan = self._plan(view, inputs, self.tuner.machine())
        # first: what the plan takes back nobody else may write
        self.scaler.leave(() if self.tuner.measure_only else plan.scaling)
        plan, went = self.tuner.apply(
            plan, lambda machine: self._plan(view, inputs, machine), self.kubelet.accepted
        )
        went = evolve(went, answered=not self.kubelet.error, owners=view.rivals)
        if told is not None:
            self._let_begin(view, told.created)
        self.scaler.scale(() if went.refused or self.tuner.measure_only else plan.scaling)
        self._tell_telemetry(view)
        self._tell_meter(view, inputs, plan)
        self._measure(plan, time.monotonic() - started)
        self._report(view, plan, went)

    def leave(self) -> None:
        """The process ends: where the agent is not wanted any more everything is put back, else it
        stays (S4).
        """
        for informer in self.cluster.informers:
            informer.stop()
        self.reports.stop()
        self.scaler.stop()
        self.caps.stop()
        if self.runtime is not None:
            self.runtime.stop()
        if self.energy is not None:
            self.energy.stop()
        wanted = self.wanted()
        self.log.info("leaving", wanted={True: "yes", False: "no", None: "no answer"}[wanted])
        if wanted is False and self.tuner.ready():
            restored = self.tuner.restore()
            self._released(restored=restored)
        self.tuner.close()

    def _came_or_went(self) -> frozenset[int]:
        """The CPUs of all hotplug events since this was asked last."""
        found: set[int] = set()
        while self._plugged:
            found.update(self._plugged.popleft())
        return frozenset(found)

    def _pause(self) -> float:
        """Seconds until something is to be done without being told."""
        now = time.monotonic()
        if self.tuner.applier is None:  # an informer wakes the loop once the kinds are listed
            return self.resync if self.cluster.unsynced else _CLOSED_RETRY
        times = [self._looked + self.resync]
        times += [at for at in (self.reports.retry_at(), self.scaler.retry_at()) if at is not None]
        until = self.caps.wait(self._planned.plan)
        times += [] if until is None else [now + until]
        if self.kubelet.waiting or self.kubelet.error:
            self._waiting_since = now if self._waiting_since is None else self._waiting_since
            waited = now - self._waiting_since
            times.append(now + min(max(_ASK_AGAIN, waited / 20), _ASK_LATER))
        else:
            self._waiting_since = None
        return max(0.0, min(times) - now)

    def _inputs(
        self, view: ClusterView, node: NodeView, runtime: tuple[RuntimeCpus, ...]
    ) -> "_Inputs":
        """What a pass plans from beside the machine, asked for once."""
        before = self._planned
        same = (
            before.inputs is not None
            and before.view is not None
            and before.view.intent == view.intent
        )
        accepted = (
            before.inputs.accepted if same and before.inputs is not None else accept(view.intent)
        )
        self.kubelet.recall(self.tuner.memory.now.accepted)
        allocation = self.kubelet.look(
            view.pods, view.config.custom_devices if view.config else (), runtime
        )
        return _Inputs(
            accepted,
            node.node,
            allocation,
            self.caps.signals(holding_cap(node.node, accepted), view.published),
        )

    def _plan(self, view: ClusterView, inputs: "_Inputs", machine: Machine) -> NodePlan:
        before = self._planned
        item = NodeInput(
            inputs.node, machine, inputs.allocation, inputs.signals, self.tuner.memory.versions
        )
        same = (
            before.item == item
            and before.view is not None
            and (before.view.intent, before.view.faults) == (view.intent, view.faults)
        )
        if same and not self.caps.due(before.plan):
            return before.plan
        instant = datetime.now(UTC)
        plan = plan_node(inputs.accepted, item, instant)
        self.caps.planned(plan, instant)
        plan = evolve(
            plan, problems=tuple(sorted({*plan.problems, *inputs.accepted.problems, *view.faults}))
        )
        if plan == before.plan:
            plan = before.plan  # the same value again, so that it compares at once
        self._planned = _Planned(item, view, inputs, plan)
        return plan

    def _report(self, view: ClusterView, plan: NodePlan, went: Pass) -> None:
        """Report what is new; while nothing is, not even the statuses are made."""
        assert view.node is not None
        measured = (
            *(() if self.energy is None else (self.energy.condition(),)),
            *((self.guard.condition(),) if plan.scaling else ()),
        )
        basis = (plan, went, self.tuner.seen, view.node, self.last_tick // SAID_ANEW, measured)
        if not self._retry_due() and basis == self._reported:
            return
        # the Node was deleted and made again, and its objects with it
        anew = self._uid not in (None, view.node.uid)
        self._reported, self._uid = basis, view.node.uid
        from kpm_planner.report.refusals import refusal_problems

        refusals = refusal_problems(plan, self.tuner.shown(), went.outcomes)
        if refusals:
            plan = evolve(plan, problems=tuple(sorted({*plan.problems, *refusals})))
        state, lines = self._statuses(view, plan, went, measured)
        if self._metrics is not None:
            self._metrics.note_conditions(state.conditions)
        pods = {
            f"Pod/{pod.meta.namespace}/{pod.meta.name}": _about_pod(pod.meta) for pod in view.pods
        }
        node, resources, problems = (
            view.node,
            None if went.refused else plan.extended_resources,
            plan.problems,
        )

        def say(reporter: Reporter) -> None:
            self.guard.look()
            if anew:
                reporter.begin_anew()
            reporter.state(state)
            reporter.lines(lines)
            if resources is not None:
                reporter.resources(node, resources)
            reporter.problems(problems, pods)

        self.reports.say(say)
        self._tell_events(went, refusals)

    def _statuses(
        self, view: ClusterView, plan: NodePlan, went: Pass, measured: "tuple[Condition, ...]"
    ) -> "tuple[PowerNodeStateStatus, PowerNodeStatus]":
        """The node's state for programs, and its lines for people."""
        from kpm.formats.views import features
        from kpm_planner.report.node import node_state
        from kpm_planner.report.power_node import power_node

        shown = self.tuner.shown()
        workloads = {
            item.profile.meta.name: workload_name(item.profile.meta.name, self.node)
            for item in plan.profiles
            if item.valid and not item.profile.shared
        }
        supported = [
            (str(item["name"]), bool(item["supported"]), str(item["reason"]))
            for item in features(shown)
        ]
        state = node_state(plan, shown, went, supported, workloads)
        conditions = sorted((*state.conditions, *measured), key=lambda item: item.type)
        devices = view.config.custom_devices if view.config else ()
        lines = power_node(plan, shown, devices, workloads)
        item = self._planned.item
        if item is None:
            return evolve(state, conditions=tuple(conditions)), lines
        return (
            evolve(
                state,
                conditions=tuple(conditions),
                machine=self._machine_text.of(item.machine),
                allocation=self._allocation_text.of(item.allocation),
            ),
            lines,
        )

    def _retry_due(self) -> bool:
        """Whether a report that failed is to be said again now; before that, saying it would only
        go round.
        """
        at = self.reports.retry_at()
        return at is not None and at <= time.monotonic()

    def _tell_events(self, went: Pass, refusals: tuple[Problem, ...]) -> None:
        """What happened in a pass, as Events of the node's state."""
        told = [("Refused", went.refused)] if went.refused else []
        told += [("Forbidden", line) for line in went.forbidden]
        told += [("WriteRefused", f"{problem.object}: {problem.message}") for problem in refusals]
        by = f", perhaps by {' or '.join(went.owners)}" if went.owners else ""
        told += [
            (
                "ForeignValue",
                f"{write.path}: wanted {write.value}, somebody else wrote {write.old}{by}",
            )
            for write in went.drift[:3]
        ]
        for reason, message in told:
            self.reports.tell(partial(_say_of_node, reason=reason, message=message))

    def _let_begin(self, view: ClusterView, created: "tuple[Creation, ...]") -> None:
        """The containers that this pass knew of may begin; one whose pod the API has not shown yet
        waits on.
        """
        if self.runtime is not None and created:
            pods = {pod.node_uid for pod in view.pods}
            self.runtime.answer(tuple(item for item in created if item.uid in pods))

    def worth_waiting(self, uid: str, container: str) -> bool:
        """Whether a container that is being created may ask for a profile: it does, or its pod is
        not known yet. Called by another thread.
        """
        if self.cluster.unsynced or self.tuner.measure_only:
            return False
        pod = self.cluster.pod(uid)
        return pod is None or any(
            item.name == container and requested_profiles(item) for item in pod.containers
        )

    def _tell_telemetry(self, view: ClusterView) -> None:
        """An Event about a pod whose telemetry is of no use: its CPUs have the fall-back frequency,
        which nobody else would say.
        """
        news = self.scaler.news()
        if not news:
            return
        from kpm.scaler.telemetry import PeerStatus

        pods = {pod.meta.uid: pod.meta for pod in view.pods}
        for item in news:
            meta = pods.get(item.uid)
            if meta is not None and item.state != PeerStatus.CONNECTED:
                # what follows is the pod's own words, and would make every Event a new one
                kind = item.state.partition(":")[0]
                message = f"DPDK telemetry: {kind}; its CPUs have the fall-back frequency"
                about = _about_pod(meta)
                self.reports.tell(partial(_say_no_telemetry, about=about, message=message))

    def _tell_meter(self, view: ClusterView, inputs: "_Inputs", plan: NodePlan) -> None:
        """Who the containers are whose energy is measured, where that may have changed."""
        basis = (view.pods, inputs.allocation, plan.groups, self.tuner.seen)
        if self.energy is None or basis == self._metered:
            return
        from kpm.energy.names import known_containers

        self._metered = basis
        allocation = inputs.allocation
        pools = {cpu: group.pool.value for group in plan.groups for cpu in group.cpus}
        self.energy.follow(
            self.tuner.shown(),
            *known_containers(view.pods, allocation.said_last, plan.groups),
            pools,
        )

    def _say_refused(self) -> None:
        """Report why the machine cannot be had, once that has lasted; while one agent follows
        another it is no news.
        """
        if self._refused_since is None:
            self._refused_since = self.last_tick
        if self.last_tick - self._refused_since >= REFUSAL_LASTS:
            from kpm_planner.report.room import cut
            from kpm_planner.report.types import Condition, PowerNodeStateStatus

            state, reason = (
                PowerNodeStateStatus(
                    conditions=(Condition("Ready", "False", "Refused", cut(self.tuner.refused)),)
                ),
                self.tuner.refused,
            )
            self.reports.say(lambda reporter: reporter.state(state))
            self.reports.tell(lambda reporter: reporter.event("Refused", reason))
            self._reported = ()

    def _released(self, *, restored: bool) -> None:
        """Say that the node is as it was, and take back what was made for it."""
        from kpm_planner.report.types import Condition, PowerNodeStateStatus

        node = self.cluster.own_node()
        reason = (
            ("Released", "everything is as it was")
            if restored
            else ("NotRestored", "some files could not be put back, see the log")
        )
        conditions = (
            Condition("Ready", "False", reason[0], reason[1]),
            Condition("Released", "True" if restored else "False", reason[0], reason[1]),
        )
        reporter = self.reports.reporter
        ends = time.monotonic() + _LAST_TRIES * _LAST_PAUSE
        while time.monotonic() < ends:  # the operator waits for this word
            reporter.hurry()
            if node is not None:
                reporter.resources(node, {})
            if reporter.state(PowerNodeStateStatus(conditions=conditions)) or reporter.gone:
                return  # said, or the node is gone and its objects with it: there is nobody to tell
            time.sleep(_LAST_PAUSE)
        self.log.error("the API server did not take the last report")

    def registry(self) -> "CollectorRegistry":
        """The agent's own metrics; made when they are asked for or noted first, which a start has
        no need of.
        """
        with self._making:  # a reader's thread may ask while the loop notes
            if self._registry is None:
                from kpm.agent.metrics import AgentMetrics
                from kpm.process.serving import process_registry

                registry = process_registry()
                self._metrics, self._registry = AgentMetrics.on(registry), registry
            return self._registry

    def _measure(self, plan: NodePlan, seconds: float) -> None:
        self.registry()
        assert self._metrics is not None
        self._metrics.note(self.tuner, plan, seconds)
        self._metrics.note_power(plan)
        self._metrics.note_speeds(self.scaler.speeds() if plan.scaling else {})


def _say_of_node(reporter: Reporter, *, reason: str, message: str) -> None:
    reporter.event(reason, message)


def _say_no_telemetry(reporter: Reporter, *, about: About, message: str) -> None:
    reporter.events.say(about, "NoTelemetry", message)


def _about_pod(meta: Meta) -> About:
    return About("v1", "Pod", meta.name, meta.namespace, meta.uid)


def still_wanted(
    configs: Callable[[], list[tuple[dict[str, str], bool]]],
    labels: Callable[[], dict[str, str] | None],
    namespace_stays: Callable[[], bool],
) -> bool | None:
    """Whether a PowerConfig that is not being deleted selects the node; None where the API server
    does not say.

    configs: selector and whether it is being deleted, the oldest first. labels: of the node, None
    where it is gone. namespace_stays: False while the system's namespace is deleted, which ends the
    agents before the PowerConfig.
    """
    try:
        found, node, stays = configs(), labels(), namespace_stays()
    except ApiError:
        return None
    if node is None or not found or not stays:
        return False
    selector, deleting = found[0]
    return not deleting and (not selector or selects_map(selector, node))
