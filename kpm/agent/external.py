"""Numbers that somebody else names for power caps: keys of ConfigMaps.

What HTTP servers say is published by the operator.

One thread, and only once the cap that holds here has such a source: the loop never waits for a
server. An answer is hostile: it is cut, and anything but a number of watts is none.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from attrs import Factory, define, field

from kpm.kube.api import Api, ApiError, Resource
from kpm.process.logs import Log
from kpm.process.loops import SourceTrouble
from kpm.process.threads import Threads
from kpm_planner.caps.schedule import LONGEST_PERIOD_S, Reading
from kpm_planner.model.cap_objects import ExternalCap, PowerCap

_LONGEST_ANSWER = 128


@define(eq=False)
class External:
    """The source of one agent's cap. namespace: of the ConfigMaps. changed: called when the number
    is another one, or young again.
    """

    api: Api
    namespace: str
    log: Log
    changed: Callable[[], None]
    threads: Threads
    _wanted: PowerCap | None = None
    _reading: Reading | None = None
    _trouble: SourceTrouble = field(
        default=Factory(lambda self: SourceTrouble(self.log), takes_self=True)
    )
    _lock: threading.Lock = field(factory=threading.Lock)
    _wake: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None
    _stop: bool = False

    def follow(self, cap: PowerCap | None) -> None:
        """Ask the source of this cap from now on, and no other."""
        wanted = (
            cap
            if cap is not None
            and cap.source.external is not None
            and cap.source.external.config_map is not None
            else None
        )
        with self._lock:
            if wanted == self._wanted:
                return
            if (
                wanted is None
                or self._wanted is None
                or (wanted.meta.name, wanted.source)
                != (self._wanted.meta.name, self._wanted.source)
            ):
                self._reading = None
            self._wanted = wanted
        self._wake.set()
        if wanted is not None and self._thread is None:
            self._thread = self.threads.start("external", self._run, lambda: self._stop)

    def readings(self) -> Mapping[str, Reading]:
        """The last answer, by PowerCap name."""
        with self._lock:
            return (
                {}
                if self._wanted is None or self._reading is None
                else {self._wanted.meta.name: self._reading}
            )

    def stop(self) -> None:
        """Ask nobody any more."""
        self._stop = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stop:
            with self._lock:
                wanted = self._wanted
            if wanted is not None:
                self._ask(wanted)
            self._wake.wait(
                None if wanted is None else min(wanted.interval.total_seconds(), LONGEST_PERIOD_S)
            )
            self._wake.clear()

    def _ask(self, cap: PowerCap) -> None:
        source = cap.source.external
        assert source is not None
        try:
            from kpm.request.readings import watts_of

            watts, why = watts_of(self._answer(source)), "is no number of watts"
        except ApiError as failure:
            watts, why = None, failure.reason or f"status {failure.status}"
        # whatever a server does costs one answer, never the thread
        except Exception as failure:  # noqa: BLE001
            watts, why = None, f"{type(failure).__name__}: {failure}"
        self._trouble.only((cap.meta.name,))
        self._trouble.say(cap.meta.name, "" if watts is not None else why)
        if watts is None:
            return
        now = datetime.now(UTC)
        with self._lock:
            if self._wanted is not cap:
                return
            before, self._reading = self._reading, Reading(watts, now)
        if before is None or before.watts != watts or now - before.at > source.age:
            self.changed()

    def _answer(self, source: ExternalCap) -> str:
        """What the source says, cut. Errors: OSError, ValueError, ApiError."""
        assert source.config_map is not None
        found = self.api.get(
            Resource("", "v1", "configmaps", self.namespace), source.config_map.name or ""
        )
        text = (found.get("data") or {}).get(source.config_map.key or "")
        if not isinstance(text, str):
            # of what came, not of the caller
            raise ValueError("the ConfigMap has no such key")  # noqa: TRY004
        return text[:_LONGEST_ANSWER]
