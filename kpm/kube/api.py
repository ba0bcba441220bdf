"""HTTP to the API server: verbs on objects, which are plain mappings.

Retries belong to whoever calls: a request is made once, and once more with a token that is read
anew where the server takes the old one no longer.
"""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from attrs import define, frozen

from kpm import __version__
from kpm.kube.access import Access, access
from kpm.kube.decode import decode, decode_event, decode_list
from kpm.process.errors import InputError, one_line

Object = Mapping[str, Any]

#: Seconds to connect, of silence while an answer comes, and for the whole of it, however slowly it
#: drips.
_CONNECT_SECONDS, _READ_SECONDS, _WHOLE_SECONDS = 5.0, 30.0, 60.0
_LARGEST_ANSWER, _PART = 64 << 20, 1 << 16
#: The reason of an answer that is larger than what is read.
TOO_LARGE = "TooLarge"
#: The reason of a watch that brought nothing for as long as the caller allows.
SILENT = "Silent"
_LONGEST_LINE = 8 << 20
_MESSAGE = 300
_UNAUTHORIZED = 401
#: Seconds that a server may ask to be left alone, at most; so many digits of it are read.
_LONGEST_WAIT, _DIGITS = 300.0, 9
_AGENT = f"kpm/{__version__}"
JSON, MERGE_PATCH, JSON_PATCH, APPLY_PATCH = (
    "application/json",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
)


