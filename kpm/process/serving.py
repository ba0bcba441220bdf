"""/healthz, /readyz and /metrics of a shell, for whoever can reach the port: bounded in
connections, threads, bytes and time.

Health has a server of its own, so that a flood of scrapers does not end the pod. Where more connect
than are served at once, the oldest connection goes: one that takes its time is what a flood is made
of. Addresses of both versions are answered, where the kernel has both.
"""

import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from kpm.process.errors import one_line
from kpm.process.logs import Log
from kpm.process.threads import Threads

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: Connections that are served at once, for health and for metrics.
_FEW, _SOME = 8, 16
#: Seconds for a whole request, from the connection to the last byte of the answer.
_SECONDS = 10.0
_BACKLOG = 64
#: Seconds between two looks of a server to which nobody comes, and after which one that does not
#: look stands still.
_TURN, _LONGEST_TURN = 60.0, 240.0
#: Seconds before a connection is taken again where the process has no descriptor left for it.
_NO_ROOM = 0.5
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
Answer = tuple[int, bytes]
Answers = Callable[[str, str], Answer | None]
#: What a reader's Authorization header entitles to, as a status of HTTP.
Authorize = Callable[[str], int]


@frozen
class Certificates:
    """Files for TLS: the server's own, its key, and who signs the certificates that clients must
    show; "" for none.
    """

    certificate: str
    key: str
    clients: str = ""

    def context(self) -> ssl.SSLContext:
        """Errors: OSError, ssl.SSLError among them, for files that cannot be used."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.certificate, self.key)
        if self.clients:
            made.load_verify_locations(self.clients)
            made.verify_mode = ssl.CERT_REQUIRED
        return made


@define(eq=False)
class Renewed:
    """The context of certificates that are replaced while they are in use, as those of a Secret
    are.
    """

    files: Certificates
    _made: ssl.SSLContext | None = None
    _stamp: tuple[int, ...] = ()

    def context(self) -> ssl.SSLContext:
        """That of the files as they are now. Errors: OSError."""
        names = (self.files.certificate, self.files.key, self.files.clients)
        stamp = tuple(os.stat(name).st_mtime_ns for name in names if name)
        if self._made is None or stamp != self._stamp:
            self._made, self._stamp = self.files.context(), stamp
        return self._made


@frozen
class Guarded:
    """How /metrics is kept: the context of TLS at a connection, and what a reader's header entitles
    to; None for everybody.
    """

    context: Callable[[], ssl.SSLContext]
    authorize: Authorize | None = None


@define(eq=False)
class Server:
    """One port. answers: what there is to say of a path to a reader at an address, None for
    nothing. most: connections at once.
    """

    listening: socket.socket
    answers: Answers
    log: Log
    most: int = _SOME
    seconds: float = _SECONDS
    guarded: Guarded | None = None
    turn: Callable[[], None] = lambda: None
    _bare: bool = False
    _open: dict[socket.socket, float] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)
    _full: bool = False

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.listening.getsockname()[1])

    def run(self) -> None:
        """Take connections for ever; each is served by a thread of its own."""
        while True:
            self.turn()
            self._end_old()
            self.listening.settimeout(self._next_end())
            try:
                connection, address = self.listening.accept()
            except TimeoutError:
                continue
            except OSError as failure:
                if failure.errno in (errno.EBADF, errno.EINVAL):
                    raise  # it is closed
                self._say_full(failure)
                continue
            self._full = False
            self._make_room()
            with self._lock:
                self._open[connection] = time.monotonic()
            threading.Thread(
                target=self._serve,
                args=(connection, str(address[0])),
                name=f"port-{self.port}",
                daemon=True,
            ).start()

    def _say_full(self, failure: OSError) -> None:
        """A line, once, and a pause: without a descriptor the loop would only go round."""
        if not self._full:
            self._full = True
            self.log.warning(
                "connections are not taken", port=self.port, why=failure.strerror or str(failure)
            )
        time.sleep(_NO_ROOM)

    def _make_room(self) -> None:
        with self._lock:
            while len(self._open) >= self.most:
                oldest = min(self._open, key=self._open.__getitem__)
                del self._open[oldest]
                _shut(oldest)

    def _end_old(self) -> None:
        now = time.monotonic()
        with self._lock:
            for connection in [
                item for item, began in self._open.items() if now - began >= self.seconds
            ]:
                del self._open[connection]
                _shut(connection)

    def _next_end(self) -> float:
        """Seconds until a connection has been open for too long, or until it is time for another
        turn.
        """
        with self._lock:
            began = min(self._open.values(), default=None)
        return (
            _TURN
            if began is None
            else min(_TURN, max(0.05, began + self.seconds - time.monotonic()))
        )

    def _serve(self, connection: socket.socket, address: str) -> None:
        found: Any = connection
        try:
            connection.settimeout(self.seconds)
            if self.guarded is not None:
                found = self._context(self.guarded).wrap_socket(connection, server_side=True)
            _Handler(found, address, self.answers, self.guarded.authorize if self.guarded else None)
        except (OSError, ValueError) as failure:  # it went away, or speaks no HTTP
            self.log.debug("connection ended", port=self.port, why=str(failure)[:100])
        finally:
            with self._lock:
                self._open.pop(connection, None)
            _shut(connection)
            for item in {found, connection}:
                with contextlib.suppress(OSError):
                    item.close()

    def _context(self, guarded: Guarded) -> ssl.SSLContext:
        """Errors: OSError where there are no files that can be used; that is said once."""
        try:
            made = guarded.context()
        except OSError as failure:
            if not self._bare:
                self._bare = True
                self.log.warning("no certificate", port=self.port, why=one_line(failure))
            raise
        self._bare = False
        return made


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    def __init__(
        self, connection: Any, address: str, answers: Answers, authorize: Authorize | None
    ) -> None:
        self._answers, self._address, self._authorize = answers, address, authorize
        # nobody asks for the server
        super().__init__(connection, (address, 0), None)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        status = (
            200
            if self._authorize is None
            else self._authorize(self.headers.get("Authorization") or "")
        )
        if status == 200:
            found = self._answers(self.path.partition("?")[0], self._address)
            status, body = (404, b"not found\n") if found is None else found
        else:
            body = b"refused\n"
        self.send_response(status)
        self.send_header("Content-Type", _TEXT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # the base class calls it so
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are not logged."""


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def listen(port: int, at: str = "") -> socket.socket:
    """A socket for both versions of IP, or for the older one where the kernel has only that.

    at: one address of the machine instead. Errors: OSError.
    """
    # whoever scrapes comes from elsewhere
    every = ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0"))  # noqa: S104
    one = ((socket.AF_INET6 if ":" in at else socket.AF_INET, at),)
    for family, address in one if at else every:
        try:
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        except OSError:
            if family is socket.AF_INET:
                raise
            continue
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind((address, port))
            made.listen(_BACKLOG)
        except OSError as failure:
            made.close()
            if at or family is socket.AF_INET or failure.errno == errno.EADDRINUSE:
                raise
        else:
            return made
    raise OSError(errno.EAFNOSUPPORT, "no version of IP")


