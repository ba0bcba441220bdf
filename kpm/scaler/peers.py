"""The telemetry of every pod that is scaled: found, connected to, asked all at once, and tried
again where it is lost.

Each pod has a budget of time for what it answers, filled as the clock goes on: a pod that answers
much, or by many sockets, is asked less often, and its neighbours as often as before.
"""

import select
import time
from collections.abc import Callable, Iterable

from attrs import define, field

from kpm.process.errors import one_line
from kpm.process.logs import Log
from kpm.scaler import sockets
from kpm.scaler.telemetry import Telemetry, TelemetryError
from kpm.scaler.words import News

#: µs between looks at a pod's folder, and before a connection that ended is tried again: at first,
#: and at most.
_LOOK_US = 1_000_000
_RETRY_US, _RETRY_LONGEST_US = 100_000, 5_000_000
#: A peer that says nothing for so long is left and connected to anew.
_SILENT_US = 2_000_000
#: One word a second about a pod at most: what it says and how its sockets are called is its own
#: choice.
_SAY_US = 1_000_000
#: Of all time, what answers of all pods together may take, by equal parts; what each may at least,
#: twice what an honest one needs every 10 ms; and the most that a pod saves up, µs.
_ANSWERS_SHARE, _LEAST_SHARE, _MOST_SAVED_US = 0.3, 0.015, 1_000.0


def thread_us() -> float:
    """What this thread has used of a CPU, µs."""
    return time.thread_time_ns() / 1000


@define
class Budget:
    """Time that a pod may use: what it has left, and when that was reckoned. Units: µs."""

    left_us: float = _MOST_SAVED_US
    at_us: int = 0

    def fill(self, now_us: int, share: float) -> None:
        """A share of the time since then is added."""
        self.left_us = min(self.left_us + share * max(0, now_us - self.at_us), _MOST_SAVED_US)
        self.at_us = now_us


@define(eq=False)
class Peer:
    """A socket of a pod, by its file prefix. telemetry: None while there is no connection."""

    uid: str
    prefix: str
    telemetry: Telemetry | None = None
    retry_us: int = 0
    pause_us: int = _RETRY_US
    said: str = ""


