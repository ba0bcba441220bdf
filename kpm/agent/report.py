"""What the agent writes to the API server: statuses, extended resources, Events; each only when it
changed.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from kpm.agent.cluster import NodeView
from kpm.formats.wire import document_of
from kpm.kube.api import Api, ApiError, Object
from kpm.kube.events import About, Recorder
from kpm.kube.kinds import NODES, power, state_name
from kpm.process.logs import Log
from kpm_planner.model.problems import Problem, Severity

if TYPE_CHECKING:
    from kpm_planner.report.types import Condition, PowerNodeStateStatus, PowerNodeStatus

MANAGER = "power-node-agent"
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0
#: Seconds after which a status is sent again although nothing changed: somebody may have deleted
#: the object.
SAID_ANEW = 900.0


@define
class _Sent:
    """What one object holds by our last word, and when to try again after a failure."""

    body: Any = None
    sent_at: float = 0.0
    retry_at: float = 0.0
    pause: float = 0.0


@define
class Reporter:
    """One node's reports. gone: there was no object to report to when that was tried last. turn:
    called before each request.
    """

    api: Api
    group: str
    namespace: str
    node: str
    events: Recorder
    log: Log
    monotonic: Callable[[], float]
    gone: bool = False
    turn: Callable[[], None] = lambda: None
    _conditions: "tuple[Condition, ...] | None" = None
    _sent: dict[str, _Sent] = field(factory=dict)
    _told: frozenset[Problem] = frozenset()
    _owed: dict[Problem, About] = field(factory=dict)

    def state(self, status: "PowerNodeStateStatus") -> bool:
        """Report the PowerNodeState; whether the server has it now."""
        before = self._before()
        if before is None:
            return False
        from kpm_planner.report.conditions import stamped

        conditions = stamped(status.conditions, before, datetime.now(UTC))
        done = self._put(
            "powernodestates",
            "PowerNodeState",
            state_name(self.node),
            evolve(status, conditions=conditions),
        )
        if done:
            self._conditions = conditions
        return done

    def lines(self, status: "PowerNodeStatus") -> None:
        """Report the PowerNode."""
        self._put("powernodes", "PowerNode", self.node, status)

    def resources(self, node: NodeView, wanted: Mapping[str, int]) -> None:
        """Make the node advertise these extended resources of ours, and no others; key by key."""
        texts = {key: str(amount) for key, amount in wanted.items()}
        changes: dict[str, str | None] = {
            key: text for key, text in texts.items() if node.resources.get(key) != (text, text)
        }
        changes |= {
            key: None
            for key, shown in node.resources.items()
            if key not in texts and shown != (None, None)
        }
        sent = self._sent.setdefault("resources", _Sent())
        if not changes or changes != sent.body:
            sent.pause = sent.retry_at = 0.0
        if not changes or self.monotonic() < sent.retry_at:
            return
        sent.body = changes
        self.turn()
        try:
            self.api.patch(
                NODES,
                self.node,
                {"status": {"capacity": changes, "allocatable": changes}},
                subresource="status",
            )
        except ApiError as failure:
            self._failed(sent, "node status", failure)
            return
        # Until the watch has shown it; where the Node does not keep what it was given, later and
        # later.
        self._pause(sent, min(sent.pause * 2, _LONGEST_RETRY) or _FIRST_RETRY)
        self.log.info("extended resources", changes=changes)

    def problems(self, problems: tuple[Problem, ...], pods: Mapping[str, About]) -> None:
        """Events for new errors of pods; those of other objects are in their status.

        One log line for each new problem.
        """
        now = frozenset(problems)
        new, owed = now - self._told, now & self._owed.keys()
        self._told, self._owed = now, {}
        for problem in sorted(new):
            self.log.info(
                "problem",
                severity=str(problem.severity),
                code=str(problem.code),
                object=problem.object,
                field=problem.field,
                message=problem.message,
            )
        for problem in sorted(new | owed):
            about = pods.get(problem.object)
            if (
                about is not None
                and problem.severity is Severity.ERROR
                and not self._tell(about, problem)
            ):
                self._owed[problem] = about

    def _tell(self, about: About, problem: Problem) -> bool:
        self.turn()
        reason = "".join(word.capitalize() for word in str(problem.code).split("-"))
        return self.events.say(
            about, reason, f"{problem.field}: {problem.message}".removeprefix(": ")
        )

    def event(self, reason: str, message: str, *, warning: bool = True) -> None:
        """An Event about this node's PowerNodeState."""
        self.events.say(
            About(f"{self.group}/v1", "PowerNodeState", state_name(self.node), self.namespace),
            reason,
            message,
            warning=warning,
        )

    def begin_anew(self) -> None:
        """The node's objects are others than those that were reported to: say everything again."""
        self._sent.clear()
        self._conditions = None

    def hurry(self) -> None:
        """Wait for no back-off any more: the process is about to end."""
        for sent in list(self._sent.values()):
            sent.pause = sent.retry_at = 0.0

    def retry_at(self) -> float | None:
        """When a report that failed is to be tried again."""
        times = [sent.retry_at for sent in list(self._sent.values()) if sent.pause]
        times += [self.events.room_at(about) for about in list(self._owed.values())]
        return min(times, default=None)

    def _before(self) -> "tuple[Condition, ...] | None":
        """The conditions that the object has, read once; None while it cannot be read."""
        if self._conditions is None:
            sent = self._sent.setdefault("conditions", _Sent())
            if self.monotonic() < sent.retry_at:
                return None
            try:
                found = self.api.get(
                    power(self.group, "powernodestates", self.namespace), state_name(self.node)
                )
            except ApiError as failure:
                self._failed(sent, "PowerNodeState", failure)
                return None
            sent.pause = sent.retry_at = 0.0
            self._conditions = tuple(
                _condition(item) for item in (found.get("status") or {}).get("conditions") or ()
            )
        return self._conditions

    def _put(self, plural: str, kind: str, name: str, status: object) -> bool:
        sent = self._sent.setdefault(plural, _Sent())
        body = document_of(status)
        if body == sent.body and self.monotonic() - sent.sent_at < SAID_ANEW:
            sent.pause = sent.retry_at = 0.0
            return True
        if self.monotonic() < sent.retry_at:
            return False
        whole = {
            "apiVersion": f"{self.group}/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "status": body,
        }
        self.turn()
        try:
            self.api.apply(
                power(self.group, plural, self.namespace),
                name,
                whole,
                MANAGER,
                subresource="status",
            )
        except ApiError as failure:
            # without an answer it may have been taken, so that nothing is known of what the server
            # has
            sent.body = None
            self._failed(sent, kind, failure)
            return False
        sent.body, sent.sent_at, sent.retry_at, sent.pause = body, self.monotonic(), 0.0, 0.0
        return True

    def _failed(self, sent: _Sent, what: str, failure: ApiError) -> None:
        self.gone = failure.missing
        self._pause(sent, min(sent.pause * 2, _LONGEST_RETRY) or _FIRST_RETRY)
        self.log.warning("report failed", what=what, error=str(failure), again_in=sent.pause)

    def _pause(self, sent: _Sent, seconds: float) -> None:
        sent.pause, sent.retry_at = seconds, self.monotonic() + seconds


def _condition(item: Object) -> "Condition":
    from kpm_planner.report.types import Condition

    kind, status, reason, message = (
        str(item.get(key) or "") for key in ("type", "status", "reason", "message")
    )
    return Condition(kind, status, reason, message, item.get("lastTransitionTime"))
