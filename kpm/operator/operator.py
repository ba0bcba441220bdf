"""The operator's process: informers and a lease that wake one loop, which sees, reconciles and
carries out.
"""

import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, assert_never

from attrs import Factory, define, evolve, field, frozen

from kpm.kube.api import JSON_PATCH, Api, ApiError, Resource
from kpm.kube.events import About, Recorder
from kpm.kube.informer import ApiListWatch, Informer
from kpm.kube.kinds import AGENT_NAME, FINALIZER, NODES, namespace_ends, power
from kpm.kube.lease import LONGEST_TURN, Lease
from kpm.operator.admission import Admission
from kpm.operator.daemonset import Image
from kpm.operator.endings import LONGEST, Lost, Wait, remembered, waits
from kpm.operator.external import External
from kpm.operator.observed import (
    Held,
    Kept,
    SeenCluster,
    agent_runs_on,
    held_object,
    held_plain,
    held_state,
    node_seen,
)
from kpm.operator.reconcile import Action, Apply, Delete, Finalize, Mend, Tell, managed, reconcile
from kpm.process.fetching import fetch_outside
from kpm.process.logs import Log
from kpm.process.loops import Listing, trouble_logger
from kpm.process.threads import Threads

MANAGER = "power-manager-operator"
#: Events that come together make one pass; while many come, as long is gathered as a pass takes.
_GATHER, _GATHER_LONGEST = 0.1, 2.0
_RETRY_FIRST, _RETRY_LONGEST = 0.5, 30.0
_RESYNC = 300.0
_STUCK = 3
#: Seconds between two answers to foreign edits of the DaemonSet.
_MEND_AGAIN = 60.0
#: Seconds between looks at the nodes that are waited for.
_LOOK_AT_WAITS = 10.0
#: Seconds after SIGTERM, within the pod's grace period.
_FAREWELL = 25.0
_CONFLICTS = (404, 409, 422)


@frozen
class Place:
    """Where the operator works."""

    group: str
    namespace: str


#: What is made for each node.
_MADE = ("powernodes", "powernodestates")


class Informers:
    """The informers of the operator. ending: the namespace is being deleted, and every PowerConfig
    in it is as good as deleted.
    """

    def __init__(self, api: Api, place: Place, wake: threading.Event, log: Log) -> None:
        self.place, self.ending = place, False
        trouble = trouble_logger(log)

        def informer(
            plural: str, resource: Resource, transform: Any, selectors: dict[str, str] | None = None
        ) -> Informer:
            return Informer(
                plural, ApiListWatch(api, resource, selectors or {}), wake.set, transform, trouble
            )

        def ours(plural: str, kind: str) -> Informer:
            return informer(
                plural,
                power(place.group, plural, place.namespace),
                lambda document: held_object(document, kind, place.group),
            )

        self.configs = ours("powerconfigs", "PowerConfig")
        self.profiles = ours("powerprofiles", "PowerProfile")
        self.workloads = ours("powerworkloads", "PowerWorkload")
        self.node_configs = ours("powernodeconfigs", "PowerNodeConfig")
        self.uncores, self.caps = ours("uncores", "Uncore"), ours("powercaps", "PowerCap")
        made = {name: power(place.group, name, place.namespace) for name in _MADE}
        self.power_nodes = informer("powernodes", made["powernodes"], held_plain)
        self.states = informer("powernodestates", made["powernodestates"], held_state)
        self.nodes = informer("nodes", NODES, node_seen)
        self.pods = informer(
            "pods",
            Resource("", "v1", "pods", place.namespace),
            agent_runs_on,
            {"labelSelector": f"app.kubernetes.io/name={AGENT_NAME}"},
        )
        self.daemon_sets = informer(
            "daemonsets",
            daemon_sets(place),
            held_plain,
            {"fieldSelector": f"metadata.name={AGENT_NAME}"},
        )

    @property
    def informers(self) -> tuple[Informer, ...]:
        """All of them."""
        own = (
            self.configs,
            self.profiles,
            self.workloads,
            self.node_configs,
            self.uncores,
            self.caps,
            self.power_nodes,
            self.states,
        )
        return (*own, self.nodes, self.pods, self.daemon_sets)

    @property
    def unsynced(self) -> tuple[str, ...]:
        """Kinds that have not been listed yet."""
        return tuple(item.name for item in self.informers if not item.synced)

    def observed(self) -> SeenCluster:
        """All that is known now."""
        configs: tuple[Held[Any], ...] = self.configs.values()
        if self.ending:
            configs = tuple(evolve(item, deleting=True) for item in configs)
        return SeenCluster(
            self.place.namespace,
            self.place.group,
            configs,
            profiles=self.profiles.values(),
            workloads=self.workloads.values(),
            node_configs=self.node_configs.values(),
            uncores=self.uncores.values(),
            caps=self.caps.values(),
            power_nodes=self.power_nodes.values(),
            states=self.states.values(),
            nodes={item.node.name: item for item in self.nodes.values()},
            daemon_set=self.daemon_sets.get(AGENT_NAME, self.place.namespace),
            agents=frozenset(self.pods.values()) - {""},
        )