def _nothing(_reader: str) -> bytes:
    return b""


def health_answers(healthy: Callable[[], bool], ready: Callable[[], bool]) -> Answers:
    """/healthz and /readyz."""

    def answers(path: str, _address: str) -> Answer | None:
        match path:
            case "/healthz":
                return (200, b"ok\n") if healthy() else (503, b"stuck\n")
            case "/readyz":
                return (200, b"ok\n") if ready() else (503, b"not ready\n")
        return None

    return answers


def process_registry() -> "CollectorRegistry":
    """Metrics of this process by the names that every exporter has;
    further ones may be registered.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector

    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made


def metric_answers(
    registry: "Callable[[], CollectorRegistry]", more: Callable[[str], bytes] = _nothing
) -> Answers:
    """/metrics. registry: asked for when they are; one answer is made at a time. more: further
    ones, as text, for the reader at an address.
    """
    making = threading.Lock()

    def answers(path: str, address: str) -> Answer | None:
        if path != "/metrics":
            return None
        from prometheus_client import generate_latest

        with making:
            return 200, generate_latest(registry()) + more(address)

    return answers


def serve(
    name: str,
    port: int,
    threads: Threads,
    answers: Answers,
    *,
    most: int = _SOME,
    guarded: Guarded | None = None,
    at: str = "",
) -> int:
    """Answer on a port from a thread of its own; returns the port, chosen by the kernel for 0. at:
    one address of the machine.

    Errors: OSError.
    """
    server = Server(
        listen(port, at),
        answers,
        threads.log,
        most,
        guarded=guarded,
        turn=lambda: threads.turn(name),
    )
    threads.start(name, server.run, longest=_LONGEST_TURN)
    return server.port


def both(*answers: Answers) -> Answers:
    """What the first of several has to say."""

    def found(path: str, address: str) -> Answer | None:
        return next((said for item in answers if (said := item(path, address)) is not None), None)

    return found


def serve_all(
    port: int,
    health_port: int | None,
    threads: Threads,
    health: Answers,
    metrics: Answers,
    guarded: Guarded | None = None,
    at: str = "",
) -> tuple[int, int]:
    """Metrics on one port and health on another, and on that of the metrics too where it is asked
    for without TLS; the ports. Errors: OSError.
    """
    used = serve(
        "http",
        port,
        threads,
        metrics if guarded is not None else both(health, metrics),
        guarded=guarded,
        at=at,
    )
    if health_port is None:
        return used, used
    return used, serve("health", health_port, threads, health, most=_FEW, at=at)
