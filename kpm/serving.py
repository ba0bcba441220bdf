"""/healthz, /readyz and /metrics of a shell."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from kpm.threads import Threads

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_SECONDS = 10
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def _nothing(_reader: str) -> bytes:
    return b""


def serve(
    port: int, threads: Threads, registry: "Callable[[], CollectorRegistry]", healthy: Callable[[], bool], ready: Callable[[], bool],
    more: Callable[[str], bytes] = _nothing,
) -> int:  # fmt: skip
    """Answer on a port from a thread of its own; returns the port, chosen by the kernel for 0. Errors: OSError.

    registry: asked for when /metrics is. more: further metrics, as text, for the reader at an address.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/healthz":
                    self._answer(200 if healthy() else 503, b"ok\n" if healthy() else b"stuck\n")
                case "/readyz":
                    self._answer(200 if ready() else 503, b"ok\n" if ready() else b"not ready\n")
                case "/metrics":
                    from prometheus_client import generate_latest

                    self._answer(200, generate_latest(registry()) + more(str(self.client_address[0])))
                case _:
                    self._answer(404, b"not found\n")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", _TEXT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
            """Requests are not logged."""

    server = _Server(("", port), Handler)
    threads.start("http", lambda: server.serve_forever(poll_interval=60.0))
    return int(server.server_address[1])
