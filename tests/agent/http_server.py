"""A real HTTP server on this host that notes requests and answers what it is told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import define, field, frozen
from kubernetes.client import Configuration

from kpm.kube.access import from_configuration
from kpm.kube.api import Api


@frozen
class Request:
    """One request as it was on the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@define(eq=False)
class Server:
    """What was asked, and what is answered: status, body, headers; or a function that writes the
    answer itself.
    """

    port: int = 0
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(factory=dict)
    write: Callable[[Any], None] | None = None
    requests: list[Request] = field(factory=list)

    def say(self, status: int, body: Any, **headers: str) -> None:
        """Answer this from now on."""
        self.status, self.headers = (
            status,
            {key.replace("_", "-"): value for key, value in headers.items()},
        )
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()

    def api(self, **settings: Any) -> Api:
        """A client of it."""
        configuration = Configuration(host=f"http://127.0.0.1:{self.port}", **settings)
        configuration.proxy = None
        return Api(from_configuration(configuration))


def chunk(link: Any, data: bytes) -> None:
    """A piece of a chunked answer, sent at once; an empty one ends it."""
    link.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    link.wfile.flush()


def begin_chunks(link: Any) -> None:
    """The head of a chunked answer."""
    link.send_response(200)
    link.send_header("Transfer-Encoding", "chunked")
    link.end_headers()
    link.wfile.flush()


@contextmanager
def serving() -> Iterator[Server]:
    """The server, running."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version, wbufsize = "HTTP/1.1", -1

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.requests.append(
                Request(
                    self.command,
                    self.path,
                    {key.lower(): value for key, value in self.headers.items()},
                    body,
                )
            )
            if server.write is not None:
                server.write(self)
                self.close_connection = True
                return
            self.send_response(server.status)
            for key, value in {**server.headers, "Content-Length": str(len(server.body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(server.body)

        # as http.server calls them
        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that has gone is no news."""

    http = Quiet(("127.0.0.1", 0), Handler)
    server.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)
