"""What a server, or somebody in between, does to the bytes of an answer ends no informer (R6)."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kpm.kube.access import Access, _Token
from kpm.kube.api import Api, ApiError, Resource
from kpm.kube.decode import decode_event
from kpm.kube.informer import ApiListWatch, Informer
from kpm.operator.observed import held_object
from kpm.process.logs import Log
from kpm.process.threads import Threads
from tests.agent.http_server import Server, begin_chunks, serving
from tests.helper.running import until

THINGS = Resource("", "v1", "things")
LIST = {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "a"}}]}


def raw(data: bytes) -> Callable[[Any], None]:
    """An answer that is these bytes and no more."""
    return lambda link: link.wfile.write(data)


def refusal(status: int) -> bytes:
    """A refusal without a word of Kubernetes."""
    return b"HTTP/1.1 %d No\r\nContent-Length: 2\r\nRetry-After: 0\r\n\r\nno" % status


OK = b"HTTP/1.1 200 OK\r\n"
ODD: dict[str, bytes] = {
    "no status line": b"HTTP/1.1 garbage\r\n\r\n",
    "300 headers": OK + b"".join(b"X-%d: 1\r\n" % number for number in range(300)) + b"\r\n",
    "no chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "no gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    "an odd length": OK + b"Content-Length: -7\r\n\r\n",
    "cut off": OK + b'Content-Length: 1000\r\n\r\n{"items":',
    "NaN": OK + b'Content-Length: 30\r\n\r\n{"metadata":{"a":NaN},"items":}',
    "elsewhere": b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    **{str(status): refusal(status) for status in (401, 403, 404, 408, 410, 413, 429, 500, 503)},
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpm.kube.informer._FIRST_WAIT", 0.02)


def wait_in_watch(link: Any) -> None:
    """A watch that brings nothing while a test needs it."""
    begin_chunks(link)
    time.sleep(1.5)


def follow(server: Server, first: Callable[[Any], None], api: Api, *, watching: bool) -> None:
    """An informer that meets one odd answer has what is listed afterwards, in the same thread."""
    lines, met = io.StringIO(), threading.Event()

    def write(link: Any) -> None:
        if ("watch=true" in link.path) is watching and not met.is_set():
            met.set()
            first(link)
        elif "watch=true" in link.path:
            wait_in_watch(link)
        else:
            server.say(200, LIST)
            head = b"Content-Length: %d\r\n\r\n" % len(server.body)
            link.wfile.write(OK + head + server.body)

    server.write = write
    informer = Informer("things", ApiListWatch(api, THINGS), lambda: None)
    thread = informer.start(Threads(Log(stream=lines)))
    until(lambda: met.is_set() and informer.get("a") is not None)
    if watching:
        until(lambda: [item.target for item in server.requests if "watch" in item.target][1:])
    assert thread.is_alive()
    assert "thread ended" not in lines.getvalue()
    informer.stop()


@pytest.mark.parametrize("watching", [False, True], ids=["list", "watch"])
@pytest.mark.parametrize("name", ODD)
def test_no_answer_ends_an_informer(name: str, watching: bool) -> None:
    with serving() as server:
        follow(server, raw(ODD[name]), server.api(), watching=watching)


def test_an_informer_goes_on_while_the_token_cannot_be_read(tmp_path: Path) -> None:
    """The kubelet exchanges the volume, or no descriptor is left, as a watch ends."""
    file = tmp_path / "token"
    file.write_text("one")
    with serving() as server:
        plain, now = server.api()._server, iter(range(0, 10**6, 100))
        token = _Token(str(file), lambda: float(next(now)))
        token.headers(True)

        def first(link: Any) -> None:
            file.unlink()
            raw(b"")(link)

        api = Api(Access(plain.url, plain.pool, token.headers))
        follow(server, first, api, watching=True)
        assert {item.headers["authorization"] for item in server.requests} == {"Bearer one"}


def test_without_a_token_a_request_fails_like_any(tmp_path: Path) -> None:
    """Not in another way, which a lease or a loop would not expect."""
    with serving() as server:
        plain = server.api()._server
        token = _Token(str(tmp_path / "none"), time.monotonic)
        with pytest.raises(ApiError) as failure:
            Api(Access(plain.url, plain.pool, token.headers)).get(THINGS, "a")
        assert failure.value.status == 0
        assert server.requests == []


@pytest.mark.parametrize("depth", [1200, 10_000])
def test_the_operator_knows_an_object_that_is_nested_too_deep(depth: int) -> None:
    """By its name, so that its status can say so; managedFields alone cost nothing."""
    deep = b'{"f:a":' * depth + b"{}" + b"}" * depth
    head = b'{"type": "ADDED", "object": {"metadata": {"name": "p", "uid": "u"'
    spoilt = decode_event(head + b'}, "spec": ' + deep + b"}}")["object"]
    fields = b', "managedFields": [{"fieldsV1": ' + deep + b"}]"
    whole = decode_event(head + fields + b'}, "spec": {"shared": true}}}')["object"]
    held = [held_object(item, "PowerProfile", "power.openshift.io") for item in (spoilt, whole)]
    assert [item.name for item in held] == ["p", "p"]
    assert [item.fault is None for item in held] == [False, True]
    assert held[0].value is None
    assert held[1].value is not None
    assert held[1].value.shared
