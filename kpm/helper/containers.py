"""The runtime's containers, told to the agent: who is created is told while the runtime waits, a
quarter of a second at most.

The runtime's socket is as good as root on the host, since a plugin may add mounts and hooks; so the
process that has it has no network, and answers nothing but "as it is". The agent hears over a
socket of its own, one JSON object a message, and answers a creation by its ticket once the
container's CPUs are as they should be, or at once where they are not its business. Where there is
no agent, or it is silent, containers simply start.
"""

import contextlib
import json
import select
import socket
import struct
import time
from collections.abc import Callable

from kpm.helper.nri import Container, Event, NriError, Plugin

TICKET = struct.Struct(">I")
#: Seconds that a creation waits for the agent, and between tries to reach a runtime.
PATIENCE, _RETRY = 0.25, 5.0
_MOST_CONTAINERS = 4000
_CHUNK = 1 << 16


class Containers:
    """The link to the runtime, the link to the agent, and what waits between them."""

    def __init__(
        self,
        runtime: str,
        server: socket.socket,
        poll: "select.poll",
        say: Callable[..., None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runtime, self.server, self.poll, self.say, self.clock = (
            runtime,
            server,
            poll,
            say,
            clock,
        )
        self.known: dict[str, Container] = {}
        self._plugin = Plugin()
        self._nri: socket.socket | None = None
        self._agent: socket.socket | None = None
        self._waiting: dict[int, tuple[float, bytes]] = {}
        self._ticket = 0
        self._retry_at = 0.0
        poll.register(server, select.POLLIN)

    def wait_ms(self) -> int:
        """Until something is to be done without being told."""
        times = [at for at, _ in self._waiting.values()]
        times += [] if self._nri is not None else [self._retry_at]
        return max(0, round((min(times) - self.clock()) * 1000) + 1) if times else -1

    def tick(self) -> None:
        """Answer what has waited too long, and try to reach the runtime."""
        now = self.clock()
        for ticket in [ticket for ticket, (at, _) in self._waiting.items() if at <= now]:
            self._release(ticket)
        if self._nri is None and now >= self._retry_at:
            self._retry_at = now + _RETRY
            self._connect()

    def attend(self, number: int) -> bool:
        """Take what has come on one of its descriptors; whether it is one."""
        if number == self.server.fileno():
            self._accept()
        elif self._nri is not None and number == self._nri.fileno():
            self._hear_runtime(self._nri)
        elif self._agent is not None and number == self._agent.fileno():
            self._hear_agent(self._agent)
        else:
            return False
        return True

    # --- the runtime ---

    def _connect(self) -> None:
        link = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            link.connect(self.runtime)
            self._plugin = Plugin()
            link.sendall(self._plugin.begin())
        except OSError:
            link.close()
            return
        self._nri = link
        self.poll.register(link, select.POLLIN)

    def _hear_runtime(self, link: socket.socket) -> None:
        was = self._plugin.synchronized
        try:
            data = link.recv(_CHUNK, socket.MSG_DONTWAIT)
            if not data:
                raise NriError("the runtime has closed the connection")
            for item in self._plugin.take(data):
                if isinstance(item, bytes):
                    link.sendall(item)
                else:
                    self._happened(item)
        except BlockingIOError:
            return
        except (OSError, NriError) as failure:
            self._lose_runtime(str(failure))
            return
        if self._plugin.synchronized and not was:
            self.say("runtime connected", socket=self.runtime)
            self._tell({"event": "synced"})

    def _lose_runtime(self, reason: str) -> None:
        if self._nri is None:
            return
        if self._plugin.registered:
            self.say("runtime lost", reason=reason)
        self.poll.unregister(self._nri)
        self._nri.close()
        self._nri, self._retry_at = (
            None,
            self.clock() + (_RETRY if not self._plugin.registered else 0.0),
        )
        self._plugin = Plugin()
        self._waiting.clear()
        self.known.clear()
        self._tell({"event": "lost"})

    def _happened(self, event: Event) -> None:
        container = event.container
        if event.kind == "gone":
            if self.known.pop(container.id, None) is not None:
                self._tell({"event": "gone", "id": container.id})
            return
        if len(self.known) < _MOST_CONTAINERS or container.id in self.known:
            self.known[container.id] = container
        if event.kind != "create":
            self._tell({"event": "known", **container.view()})
            return
        self._ticket = (self._ticket + 1) & 0xFFFFFFFF
        self._waiting[self._ticket] = (self.clock() + PATIENCE, event.answer)
        if not self._tell({"event": "create", "ticket": self._ticket, **container.view()}):
            self._release(self._ticket)

    def _release(self, ticket: int) -> None:
        """Answer a creation: as it is."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is not None and self._nri is not None:
            try:
                self._nri.sendall(waiting[1])
            except OSError as failure:
                self._lose_runtime(str(failure))

    # --- the agent ---

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            link, _ = self.server.accept()
            self._lose_agent()
            self._agent = link
            self.poll.register(link, select.POLLIN)
            for container in list(self.known.values()):
                self._tell({"event": "known", **container.view()})
            self._tell({"event": "synced" if self._plugin.synchronized else "lost"})

    def _hear_agent(self, link: socket.socket) -> None:
        try:
            message = link.recv(TICKET.size + 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if len(message) != TICKET.size:
            self._lose_agent()
            return
        self._release(TICKET.unpack(message)[0])

    def _lose_agent(self) -> None:
        if self._agent is not None:
            self.poll.unregister(self._agent)
            self._agent.close()
            self._agent = None
        for ticket in list(self._waiting):
            self._release(ticket)

    def _tell(self, message: dict[str, object]) -> bool:
        """Send the agent a message; False where there is none, or it does not listen."""
        if self._agent is None:
            return False
        try:
            self._agent.send(json.dumps(message).encode(), socket.MSG_DONTWAIT)
        except OSError:  # gone, or it does not read: it comes again and is told everything anew
            self._lose_agent()
            return False
        return True
