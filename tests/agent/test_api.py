"""The client on the wire: what it asks a real HTTP server, and what it makes of every answer."""

import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.kube.api import JSON_PATCH, SILENT, TOO_LARGE, Api, ApiError, Object, Resource
from kpm.kube.informer import ApiListWatch
from tests.agent.http_server import Server, begin_chunks, chunk, serving

THINGS = Resource("power.openshift.io", "v1", "powerprofiles", "power-manager")
NODES = Resource("", "v1", "nodes")
BODY = {"metadata": {"name": "a"}, "spec": {"gone": None, "text": "ü", "list": [1, {"deep": True}]}}
OURS = "/apis/power.openshift.io/v1/namespaces/power-manager/powerprofiles"


@pytest.fixture
def server() -> Iterator[Server]:
    """A server."""
    with serving() as running:
        yield running


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    """A client with a token."""
    client = server.api(api_key={"authorization": "bearer secret"})
    yield client
    client.close()


# --- what is asked ---

VERBS: dict[str, tuple[Any, str, str, Any]] = {
    "get": (lambda api: api.get(THINGS, "a"), "GET", f"{OURS}/a", None),
    "get elsewhere": (
        lambda api: api.get(THINGS, "a", "other"),
        "GET",
        f"{OURS}/a".replace("power-manager", "other"),
        None,
    ),
    "get of no namespace": (lambda api: api.get(NODES, "n"), "GET", "/api/v1/nodes/n", None),
    "list": (
        lambda api: api.list(THINGS, {"limit": "5", "labelSelector": "!a=b,c"}),
        "GET",
        f"{OURS}?limit=5&labelSelector=%21a%3Db%2Cc",
        None,
    ),
    "create": (lambda api: api.create(THINGS, BODY), "POST", OURS, ("application/json", BODY)),
    "replace": (
        lambda api: api.replace(THINGS, "a", BODY),
        "PUT",
        f"{OURS}/a",
        ("application/json", BODY),
    ),
    "merge patch": (
        lambda api: api.patch(NODES, "n", BODY, subresource="status"),
        "PATCH",
        "/api/v1/nodes/n/status",
        ("application/merge-patch+json", BODY),
    ),
    "JSON patch": (
        lambda api: api.patch(THINGS, "a", [{"op": "test"}], kind=JSON_PATCH),
        "PATCH",
        f"{OURS}/a",
        ("application/json-patch+json", [{"op": "test"}]),
    ),
    "apply": (
        lambda api: api.apply(THINGS, "a", BODY, "me"),
        "PATCH",
        f"{OURS}/a?fieldManager=me&force=true",
        ("application/apply-patch+yaml", BODY),
    ),
    "apply of a status": (
        lambda api: api.apply(THINGS, "a", BODY, "me", subresource="status"),
        "PATCH",
        f"{OURS}/a/status?fieldManager=me&force=true",
        ("application/apply-patch+yaml", BODY),
    ),
    "delete": (
        lambda api: api.delete(THINGS, "a", uid="u"),
        "DELETE",
        f"{OURS}/a",
        (
            "application/json",
            {
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "propagationPolicy": "Background",
                "preconditions": {"uid": "u"},
            },
        ),
    ),
}


@pytest.mark.parametrize(("call", "method", "target", "sent"), VERBS.values(), ids=list(VERBS))
def test_each_verb_is_one_request(
    server: Server, api: Api, call: Any, method: str, target: str, sent: Any
) -> None:
    """Method, path, query, type and body; nulls are sent, for they delete; with the token of the
    configuration.
    """
    server.say(200, {"answer": 1})
    assert call(api) == (None if method == "DELETE" else {"answer": 1})
    (request,) = server.requests
    assert (request.method, request.target.replace("%3D", "=")) == (
        method,
        target.replace("%3D", "="),
    )
    assert (request.headers["authorization"], request.headers["accept"]) == (
        "bearer secret",
        "application/json",
    )
    assert (
        (request.body == b"")
        if sent is None
        else ((request.headers["content-type"], request.document) == sent)
    )


