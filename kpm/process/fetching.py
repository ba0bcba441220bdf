"""A short answer of an HTTP server that nobody vouches for."""

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from urllib.parse import urlsplit

_TIMEOUT = 5.0
#: The whole exchange may take so long, whatever the server drips.
_LONGEST_WAIT = 15.0
#: IPv4 as seen through a translator (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class _Connection(HTTPConnection):
    """A connection to the address that is given, and no other: a name may lead elsewhere the next
    time.
    """

    address: str
    secure: ssl.SSLContext | None = None

    def connect(self) -> None:
        """As the library's, to the one address. Errors: OSError."""
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.secure is not None:
            self.sock = self.secure.wrap_socket(self.sock, server_hostname=self.host)


def fetch(url: str, most: int) -> bytes:
    """At most so many bytes of an answer with status 200; no redirect is followed, no proxy and no
    credential used.

    Errors: OSError, ValueError, http.client.HTTPException.
    """
    return _fetch(url, most, lambda host, _port: host)


def fetch_outside(url: str, most: int) -> bytes:
    """The same of a server that is neither this machine nor on its link, whatever its name leads
    to.

    Errors: as fetch; PermissionError for such an address.
    """
    return _fetch(url, most, outside_address)


def outside_address(host: str, port: int) -> str:
    """An address of a host, all of whose addresses are elsewhere.

    Errors: OSError; PermissionError where one is this machine's or its link's.
    """
    found = [str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    inside = next((text for text in found if not _is_outside(text)), None)
    if inside is not None or not found:
        raise PermissionError(f"{host} leads to {inside}, which is not asked")
    return found[0]


def _is_outside(text: str) -> bool:
    """Whether an address is neither of this machine, nor of its link, nor of nobody; one that
    stands for an IPv4 address is that.
    """
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(
        text.partition("%")[0]
    )
    if isinstance(address, ipaddress.IPv6Address):
        inner = (
            address.ipv4_mapped
            or address.sixtofour
            or (
                ipaddress.IPv4Address(address.packed[-4:])
                if address in _NAT64 or int(address) < 1 << 32
                else None
            )
        )
        if inner is not None and int(address) > 1:
            return _is_outside(str(inner))
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or address.is_reserved
    )


def _fetch(url: str, most: int, address: Callable[[str, int], str]) -> bytes:
    """address: what of a host and port is connected to."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is no http address")
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = (443 if secure else 80) if parts.port is None else parts.port
    link = _Connection(parts.hostname, port, timeout=_TIMEOUT)
    link.secure, link.address = secure, address(parts.hostname, port)
    late = threading.Event()
    with contextlib.closing(link):
        link.connect()
        timer = threading.Timer(_LONGEST_WAIT, _hang_up, (link.sock, late))
        timer.daemon = True
        timer.start()
        try:
            return _answer(
                link, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", most
            )
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
