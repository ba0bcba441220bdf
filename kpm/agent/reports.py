"""What the loop has to say, said by a thread of its own: a server that hangs costs nobody a tuned
CPU.

Of what is said only the newest counts: it replaces what has not been sent yet. Events happened, so
they queue, up to a number. Before `start` and after `stop` everything is said at once, by whoever
says it.
"""

import threading
from collections import deque
from collections.abc import Callable

from attrs import define, field

from kpm.agent.report import Reporter
from kpm.process.threads import Threads

_MOST_EVENTS = 200
#: Seconds for which the end waits for a request that is under way.
_PATIENCE = 5.0
#: Seconds between two turns: at least so often without anything to say, and at most, many requests
#: that hang among them.
_TURN, _LONGEST_TURN = 30.0, 1800.0
Job = Callable[[Reporter], object]


@define(eq=False)
class Reports:
    """The thread, and what waits for it. changed: called when something
    is to be tried again later.
    """

    reporter: Reporter
    changed: Callable[[], None] = lambda: None
    _newest: Job | None = None
    _events: deque[Job] = field(factory=lambda: deque(maxlen=_MOST_EVENTS))
    _busy: bool = False
    _stop: bool = False
    _thread: threading.Thread | None = None
    _lock: threading.Lock = field(factory=threading.Lock)
    _wake: threading.Event = field(factory=threading.Event)

    def start(self, threads: Threads) -> None:
        """Say everything from a thread from now on."""
        self.reporter.turn = lambda: threads.turn("reports")
        self._thread = threads.start(
            "reports", lambda: self._run(threads), lambda: self._stop, _LONGEST_TURN
        )

    def stop(self) -> None:
        """What waits is not said any more."""
        self._stop = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)
            self._thread = None

    def say(self, job: Job) -> None:
        """The newest state of everything."""
        if self._thread is None:
            job(self.reporter)
            return
        with self._lock:
            self._newest = job
        self._wake.set()

    def tell(self, job: Job) -> None:
        """Something that happened."""
        if self._thread is None:
            job(self.reporter)
            return
        with self._lock:
            self._events.append(job)
        self._wake.set()

    def retry_at(self) -> float | None:
        """When what failed is to be said again; None while something is being said."""
        with self._lock:
            waiting = self._busy or self._newest is not None
        return None if waiting else self.reporter.retry_at()

    def _run(self, threads: Threads) -> None:
        while not self._stop:
            self._wake.wait(_TURN)
            self._wake.clear()
            threads.turn("reports")
            while not self._stop and (job := self._next()) is not None:
                threads.turn("reports")
                try:
                    job(self.reporter)
                except Exception:  # one that fails in a way nobody thought of costs only itself
                    self.reporter.log.exception("not reported")
                self._busy = False
            if self.reporter.retry_at() is not None:
                self.changed()

    def _next(self) -> Job | None:
        """The state first: somebody waits for it."""
        with self._lock:
            job, self._newest = self._newest, None
            if job is None and self._events:
                job = self._events.popleft()
            self._busy = job is not None
            return job
