"""A short answer of an HTTP server that nobody vouches for."""

import contextlib
import socket
import ssl
import threading
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit

_TIMEOUT = 5.0
#: The whole exchange may take so long, whatever the server drips.
_LONGEST_WAIT = 15.0


def fetch(url: str, most: int) -> bytes:
    """At most so many bytes of an answer with status 200; no redirect is followed, no proxy and no credential used.

    Errors: OSError, ValueError, http.client.HTTPException.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is no http address")
    link = (
        HTTPSConnection(parts.hostname, parts.port, timeout=_TIMEOUT, context=ssl.create_default_context())
        if parts.scheme == "https"
        else HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT)
    )
    late = threading.Event()
    with contextlib.closing(link):
        link.connect()
        timer = threading.Timer(_LONGEST_WAIT, _hang_up, (link.sock, late))
        timer.daemon = True
        timer.start()
        try:
            return _answer(link, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", most)
        finally:
            timer.cancel()
            if late.is_set():
                raise TimeoutError("the answer takes too long")


def _answer(link: HTTPConnection, path: str, most: int) -> bytes:
    link.request("GET", path, headers={"Accept": "text/plain, text/csv"})
    answer = link.getresponse()
    if answer.status != 200:
        raise ValueError(f"answers with status {answer.status}")
    found = answer.read(most)
    if len(found) < most and answer.length:
        raise ValueError("the answer is not whole")
    return found


def _hang_up(connection: socket.socket, late: threading.Event) -> None:
    """Whoever reads from it sees the end."""
    late.set()
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