def test_without_a_token_none_is_sent(server: Server) -> None:
    """A kubeconfig with client certificates has none."""
    server.api().get(NODES, "n")
    assert "authorization" not in server.requests[0].headers


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(NAMES, NAMES, NAMES)
def test_a_name_stays_in_its_segment_of_the_path(
    name: str, namespace: str, subresource: str
) -> None:
    """Slashes, dots, percent signs, blanks, question marks, any letter."""
    path = THINGS.path(name, subresource, namespace)
    assert path.isascii()
    assert not set(path) & set("?#;\\ \r\n")
    segments = path.split("/")
    assert segments[:5] == ["", "apis", "power.openshift.io", "v1", "namespaces"]
    assert [unquote(segment) for segment in segments[5:]] == [
        namespace,
        "powerprofiles",
        name,
        subresource,
    ]


def test_odd_names_are_on_the_wire_what_they_are(server: Server, api: Api) -> None:
    """Neither this client nor the library below it cuts, joins or decodes them."""
    for name in (
        "a/b",
        "../b",
        "a?b=c",
        "a#b",
        "a%2Fb",
        "a b",
        "ä",
        "a;b",
        "a\\b",
        "...",
        "a\r\nX: y",
    ):
        api.get(NODES, name)
        parts = urlsplit(server.requests[-1].target)
        assert (
            unquote(parts.path.removeprefix("/api/v1/nodes/")),
            parts.path.count("/"),
            parts.query,
        ) == (name, 4, "")


# --- what is answered ---


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 500, 503])
def test_a_refusal_has_its_status_reason_and_message(server: Server, api: Api, status: int) -> None:
    """As Kubernetes' Status objects say it, in one line; nothing is asked twice."""
    server.say(status, {"kind": "Status", "reason": "SomeReason", "message": "because\nof that"})
    with pytest.raises(ApiError, match=rf"^{status} SomeReason: because\\x0aof that$") as failure:
        api.get(NODES, "n")
    assert (failure.value.status, failure.value.reason, failure.value.retry_after) == (
        status,
        "SomeReason",
        None,
    )
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"upstream error", b"\xff\xfe", b"[]", b"3", b"null", b'{"reason": null}', b"x" * 100000],
)
def test_a_refusal_by_somebody_in_between_is_one_as_well(
    server: Server, api: Api, body: bytes
) -> None:
    """A load balancer's page instead of a Status; the text is bounded."""
    server.say(502, body)
    with pytest.raises(ApiError) as failure:
        api.get(NODES, "n")
    assert (failure.value.status, failure.value.reason) == (502, "Refused")
    assert len(str(failure.value)) < 400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
    ],
)
def test_retry_after_is_read_where_it_is_seconds(
    server: Server, api: Api, text: str, seconds: float | None
) -> None:
    """A date is not waited for."""
    server.say(429, {"reason": "TooManyRequests"}, Retry_After=text)
    with pytest.raises(ApiError) as failure:
        api.get(NODES, "n")
    assert failure.value.retry_after == seconds


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"null", b"\xff"])
def test_an_answer_that_is_no_object_is_an_error(server: Server, api: Api, body: bytes) -> None:
    """A captive portal says 200 to everything."""
    server.say(200, body)
    with pytest.raises(ApiError, match="200 BadAnswer"):
        api.get(NODES, "n")


def test_a_redirect_is_not_followed(server: Server, api: Api) -> None:
    """The token goes to nobody else."""
    server.say(302, {}, Location=f"http://127.0.0.1:{server.port}/else")
    with pytest.raises(ApiError) as failure:
        api.get(NODES, "n")
    assert (failure.value.status, len(server.requests)) == (302, 1)


@pytest.mark.parametrize("status", [404, 409])
def test_deleting_what_is_gone_is_fine(server: Server, api: Api, status: int) -> None:
    """Or what is another object of that name by now; any other refusal is not."""
    server.say(status, {"reason": "NotFound"})
    api.delete(NODES, "n")
    server.say(403, {"reason": "Forbidden"})
    with pytest.raises(ApiError, match="403 Forbidden"):
        api.delete(NODES, "n")