class ApiError(Exception):
    """The server refused, or could not be reached (status 0). reason: Kubernetes' word for it, such
    as NotFound.
    """

    def __init__(
        self, status: int, reason: str, message: str, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{status or 'no answer'} {reason}: {one_line(message, _MESSAGE)}")
        self.status, self.reason, self.retry_after = status, reason, retry_after

    @property
    def missing(self) -> bool:
        """Whether there is no such object, or no such kind."""
        return self.status == 404


@frozen
class Resource:
    """Where objects of a kind are found. namespace: None for all namespaces or a kind that has
    none.
    """

    group: str
    version: str
    plural: str
    namespace: str | None = None

    def path(
        self, name: str | None = None, subresource: str | None = None, namespace: str | None = None
    ) -> str:
        """The URL path of the collection or of one object; every part is quoted.

        Errors: ApiError for a part that is none.
        """
        root = ["apis", self.group, self.version] if self.group else ["api", self.version]
        space = namespace or self.namespace
        parts = [
            *root,
            *(["namespaces", space] if space else []),
            self.plural,
            *([] if name is None else [name]),
            *([subresource] if subresource else []),
        ]
        odd = next((part for part in parts if part in ("", ".", "..")), None)
        if odd is not None:
            raise ApiError(0, "BadName", f"{odd!r} is no name of an object")
        return "/" + "/".join(quote(part, safe="") for part in parts)


@define
class _Ends:
    """When the answer of a request is to be there, by the monotonic clock; nothing is read of it
    after that.
    """

    at: float


#: The one of the request that this thread is making.
_HERE = threading.local()


class _Reading(io.RawIOBase):
    """The bytes of one answer as they come: each read waits for the connection's time, and for what
    is left of the whole.
    """

    def __init__(self, link: socket.socket) -> None:
        super().__init__()
        self._link, self._raw = link, link.makefile("rb", buffering=0)
        self._ends: _Ends = _HERE.ends

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """What has come. Errors: TimeoutError."""
        silence, left = self._link.gettimeout(), self._ends.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not whole")
        self._link.settimeout(left if silence is None else min(silence, left))
        try:
            return self._raw.readinto(buffer)
        finally:
            self._link.settimeout(silence)

    def close(self) -> None:
        """The connection stays."""
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer all of whose parts have to come in time: status line, headers, chunk sizes,
    trailers.
    """

    def __init__(self, sock: socket.socket, *words: Any, **more: Any) -> None:
        super().__init__(sock, *words, **more)
        self.fp.close()
        self.fp = io.BufferedReader(_Reading(sock))


class _Http(urllib3.HTTPConnectionPool):
    class ConnectionCls(urllib3.connection.HTTPConnection):
        response_class = _Response


class _Https(urllib3.HTTPSConnectionPool):
    class ConnectionCls(urllib3.connection.HTTPSConnection):
        response_class = _Response


def _through(path: str) -> type[_Http]:
    """Connections by a socket of this machine."""

    class Connection(_Http.ConnectionCls):
        def _new_conn(self) -> socket.socket:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(_CONNECT_SECONDS)
            link.connect(path)
            return link

    class Pool(_Http):
        ConnectionCls = Connection

    return Pool


class Api:
    """A connection to one API server."""

    def __init__(self, server: Access) -> None:
        self._server = server
        plain = _through(server.socket) if server.socket else _Http
        server.pool.pool_classes_by_scheme = {"http": plain, "https": _Https}

    def close(self) -> None:
        """Close the connections."""
        self._server.pool.clear()

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """One object. Errors: ApiError."""
        return self._call("GET", resource.path(name, namespace=namespace))

    def list(
        self,
        resource: Resource,
        query: Mapping[str, str],
        sized: Callable[[int], None] = lambda _: None,
    ) -> Object:
        """One page of a list; items that cannot be read are `Unread`. sized: is given its bytes.

        Errors: ApiError, TOO_LARGE among their reasons.
        """

        def read(data: bytes) -> Any:
            sized(len(data))
            return decode_list(data)

        return self._call("GET", resource.path(), query, read=read)

    def server_version(self) -> Object:
        """What the server says of itself: major, minor, gitVersion. Errors: ApiError."""
        return self._call("GET", "/version")

    def proxied(self, namespace: str, pod: str, path: str) -> str:
        """What a pod answers to a get, through the API server. pod: name:port, or
        https:name:port. Errors: ApiError.
        """
        place = "/".join(quote(part, safe="") for part in (namespace, "pods", pod, "proxy"))

        def read(data: bytes) -> Object:
            return {"text": data.decode("utf-8", "replace")}

        found = self._call("GET", f"/api/v1/namespaces/{place}/{path}", read=read)
        return str(found["text"])

    def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        """Create an object. Errors: ApiError."""
        return self._call("POST", resource.path(namespace=namespace), {}, body, JSON)

    def replace(self, resource: Resource, name: str, body: Object) -> Object:
        """Replace an object; its resourceVersion guards it. Errors: ApiError."""
        return self._call("PUT", resource.path(name), {}, body, JSON)

    def patch(
        self,
        resource: Resource,
        name: str,
        body: Any,
        *,
        subresource: str | None = None,
        kind: str = MERGE_PATCH,
    ) -> Object:
        """Patch an object or its subresource. Errors: ApiError."""
        return self._call("PATCH", resource.path(name, subresource), {}, body, kind)

    def apply(
        self,
        resource: Resource,
        name: str,
        body: Object,
        manager: str,
        *,
        subresource: str | None = None,
    ) -> Object:
        """Server-side apply: create or change what this manager owns. Errors: ApiError."""
        return self._call(
            "PATCH",
            resource.path(name, subresource),
            {"fieldManager": manager, "force": "true"},
            body,
            APPLY_PATCH,
        )

    def delete(self, resource: Resource, name: str, *, uid: str | None = None) -> None:
        """Delete an object, where it is still the one with this uid; one that has gone already is
        fine. Errors: ApiError.
        """
        options: dict[str, Any] = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Background",
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._call("DELETE", resource.path(name), {}, options, JSON)
        except ApiError as failure:
            if failure.status not in (404, 409):
                raise

    def watch(
        self,
        resource: Resource,
        query: Mapping[str, str],
        silence: float,
        started: Callable[[Callable[[], None]], None],
    ) -> Iterator[Object]:
        """The events of a watch until the server ends it.

        Args:     silence: seconds without an event or bookmark after which it counts as dead.
        started: is given what ends it from
                  another thread.
        Errors:   ApiError; its reason is `SILENT` where nothing came for so long.
        """
        response, ends = self._open(
            "GET",
            resource.path(),
            {**query, "watch": "true"},
            body=None,
            content_type=None,
            read=silence,
        )
        started(lambda: _shut(response))
        try:
            if response.status != 200:
                raise _refusal(response.status, _reason(response), response.headers)
            ends.at = time.monotonic() + silence
            for event in _events(response):
                yield event
                ends.at = time.monotonic() + silence
        except urllib3.exceptions.ReadTimeoutError as failure:
            raise ApiError(0, SILENT, f"nothing for {silence:g} s") from failure
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as failure:
            raise ApiError(0, "WatchBroken", str(failure)) from failure
        finally:
            response.release_conn()
            response.close()

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str | None = None,
        *,
        read: Callable[[bytes], Any] = decode,
    ) -> Object:
        response, ends = self._open(
            method, path, query or {}, body=body, content_type=content_type, read=_READ_SECONDS
        )
        try:
            data = _whole(response)
        except (urllib3.exceptions.HTTPError, OSError) as failure:
            late = time.monotonic() >= ends.at
            raise ApiError(
                0,
                "Broken",
                f"the answer is not whole after {_WHOLE_SECONDS:g} s" if late else str(failure),
            ) from failure
        finally:
            response.release_conn()
        if not 200 <= response.status < 300:
            raise _refusal(response.status, data, response.headers)
        try:
            content = read(data)
        except ValueError as failure:
            raise ApiError(response.status, "BadAnswer", "the answer is no JSON") from failure
        if not isinstance(content, dict):
            raise ApiError(response.status, "BadAnswer", "the answer is no object")
        return content

    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        content_type: str | None,
        read: float,
    ) -> tuple[Any, _Ends]:
        url = f"{self._server.url}{path}" + (
            f"?{urlencode(query, quote_via=quote, safe='')}" if query else ""
        )
        data = None if content_type is None else json.dumps(body).encode()
        headers = {
            "Accept": "application/json",
            "User-Agent": _AGENT,
            **({"Content-Type": content_type} if content_type else {}),
        }
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=read)

        def ask(who: Mapping[str, str]) -> Any:
            _HERE.ends = _Ends(time.monotonic() + _WHOLE_SECONDS)
            return self._server.pool.request(
                method,
                url,
                body=data,
                headers={**headers, **who},
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )

        try:
            who = self._server.headers(False)
            answer = ask(who)
            if answer.status == _UNAUTHORIZED and (anew := self._server.headers(True)) != who:
                answer.close()  # its body may come as slowly as it likes
                answer.release_conn()
                answer = ask(anew)
        # a bad header or address is a ValueError
        except (urllib3.exceptions.HTTPError, OSError, ValueError, InputError) as failure:
            raise ApiError(0, type(failure).__name__, str(failure)) from failure
        return answer, _HERE.ends


def _reason(response: Any) -> bytes:
    """What a refusal says for itself; nothing where that does not come: the refusal counts without
    it.
    """
    try:
        return _whole(response)
    except (urllib3.exceptions.HTTPError, OSError):
        return b""


def _whole(response: Any) -> bytes:
    """The body of an answer.

    Errors: ApiError for one that is too large; HTTPError for one that does not come in time.
    """
    parts, size = [], 0
    while part := response.read1(_PART):
        parts.append(part)
        size += len(part)
        if size > _LARGEST_ANSWER:
            response.close()
            raise ApiError(
                response.status, TOO_LARGE, f"the answer has more than {_LARGEST_ANSWER >> 20} MiB"
            )
    return b"".join(parts)


def _shut(response: Any) -> None:
    """End a read that another thread is in."""
    try:
        response.shutdown()
    except (OSError, ValueError, AttributeError):  # it has ended by itself
        return


def _events(response: Any) -> Iterator[Object]:
    rest = b""
    for chunk in response.stream(65536, decode_content=True):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise ValueError("an event is too long")
        for line in lines:
            if line.strip():
                event = decode_event(line)
                if isinstance(event, dict):
                    yield event


def _refusal(status: int, data: bytes, headers: Mapping[str, str]) -> ApiError:
    try:
        content = decode(data)
        reason, message = str(content.get("reason") or ""), str(content.get("message") or "")
    except (ValueError, AttributeError):
        reason, message = "", data[:_MESSAGE].decode("utf-8", "replace")
    wait = headers.get("Retry-After", "")
    seconds = (
        min(float(wait[:_DIGITS]), _LONGEST_WAIT) if wait.isascii() and wait.isdigit() else None
    )
    return ApiError(status, reason or "Refused", message, seconds)


def connect(kubeconfig: str | None = None, context: str | None = None) -> Api:
    """The API server of the pod that this runs in, else of a context of a kubeconfig file.

    Errors: InputError.
    """
    return Api(access(kubeconfig, context))
