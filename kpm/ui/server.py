"""The pages over HTTP, on the loopback alone.

Whoever knows the address has the rights of who started it, so it holds a random token; and the Host
header must be the loopback's, so that no page from elsewhere can reach it by a name of its own. A
request is bounded in size and time, connections and listeners are bounded in number. Nothing is
changed by any of them.
"""

import json
import secrets
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from kpm.kube.api import ApiError
from kpm.process.errors import InputError
from kpm.ui.assets import ASSETS, HEADERS, asset
from kpm.ui.views import Views

_LARGEST_BODY = 1 << 20
_SECONDS, _LOOK_EVERY = 30.0, 5.0
_MOST_CONNECTIONS, _MOST_LISTENERS = 32, 8
_PREFIX = "objects="


class Server(ThreadingHTTPServer):
    """Serves until `shutdown`. url: where, with the token."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, make: Any, port: int = 0) -> None:
        """make: the pages for a root path."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.root = f"/{secrets.token_urlsafe(24)}/"
        self.url = f"http://127.0.0.1:{self.server_port}{self.root}"
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.views: Views = make(self.root)
        self.connections = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self.listeners = threading.BoundedSemaphore(_MOST_LISTENERS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more connection than there may be is closed."""
        if not self.connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is nobody's concern."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    server_version, sys_version = "kpm", ""

    def do_GET(self) -> None:
        """A page, a style, a script, or what changes."""
        place = self._place()
        if place is None:
            return
        if place in ASSETS:
            self._answer(asset(place), ASSETS[place])
        elif place == "events":
            self._listen()
        else:
            self._page(place)

    def do_POST(self) -> None:
        """The plan of a text."""
        place = self._place()
        if place is None:
            return
        length = self.headers.get("Content-Length", "")
        if place != "plan" or not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.NOT_FOUND)
        elif len(length) > 9 or int(length) > _LARGEST_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            text = self.rfile.read(int(length)).decode("utf-8", "replace")
            given = text.removeprefix(_PREFIX).replace("\r\n", "\n")
            self._made(lambda: self.server.views.plan(given))

    def _place(self) -> str | None:
        """What is asked for below the token; nothing, with an answer, where it may not be."""
        if self.headers.get("Host") not in self.server.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            return None
        origin = self.headers.get("Origin")
        if origin not in (None, f"http://{self.headers.get('Host')}"):
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        path = self.path.partition("?")[0]
        token, _, rest = path[1:].partition("/")
        if not secrets.compare_digest(token.encode(), self.server.root.strip("/").encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        return rest

    def _page(self, place: str) -> None:
        views = self.server.views
        kind, _, name = place.partition("/")
        if place == "":
            self._made(views.cluster)
        elif place == "plan":
            self._made(views.form)
        elif kind == "node" and name and len(name) < 1024:
            self._made(lambda: views.node(unquote(name)))
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _made(self, make: Any) -> None:
        try:
            self._answer(make().encode(), "text/html; charset=utf-8")
        except (ApiError, InputError) as failure:
            text = f"{failure}\n".encode()
            self._answer(text, "text/plain; charset=utf-8", HTTPStatus.BAD_GATEWAY)

    def _listen(self) -> None:
        """Send the overview whenever it is another one, until the browser goes away."""
        if not self.server.listeners.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            self.send_response(HTTPStatus.OK)
            self._headers("text/event-stream")
            self.end_headers()
            before = ""
            while True:
                now = self.server.views.overview()
                line = f"data: {json.dumps(now)}\n\n" if now != before else ": as before\n\n"
                self.wfile.write(line.encode())
                self.wfile.flush()
                before = now
                time.sleep(_LOOK_EVERY)
        except OSError:
            self.close_connection = True
        finally:
            self.server.listeners.release()

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._answer(f"{status.phrase}\n".encode(), "text/plain; charset=utf-8", status)

    def _answer(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self._headers(kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        for name, text in HEADERS.items():
            self.send_header(name, text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """The address holds the token, and is in no log."""
