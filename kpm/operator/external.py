"""Numbers that HTTP servers name for power caps, asked by the operator alone and published in the
PowerCaps' status.

An address stands in an object, so whoever writes the object chooses whom the asker asks: hence one
asker instead of one on every node, only servers that the operator's own settings name, never an
address of this machine or its link, no redirect, no credential. One thread, while this operator
leads. A number is published when it is another one, and before it is too old.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from attrs import Factory, define, field, frozen

from kpm.process.errors import one_line
from kpm.process.logs import Log
from kpm.process.loops import SourceTrouble
from kpm.process.threads import Threads
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.problems import Code, Problem, error
from kpm_planner.report.rollup import PublishedWatts

_LONGEST_ANSWER = 128
#: Seconds between two questions to one server at least.
_SHORTEST = 5.0
#: A number that has not changed is published anew when it is this share of its longest age old.
_RENEW = 3


def host_problem(cap: PowerCap, hosts: Iterable[str]) -> Problem | None:
    """That the server of a cap is not one that the operator may ask."""
    url = cap.source.external.url if cap.source.external is not None else None
    if not url:
        return None
    host = host_of(url)
    if host and host in {name.lower() for name in hosts}:
        return None
    message = (
        f"the server {one_line(host or url, 60)!r} is not among the operator's --external-host;"
        " nobody asks it"
    )
    return error(Code.CAP_HOST, f"PowerCap/{cap.meta.name}", "spec.source.external.url", message)


def host_of(url: str) -> str:
    """The name of the server in an address, in small letters; "" where there is none."""
    try:
        return (urlsplit(url).hostname or "").lower().rstrip(".")
    except ValueError:
        return ""


@frozen
class _Asked:
    """A cap that is asked for, and when it is due, in monotonic seconds."""

    cap: PowerCap
    due: float = 0.0


@define(eq=False)
class External:
    """The thread. hosts: whom it may ask; changed: called when something is to be published; fetch:
    address and most bytes to an answer.
    """

    hosts: tuple[str, ...]
    log: Log
    changed: Callable[[], None]
    threads: Threads
    fetch: Callable[[str, int], bytes]
    _asked: dict[str, _Asked] = field(factory=dict)
    _found: dict[str, PublishedWatts] = field(factory=dict)
    _trouble: SourceTrouble = field(
        default=Factory(lambda self: SourceTrouble(self.log), takes_self=True)
    )
    _lock: threading.Lock = field(factory=threading.Lock)
    _wake: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None
    _stop: bool = False

    def follow(self, caps: Iterable[PowerCap]) -> None:
        """Ask the servers of these caps from now on, and no others; none while another operator
        leads.
        """
        wanted = {
            cap.meta.name: cap
            for cap in caps
            if cap.source.external is not None
            and cap.source.external.url
            and host_problem(cap, self.hosts) is None
        }
        with self._lock:
            same = {name: item.cap for name, item in self._asked.items()} == wanted
            if same:
                return
            kept = {
                name: self._asked[name]
                for name, cap in wanted.items()
                if name in self._asked and self._asked[name].cap.source == cap.source
            }
            self._found = {name: item for name, item in self._found.items() if name in kept}
            self._trouble.only(wanted)
            self._asked = {
                name: _Asked(cap, kept[name].due if name in kept else 0.0)
                for name, cap in wanted.items()
            }
        self._wake.set()
        if wanted and self._thread is None:
            self._thread = self.threads.start("external", self._run, lambda: self._stop)

    def published(self) -> Mapping[str, PublishedWatts]:
        """What is to stand in the status of each cap."""
        with self._lock:
            return dict(self._found)

    def stop(self) -> None:
        """Ask nobody any more."""
        self._stop = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stop:
            with self._lock:
                now = time.monotonic()
                due = [item.cap for item in self._asked.values() if item.due <= now]
            for cap in due:
                if not self._stop:
                    self._ask(cap)
            with self._lock:
                following = min((item.due for item in self._asked.values()), default=None)
            self._wake.wait(None if following is None else max(0.05, following - time.monotonic()))
            self._wake.clear()

    def _ask(self, cap: PowerCap) -> None:
        external = cap.source.external
        assert external is not None
        name = cap.meta.name
        try:
            from kpm.request.readings import watts_of

            text = (
                self.fetch(external.url or "", _LONGEST_ANSWER).decode("ascii", "replace").strip()
            )
            why = "" if watts_of(text) is not None else "expected a number of watts"
        # whatever a server does costs one answer, never the thread
        except Exception as failure:  # noqa: BLE001
            text, why = "", f"{type(failure).__name__}: {failure}"
        self._trouble.say(name, one_line(why))
        with self._lock:
            if name not in self._asked or self._asked[name].cap is not cap:
                return
            self._asked[name] = _Asked(
                cap, time.monotonic() + max(cap.interval.total_seconds(), _SHORTEST)
            )
            before, now = self._found.get(name), datetime.now(UTC)
            fresh = (
                before is not None
                and before.watts == text
                and (now - datetime.fromisoformat(before.at)) < external.age / _RENEW
            )
            if why or fresh:
                return
            self._found[name] = PublishedWatts(text, now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        self.changed()
