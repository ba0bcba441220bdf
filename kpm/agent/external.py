"""Numbers that somebody else names for power caps: keys of ConfigMaps, and answers of HTTP servers.

One thread, and only while a cap has an external source: the loop never waits for a server. An answer is hostile: it is
cut, and anything but a number of watts is none. No redirect is followed, no proxy and no credential is used.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from http.client import HTTPException

from attrs import define, field

from kpm.fetching import fetch
from kpm.kube.api import Api, ApiError, Resource
from kpm.logs import Log
from kpm.signals import watts_of
from kpm_planner.budget import Reading, period_of
from kpm_planner.intent import ExternalCap, PowerCap

_LONGEST_ANSWER = 128


@define(eq=False)
class External:
    """The readings of one agent. namespace: of the ConfigMaps. changed: called when a reading is another one."""

    api: Api
    namespace: str
    log: Log
    changed: Callable[[], None]
    _wanted: dict[str, PowerCap] = field(factory=dict)
    _readings: dict[str, Reading] = field(factory=dict)
    _said: dict[str, str] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)
    _wake: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None
    _stop: bool = False

    def follow(self, caps: Iterable[PowerCap]) -> None:
        """Ask the sources of these caps from now on, and no others."""
        wanted = {cap.meta.name: cap for cap in caps if cap.source.external is not None}
        with self._lock:
            if wanted == self._wanted:
                return
            gone = {name for name, cap in self._wanted.items() if name not in wanted or wanted[name].source != cap.source}
            self._wanted = wanted
            self._readings = {name: reading for name, reading in self._readings.items() if name not in gone and name in wanted}
        self._wake.set()
        if wanted and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="external", daemon=True)
            self._thread.start()

    def readings(self) -> Mapping[str, Reading]:
        """The last answer of each source, by PowerCap name."""
        with self._lock:
            return dict(self._readings)

    def stop(self) -> None:
        """Ask nobody any more."""
        self._stop = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stop:
            with self._lock:
                wanted = dict(self._wanted)
            for name, cap in wanted.items():
                self._ask(name, cap)
            pause = min((period_of(cap).total_seconds() for cap in wanted.values()), default=None)
            self._wake.wait(pause)
            self._wake.clear()

    def _ask(self, name: str, cap: PowerCap) -> None:
        source = cap.source.external
        assert source is not None
        try:
            watts, why = watts_of(self._answer(source)), "is no number of watts"
        except (OSError, ValueError, HTTPException, ApiError) as failure:
            watts, why = None, str(failure) or type(failure).__name__
        self._say(name, "" if watts is not None else why)
        if watts is None:
            return
        with self._lock:
            if self._wanted.get(name) is not cap:
                return
            before = self._readings.get(name)
            self._readings[name] = Reading(watts, datetime.now(UTC))
        if before is None or before.watts != watts:
            self.changed()

    def _answer(self, source: ExternalCap) -> str:
        """What the source says, cut. Errors: OSError, ValueError, ApiError."""
        if source.config_map is not None:
            found = self.api.get(Resource("", "v1", "configmaps", self.namespace), source.config_map.name or "")
            text = (found.get("data") or {}).get(source.config_map.key or "")
            if not isinstance(text, str):
                raise ValueError("the ConfigMap has no such key")
            return text[:_LONGEST_ANSWER]
        return fetch(source.url or "", _LONGEST_ANSWER).decode("ascii", "replace")

    def _say(self, name: str, trouble: str) -> None:
        """One log line when a source begins or ceases to fail."""
        if self._said.get(name, "") != trouble:
            self._said[name] = trouble
            if trouble:
                self.log.warning("external source", cap=name, error=trouble[:200])
            else:
                self.log.info("external source answers again", cap=name)