@define(eq=False)
class Peers:
    """All of a node. root: the folder that has a folder for each pod's UID; tell: is told of every
    peer that changes its state.

    used_us: time that this thread has used.
    """

    root: str
    log: Log
    now_us: Callable[[], int]
    tell: Callable[[News], None] = lambda _news: None
    used_us: Callable[[], float] = thread_us
    _budgets: dict[str, Budget] = field(factory=dict)
    _of: dict[str, dict[str, Peer]] = field(factory=dict)
    _looked_us: dict[str, int] = field(factory=dict)
    _said_us: dict[str, int] = field(factory=dict)

    def of(self, uid: str) -> Iterable[Peer]:
        """The sockets of a pod."""
        return self._of[uid].values() if uid in self._of else ()

    def only(self, uids: set[str]) -> None:
        """Leave every pod but these."""
        for uid in self._of.keys() - uids:
            for peer in self._of.pop(uid).values():
                self._close(peer)
            self._looked_us.pop(uid, None)
            self._said_us.pop(uid, None)
            self._budgets.pop(uid, None)

    def ask(self, uids: Iterable[str], wait_us: int) -> None:
        """Ask every socket of these pods for its counters, and take the answers that come within a
        time; a later one is taken next time.
        """
        now = self.now_us()
        waiting: dict[int, Peer] = {}
        poll = select.poll()
        for uid in uids:
            if not self._may_use(uid, now):
                continue
            began = self.used_us()
            self._look(uid, now)
            for peer in self.of(uid):
                telemetry = self._asked(peer, now)
                if telemetry is not None:
                    waiting[telemetry.link.fileno()] = peer
            self.charge(uid, self.used_us() - began)
        for descriptor in waiting:
            poll.register(descriptor, select.POLLIN)
        self._take_answers(poll, waiting, now + wait_us)

    def charge(self, uid: str, used_us: float) -> None:
        """Time that was used for a pod."""
        if uid in self._budgets:
            self._budgets[uid].left_us -= used_us

    def _may_use(self, uid: str, now: int) -> bool:
        """Whether a pod has anything left of its budget."""
        budget = self._budgets.setdefault(uid, Budget(at_us=now))
        budget.fill(now, max(_ANSWERS_SHARE / len(self._budgets), _LEAST_SHARE))
        return budget.left_us > 0

    def _asked(self, peer: Peer, now: int) -> Telemetry | None:
        """The telemetry of a peer that has a question open now; None where there is no connection
        any more.
        """
        if self._receive(peer) and peer.telemetry is not None:
            telemetry = peer.telemetry
            if telemetry.idle:
                self._try(peer, lambda: telemetry.ask(now))
            elif now - telemetry.since_us > _SILENT_US:
                self._lost(peer, "silent", now)
        return peer.telemetry

    def _take_answers(self, poll: select.poll, waiting: dict[int, Peer], ends_us: int) -> None:
        while waiting:
            left_us = ends_us - self.now_us()
            ready = poll.poll(left_us // 1000) if left_us > 0 else []
            if not ready:
                return
            for descriptor, _ in ready:
                peer = waiting[descriptor]
                began = self.used_us()
                more = (
                    self._budgets[peer.uid].left_us > 0
                    and self._receive(peer)
                    and self._has_more_to_say(peer)
                )
                self.charge(peer.uid, self.used_us() - began)
                if not more:  # where its budget is used up, what it has said waits in its socket
                    del waiting[descriptor]
                    poll.unregister(descriptor)

    def _has_more_to_say(self, peer: Peer) -> bool:
        """Whether an answer is still to come; where lcores are new, the next question follows at
        once.
        """
        telemetry = peer.telemetry
        if telemetry is None:
            return False
        if telemetry.idle and (telemetry.answered_us is None or telemetry.unplaced is not None):
            self._try(peer, lambda: telemetry.ask(self.now_us()))
        return peer.telemetry is not None and not telemetry.idle

    def _look(self, uid: str, now: int) -> None:
        """New sockets of a pod, and connections to be tried again."""
        peers = self._of.setdefault(uid, {})
        if now - self._looked_us.get(uid, -_LOOK_US) >= _LOOK_US:
            self._looked_us[uid] = now
            found = sockets.prefixes(
                self.root,
                uid,
                [prefix for prefix, peer in peers.items() if peer.telemetry is not None],
            )
            for prefix in peers.keys() - set(found):
                self._close(peers.pop(prefix))
            for prefix in found:
                peers.setdefault(prefix, Peer(uid, prefix))
        for peer in peers.values():
            if peer.telemetry is None and now >= peer.retry_us:
                self._connect(peer, now)

    def _connect(self, peer: Peer, now: int) -> None:
        try:
            link = sockets.connect(self.root, peer.uid, peer.prefix)
        except OSError as failure:
            self._lost(peer, failure.strerror or str(failure), now)
            return
        if sockets.stranger(link, peer.uid):
            link.close()
            self._lost(peer, "the socket belongs to a process of another pod", now)
            return
        peer.telemetry = Telemetry(link, since_us=now)

    def _receive(self, peer: Peer) -> bool:
        """Take what has come; whether the connection still stands."""
        telemetry = peer.telemetry
        if telemetry is None:
            return False

        def take() -> None:
            if telemetry.receive(self.now_us()) and telemetry.answered_us is not None:
                peer.pause_us = _RETRY_US
                self._say(peer, telemetry.status)

        return self._try(peer, take)

    def _try(self, peer: Peer, do: Callable[[], object]) -> bool:
        try:
            do()
        except TelemetryError as failure:
            self._lost(peer, str(failure), self.now_us())
            return False
        return True

    def _lost(self, peer: Peer, why: str, now: int) -> None:
        """No connection any more; it is tried again later and later."""
        self._close(peer)
        peer.retry_us, peer.pause_us = (
            now + peer.pause_us,
            min(peer.pause_us * 2, _RETRY_LONGEST_US),
        )
        self._say(peer, why)

    def _say(self, peer: Peer, what: str) -> None:
        now = self.now_us()
        # else it is said the next time it is so
        if what != peer.said and now - self._said_us.get(peer.uid, -_SAY_US) >= _SAY_US:
            peer.said, self._said_us[peer.uid] = what, now
            self.log.info("telemetry", pod=peer.uid, prefix=one_line(peer.prefix), state=what)
            self.tell(News(peer.uid, one_line(peer.prefix), what))

    def _close(self, peer: Peer) -> None:
        if peer.telemetry is not None:
            peer.telemetry.link.close()
            peer.telemetry = None
