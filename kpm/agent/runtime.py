"""What the container runtime says of containers, through the helper: which CPUs each has, and of
new ones before they run.

A thread keeps the picture and wakes the loop. A creation is answered when a pass has brought its
CPUs to their profile, or at once where that is nobody's business here: nothing is known yet, or the
container asks for no profile. One that is never answered costs its container a quarter of a second
(kpm/helper/containers.py).
"""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field, frozen

from kpm.process.logs import Log
from kpm.process.threads import Threads
from kpm_planner.model.allocation import RuntimeCpus
from kpm_planner.model.cpuset import LARGEST_CPU, parse_cpulist

_TICKET = struct.Struct(">I")  # as the helper has it, whose side of the runtime is not loaded here
_LONGEST = 1 << 16
_MOST = 4000
_RETRY, _LONGEST_RETRY = 0.5, 10.0


@frozen
class Creation:
    """A container that waits for its first instruction."""

    ticket: int
    uid: str
    container: str


@frozen
class Picture:
    """All that the runtime said. known: whether it has told everything; containers: in order."""

    known: bool = False
    containers: tuple[RuntimeCpus, ...] = ()
    created: tuple[Creation, ...] = ()


@define(eq=False)
class Runtime:
    """The link to the helper. matters: whether a new container of this pod uid and name is worth
    waiting for.
    """

    path: str
    changed: Callable[[], None]
    matters: Callable[[str, str], bool]
    log: Log
    _containers: dict[str, RuntimeCpus] = field(factory=dict)
    _created: dict[int, Creation] = field(factory=dict)
    _known: bool = False
    _link: socket.socket | None = None
    _lock: threading.Lock = field(factory=threading.Lock)
    _stopped: threading.Event = field(factory=threading.Event)

    def start(self, threads: Threads) -> None:
        """Listen in a thread of its own."""
        threads.start("runtime", self._run, self._stopped.is_set)

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()
        with self._lock:
            if self._link is not None:
                with contextlib.suppress(OSError):
                    self._link.shutdown(socket.SHUT_RDWR)

    def picture(self) -> Picture:
        """What is known now."""
        with self._lock:
            containers = tuple(sorted(self._containers.values())) if self._known else ()
            return Picture(self._known, containers, tuple(self._created.values()))

    def answer(self, created: tuple[Creation, ...]) -> None:
        """Let these containers begin."""
        for creation in created:
            self._answer(creation.ticket)

    def _run(self) -> None:
        pause = _RETRY
        while not self._stopped.is_set():
            try:
                self._listen()
                pause = _RETRY
            except (OSError, ValueError, KeyError, TypeError) as failure:
                self.log.debug("runtime not heard", error=str(failure))
            self._forget()
            self._stopped.wait(pause)
            pause = min(pause * 2, _LONGEST_RETRY)

    def _listen(self) -> None:
        """Until the helper ends the link. Errors: OSError, ValueError for what is no message."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.connect(self.path)
            with self._lock:
                self._link = link
            while message := link.recv(_LONGEST):
                self._take(json.loads(message))

    def _take(self, message: Mapping[str, Any]) -> None:
        match message["event"]:
            case "known":
                self._note(message)
            case "create":
                ticket, uid, name = (
                    int(message["ticket"]),
                    str(message["uid"]),
                    str(message["name"]),
                )
                self._note(message)
                if self.matters(uid, name):
                    with self._lock:
                        self._created[ticket] = Creation(ticket, uid, name)
                else:
                    self._answer(ticket)
                    return
            case "gone":
                with self._lock:
                    self._containers.pop(str(message["id"]), None)
            case "synced" | "lost" as word:
                with self._lock:
                    self._known = word == "synced"
                    if word == "lost":
                        self._containers.clear()
                        self._created.clear()
                self.log.info("runtime", state=word)
        self.changed()

    def _note(self, message: Mapping[str, Any]) -> None:
        """Take down a container; one whose CPUs are no list is as one that has none."""
        try:
            cpus = parse_cpulist(str(message["cpus"])) if message["cpus"] else frozenset()
        except ValueError:
            cpus = frozenset()
        found = RuntimeCpus(
            str(message["uid"]),
            str(message["name"]),
            tuple(sorted(cpu for cpu in cpus if cpu <= LARGEST_CPU)),
            str(message["id"]),
        )
        with self._lock:
            if len(self._containers) < _MOST or found.id in self._containers:
                self._containers[found.id] = found

    def _answer(self, ticket: int) -> None:
        with self._lock:
            self._created.pop(ticket, None)
            try:
                if self._link is not None:
                    self._link.send(_TICKET.pack(ticket), socket.MSG_DONTWAIT)
            except OSError:  # the link has ended, and the helper answers by itself
                return

    def _forget(self) -> None:
        with self._lock:
            was, self._link, self._known = self._known, None, False
            self._containers.clear()
            self._created.clear()
        if was:
            self.changed()
