"""Threads that are noticed when they end: every one of agent and operator is started here.

One that ends without having been told to, by an exception or by itself, begins anew in place after
a pause. Whoever asks whether the process is healthy hears of one that stays down, that ends again
and again, or that stands still: a thread that goes round says so with each turn, and how long a
turn may take at most. Python cannot end a thread that stands still, so it is the process that
begins anew then. Waiting for a server that does not answer is no end and no standstill: what runs
in a thread waits by itself, for a stated time.
"""

import threading
import time
from collections.abc import Callable

from attrs import define, field

from kpm.process.logs import Log

#: Seconds between an end and a new beginning, at first and at most; after so long a life the first
#: pause holds again.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_LIFE = 0.5, 10.0, 600.0
#: A thread that is down for so many seconds, or began anew so often in so many seconds, is not
#: healthy.
_DOWN, _OFTEN, _WITHIN = 30.0, 5, 600.0
_LOOK = 0.2


@define
class _State:
    """down: since when it does not run, None while it does. beginnings: when it began anew. turn:
    when it went round last; longest: seconds of a turn.
    """

    down: float | None = None
    beginnings: list[float] = field(factory=list)
    turn: float = 0.0
    longest: float | None = None


@define(eq=False)
class Threads:
    """The threads of one process. monotonic: seconds."""

    log: Log
    first_pause: float = _FIRST_PAUSE
    monotonic: Callable[[], float] = time.monotonic
    _states: dict[str, _State] = field(factory=dict)

    def start(
        self,
        name: str,
        run: Callable[[], object],
        stopped: Callable[[], bool] = lambda: False,
        longest: float | None = None,
    ) -> threading.Thread:
        """Run something in a thread of its own until it ends after `stopped` has become true.
        longest: seconds between two of its `turn`s at most.
        """
        state = self._states[name] = _State(turn=self.monotonic(), longest=longest)
        thread = threading.Thread(
            target=self._keep, args=(name, run, stopped, state), name=name, daemon=True
        )
        thread.start()
        return thread

    def turn(self, name: str) -> None:
        """A thread goes round."""
        state = self._states.get(name)
        if state is not None:
            state.turn = self.monotonic()

    def trouble(self) -> str:
        """What is wrong with them, or nothing."""
        now = self.monotonic()
        for name, state in list(self._states.items()):
            if state.down is not None and now - state.down >= _DOWN:
                return f"thread {name} is down for {now - state.down:.0f} s"
            if (
                state.down is None
                and state.longest is not None
                and now - state.turn > state.longest
            ):
                return f"thread {name} stands still for {now - state.turn:.0f} s"
            lately = [at for at in state.beginnings if now - at < _WITHIN]
            if len(lately) >= _OFTEN:
                return f"thread {name} began anew {len(lately)} times in {_WITHIN:.0f} s"
        return ""

    def _keep(
        self, name: str, run: Callable[[], object], stopped: Callable[[], bool], state: _State
    ) -> None:
        pause = self.first_pause
        while not stopped():
            began = self.monotonic()
            try:
                run()
                why = "it returned"
            # also SystemExit: nothing in a thread may end it unnoticed
            except BaseException as failure:  # noqa: BLE001
                why = f"{type(failure).__name__}: {failure}"[:300]
            if stopped():
                return
            state.down = self.monotonic()
            pause = self.first_pause if state.down - began >= _LONG_LIFE else pause
            self.log.error("thread ended", thread=name, why=why, again_in=pause)
            self._wait(pause, stopped)
            state.beginnings = [
                *(at for at in state.beginnings if state.down - at < _WITHIN),
                self.monotonic(),
            ]
            state.down, state.turn, pause = None, self.monotonic(), min(pause * 2, _LONGEST_PAUSE)

    def _wait(self, seconds: float, stopped: Callable[[], bool]) -> None:
        ends = self.monotonic() + seconds
        while (left := ends - self.monotonic()) > 0 and not stopped():
            time.sleep(min(left, _LOOK))