def test_nobody_there_is_an_error_without_status() -> None:
    """A connection refused, for a request and for a watch."""
    with serving() as server:
        api = server.api()
    for ask in (
        lambda: api.get(NODES, "n"),
        lambda: list(api.watch(NODES, {}, 30.0, lambda _end: None)),
    ):
        with pytest.raises(ApiError, match=r"^no answer ") as failure:
            ask()
        assert failure.value.status == 0


def cut_off(link: Any) -> None:
    """An answer that is shorter than it says."""
    link.send_response(200)
    link.send_header("Content-Length", "1000")
    link.end_headers()
    link.wfile.write(b'{"half": ')


@pytest.mark.parametrize(
    "write",
    [cut_off, lambda link: None, lambda link: link.wfile.write(b"garbage\r\n\r\n")],
    ids=["half", "nothing", "garbage"],
)
def test_an_answer_that_breaks_off_is_an_error_without_status(
    server: Server, api: Api, write: Any
) -> None:
    """Whoever asked does not know whether it was done."""
    server.write = write
    with pytest.raises(ApiError) as failure:
        api.get(NODES, "n")
    assert failure.value.status == 0


# --- watches ---


def event(name: str) -> dict[str, Any]:
    """An event."""
    return {"type": "ADDED", "object": {"metadata": {"name": name}}}


def watch_of(*pieces: bytes) -> Any:
    """A watch that sends these pieces, each by itself, and ends."""

    def write(link: Any) -> None:
        begin_chunks(link)
        for piece in (*pieces, b""):
            chunk(link, piece)
            time.sleep(0.002)

    return write


def test_events_come_whole_however_they_are_cut(server: Server, api: Api) -> None:
    """Several in a chunk, one in many chunks, a letter cut in two, blank lines."""
    events = [event("a"), event("bü"), event("c" * 200_000), event("d")]
    text = "\n".join(json.dumps(item, ensure_ascii=False) for item in events).encode() + b"\n\n"
    cuts = [0, 3, 40, text.index("ü".encode()) + 1, 300, 90_000, len(text) - 20, len(text)]
    server.write = watch_of(*(text[start:end] for start, end in pairwise(cuts)))
    assert list(api.watch(THINGS, {"resourceVersion": "5"}, 30.0, lambda _end: None)) == events
    assert server.requests[0].target == f"{OURS}?resourceVersion=5&watch=true"


def test_an_event_is_given_before_the_next_one_is_sent(server: Server, api: Api) -> None:
    """A watch is no download."""
    more = threading.Event()

    def write(link: Any) -> None:
        begin_chunks(link)
        chunk(link, json.dumps(event("a")).encode() + b"\n")
        if more.wait(5):
            chunk(link, json.dumps(event("b")).encode() + b"\n")
            chunk(link, b"")

    server.write = write
    events = api.watch(NODES, {}, 30.0, lambda _end: None)
    assert next(events) == event("a")
    more.set()
    assert list(events) == [event("b")]


def test_a_watch_that_is_refused_is_an_error(server: Server, api: Api) -> None:
    """With the server's own words, among them 410 for a version that it has forgotten."""
    server.say(410, {"reason": "Expired", "message": "too old resource version"}, Retry_After="3")
    with pytest.raises(ApiError, match="410 Expired: too old") as failure:
        list(api.watch(NODES, {}, 30.0, lambda _end: None))
    assert (failure.value.status, failure.value.retry_after) == (410, 3.0)


def broken_chunks(link: Any) -> None:
    """A watch that ends in the middle of a chunk."""
    begin_chunks(link)
    chunk(link, json.dumps(event("a")).encode() + b"\n")
    link.wfile.write(b"100\r\nhalf")