def daemon_sets(place: Place) -> Resource:
    """The DaemonSets of the system's namespace."""
    return Resource("apps", "v1", "daemonsets", place.namespace)


@define(eq=False)
class Operator:
    """One candidate for the work; only the leader does any."""

    api: Api
    place: Place
    image: Image
    world: Informers
    lease: Lease
    events: Recorder
    log: Log
    wake: threading.Event
    threads: Threads
    external: External
    admission: Admission
    last_tick: float = 0.0
    _stop: bool = False
    _failures: int = 0
    _mended_at: float = float("-inf")
    _waits: dict[str, tuple[Wait, float, float]] = field(factory=dict)
    _lost: dict[str, str] | None = None
    _kept: dict[tuple[str, str], Kept] = field(factory=dict)
    listing: Listing = field(default=Factory(lambda self: Listing(self.log), takes_self=True))

    def run(self) -> None:
        """Until SIGTERM: pass after pass while leading."""
        for informer in self.world.informers:
            informer.start(self.threads)
        thread = self.threads.start("lease", self._keep_lease, self.lease.stopped, LONGEST_TURN)
        self.last_tick = time.monotonic()
        pause, took = _RESYNC, 0.0
        while not self._stop:
            self.wake.wait(pause)
            if not self._stop:
                time.sleep(min(max(_GATHER, took), _GATHER_LONGEST))
                self.wake.clear()
                started = time.monotonic()
                pause = self._tick_safely()
                took = time.monotonic() - started
        self._finish()
        self.external.stop()
        self.lease.stop()
        for informer in self.world.informers:
            informer.stop()
        thread.join(timeout=5.0)

    def stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """End `run` soon; safe in a signal handler."""
        self._stop = True
        self.wake.set()

    def healthy(self) -> bool:
        """Whether the loop is going round, and no thread is down or begins anew all the time."""
        return time.monotonic() - self.last_tick < _STUCK * _RESYNC and not self.threads.trouble()

    def ready(self) -> bool:
        """Whether everything has been listed; who leads does not matter."""
        return not self.world.unsynced

    def _finish(self) -> None:
        """A PowerConfig that is being deleted is seen through, so that an uninstall of everything
        at once does not hang on its finalizer.

        The end of a namespace takes the pods first, this one among them: nobody would take the
        finalizer off later. So it is taken off in any case then, and the log has the nodes that did
        not report in time.
        """
        try:
            self.world.ending = namespace_ends(self.api, self.place.namespace)
        except ApiError as failure:
            self.log.warning("not known whether the namespace ends", error=str(failure))
        ends = time.monotonic() + _FAREWELL
        while self._is_held():
            late = self.world.ending and time.monotonic() > ends
            self._tick_safely(late=late)
            if late or time.monotonic() > ends:
                return
            self.wake.clear()
            self.wake.wait(_GATHER)

    def _is_held(self) -> bool:
        """Whether a PowerConfig that is to go still has the finalizer."""
        return any(
            item.deleting and FINALIZER in item.finalizers for item in self.world.observed().configs
        )

    def _tick_safely(self, *, late: bool = False) -> float:
        """A pass that fails in a way nobody thought of is logged and made again after a while."""
        try:
            return self.tick(late=late)
        except Exception:  # one odd object must not end the work for all nodes
            self.log.exception("pass failed")
            return _RETRY_LONGEST

    def tick(self, *, late: bool = False) -> float:
        """One pass; seconds until the next one if nothing happens. late: no node is waited for any
        more.
        """
        self.last_tick = time.monotonic()
        if not self.listing.done(self.world.unsynced) or not self._leads():
            self.external.follow(())
            return _RESYNC
        seen = self.world.observed()
        self.external.follow(item.value for item in seen.caps if item.value is not None)
        unguarded = self.admission.missing() if seen.configs else ()
        seen = evolve(
            seen,
            published=self.external.published(),
            hosts=self.external.hosts,
            unguarded=unguarded,
            kept=self._still_kept(seen),
        )
        failed = 0
        lost = (
            Lost(dict.fromkeys(seen.nodes, "did not answer in time"))
            if late
            else self._lost_nodes(seen)
        )
        actions = reconcile(seen, self.image, lost)
        for action in actions:
            if not self._leads():
                return _RESYNC
            failed += not self.carry_out(action)
        self._failures = self._failures + 1 if failed else 0
        if failed:
            return float(min(_RETRY_FIRST * 2 ** min(self._failures, 10), _RETRY_LONGEST))
        if any(isinstance(action, Mend) for action in actions):
            return _MEND_AGAIN
        return _LOOK_AT_WAITS if self._waits or unguarded else _RESYNC

    def carry_out(self, action: Action) -> bool:
        """Do one thing; False where it has to be tried again."""
        try:
            match action:
                case Apply():
                    self._apply(action)
                case Mend():
                    self._mend(action)
                case Delete():
                    self.api.delete(self._resource(action.plural), action.name, uid=action.uid)
                case Finalize():
                    self._finalize(action)
                case Tell():
                    self._tell(action)
                case _:
                    assert_never(action)
        except ApiError as failure:
            self.log.warning(
                "not done", action=type(action).__name__, name=action.name, error=str(failure)
            )
            # what has changed meanwhile wakes the loop by itself
            return failure.status in _CONFLICTS
        if not isinstance(action, Tell):
            self.log.info(
                "done",
                action=type(action).__name__,
                kind=getattr(action, "plural", "powerconfigs"),
                name=action.name,
                part=getattr(action, "subresource", None),
            )
        return True

    def _still_kept(self, seen: SeenCluster) -> Mapping[tuple[str, str], Kept]:
        """What the API server cut, of objects that are there still."""
        if self._kept:
            there = {(plural, item.name) for plural, items in seen.by_plural() for item in items}
            self._kept = {key: kept for key, kept in self._kept.items() if key in there}
        return self._kept

    def _apply(self, action: Apply) -> None:
        stored = self.api.apply(
            self._resource(action.plural),
            action.name,
            action.body,
            MANAGER,
            subresource=action.subresource,
        )
        if action.subresource == "status":
            sent, kept = action.body["status"], stored.get("status") or {}
            self._kept.pop((action.plural, action.name), None)
            if kept != sent:
                self._kept[action.plural, action.name] = sent, kept

    def _tell(self, action: Tell) -> None:
        version, place = f"{self.place.group}/v1", self.place.namespace
        about = About(version, action.kind, action.name, place, action.uid)
        self.events.say(about, action.reason, action.message)

    def _leads(self) -> bool:
        """Whether this one may act at this moment; asked before every action."""
        return self.lease.leading

    def _finalize(self, action: Finalize) -> None:
        before = next(
            (item.finalizers for item in self.world.configs.values() if item.name == action.name),
            (),
        )
        patch = (
            [{"op": "test", "path": "/metadata/finalizers", "value": list(before)}]
            if before
            else []
        )
        patch.append(
            {"op": "add", "path": "/metadata/finalizers", "value": list(action.finalizers)}
        )
        self.api.patch(self._resource("powerconfigs"), action.name, patch, kind=JSON_PATCH)

    def _mend(self, action: Mend) -> None:
        """Not again and again: who changes it back at once is told of by an Event, and fought once
        in a while.
        """
        now = time.monotonic()
        if now - self._mended_at < _MEND_AGAIN:
            return
        self._mended_at = now
        about = About("apps/v1", "DaemonSet", action.name, self.place.namespace, action.uid)
        self.events.say(
            about,
            "ForeignEdit",
            f"spec.{action.place} was changed by somebody else and is put back; settings are the"
            " PowerConfig's",
        )
        self.api.patch(
            daemon_sets(self.place),
            action.name,
            [{"op": "replace", "path": "/spec", "value": action.spec}],
            kind=JSON_PATCH,
        )

    def _resource(self, plural: str) -> Resource:
        return (
            daemon_sets(self.place)
            if plural == "daemonsets"
            else power(self.place.group, plural, self.place.namespace)
        )

    def _lost_nodes(self, seen: SeenCluster) -> Lost:
        """Nodes that were waited for in vain, by this process's own clock or by that of the
        operator before it; forgotten once gone or managed again.
        """
        now = time.monotonic()
        known, self._waits = self._waits, {}
        wanted = managed(seen)
        for node, why in waits(seen, wanted).items():
            last, since, left = known.get(node, (why, now, now))
            self._waits[node] = (why, since if last is why else now, left)
        before = remembered(seen.configs) if self._lost is None else self._lost
        self._lost = {
            node: why for node, why in before.items() if node in seen.nodes and node not in wanted
        }
        vain = {
            node: why
            for node, (why, since, left) in self._waits.items()
            if now - since >= why.seconds or now - left >= LONGEST
        }
        self._lost |= {node: f"not waited for any more: {why.words}" for node, why in vain.items()}
        return Lost(dict(self._lost))

    def _keep_lease(self) -> None:
        self.lease.run(self._gained, self._deposed, lambda: self.threads.turn("lease"))

    def _gained(self) -> None:
        self.log.info("leading")
        self.wake.set()

    def _deposed(self) -> None:
        self.log.warning("not leading any more")


def build_operator(
    api: Api, place: Place, image: Image, identity: str, log: Log, hosts: tuple[str, ...] = ()
) -> Operator:
    """An operator that is ready to run. hosts: servers that it may ask
    for the sake of power caps.
    """
    wake = threading.Event()
    lease = Lease(
        api,
        Resource("coordination.k8s.io", "v1", "leases", place.namespace),
        MANAGER,
        identity,
        time.monotonic,
    )
    events = Recorder(
        api,
        MANAGER,
        identity,
        fallback_namespace=place.namespace,
        log=log,
        monotonic=time.monotonic,
    )
    threads = Threads(log)
    return Operator(
        api,
        place,
        image,
        world=Informers(api, place, wake, log),
        lease=lease,
        events=events,
        log=log,
        wake=wake,
        threads=threads,
        external=External(hosts, log, wake.set, threads, fetch_outside),
        admission=Admission(api, time.monotonic),
    )