@pytest.mark.parametrize(
    "write",
    [broken_chunks, watch_of(json.dumps(event("a")).encode() + b"\n{half\n")],
    ids=["cut off", "no JSON"],
)
def test_a_watch_that_breaks_gives_what_came_and_then_an_error(
    server: Server, api: Api, write: Any
) -> None:
    """So that whoever follows it knows that it has not ended well."""
    server.write = write
    found: list[Object] = []
    with pytest.raises(ApiError, match="no answer WatchBroken"):
        found.extend(iter(api.watch(NODES, {}, 30.0, lambda _end: None)))
    assert found == [event("a")]


def test_a_watch_can_be_ended_from_another_thread(server: Server, api: Api) -> None:
    """While it waits for an event that never comes; and again when it has ended long since."""
    ends: list[Any] = []
    release = threading.Event()

    def write(link: Any) -> None:
        begin_chunks(link)
        chunk(link, json.dumps(event("a")).encode() + b"\n")
        release.wait(10)

    server.write = write
    events = api.watch(NODES, {}, 30.0, ends.append)
    assert next(events) == event("a")
    timer = threading.Timer(0.1, ends[0])
    timer.start()
    started = time.monotonic()
    with pytest.raises(ApiError, match="WatchBroken"):
        assert list(events) == []
    assert time.monotonic() - started < 3
    ends[0]()
    release.set()
    timer.join()


def test_a_watch_that_brings_nothing_for_too_long_is_silent(server: Server, api: Api) -> None:
    """Told apart from one that breaks; what came before is given."""
    release = threading.Event()

    def write(link: Any) -> None:
        begin_chunks(link)
        chunk(link, json.dumps(event("a")).encode() + b"\n")
        release.wait(10)

    server.write = write
    found: list[Object] = []
    with pytest.raises(ApiError, match="nothing for") as failure:
        found.extend(iter(api.watch(NODES, {}, 0.2, lambda _end: None)))
    assert (found, failure.value.reason) == ([event("a")], SILENT)
    release.set()


def test_an_answer_that_drips_has_its_time_as_a_whole(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then does not make it last: the thread that waits for it goes on."""
    monkeypatch.setattr("kpm.kube.api._WHOLE_SECONDS", 0.5)

    def drip(link: Any) -> None:
        begin_chunks(link)
        for _ in range(200):
            chunk(link, b" ")
            time.sleep(0.05)

    server.write = drip
    began = time.monotonic()
    with pytest.raises(ApiError, match="not whole"):
        api.get(THINGS, "a")
    assert time.monotonic() - began < 3


def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may create objects decides how large they are."""
    monkeypatch.setattr("kpm.kube.api._LARGEST_ANSWER", 1 << 20)
    server.say(200, b" " * (3 << 20))
    with pytest.raises(ApiError) as caught:
        api.list(THINGS, {})
    assert caught.value.reason == TOO_LARGE


def limits(server: Server) -> list[str]:
    """The limit of each list that was asked for."""
    return [parse_qs(urlsplit(item.target).query)["limit"][0] for item in server.requests]


@pytest.mark.parametrize(("size", "following"), [(1 << 20, "3"), (200, "500")])
def test_large_objects_are_listed_by_few_and_small_ones_by_many(
    server: Server, api: Api, size: int, following: str
) -> None:
    """The first page is small, as nobody knows yet; the next ones are to have a few megabytes."""
    source = ApiListWatch(api, THINGS)
    item = {"metadata": {"name": "a", "annotations": {"a": "x" * size}}}
    server.say(200, {"metadata": {"continue": "more"}, "items": [item] * 10})
    source.list(None)
    source.list("more")
    assert limits(server) == ["10", following]


def test_a_page_that_is_too_large_is_asked_for_with_fewer(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down to one object at a time."""
    monkeypatch.setattr("kpm.kube.api._LARGEST_ANSWER", 1 << 16)
    server.say(200, b" " * (1 << 17))
    source = ApiListWatch(api, THINGS)
    for _ in range(4):
        with pytest.raises(ApiError):
            source.list(None)
    assert limits(server) == ["10", "2", "1", "1"]
