"""Objects that cannot be read cost themselves: a list that holds one is taken apart, and no
informer ends (R6).
"""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.agent.cluster import PodView, Skipped, node_view, object_view, pod_view
from kpm.formats.unread import Unread
from kpm.formats.wire import WireError
from kpm.kube.api import Resource
from kpm.kube.decode import decode, decode_event, decode_list, page_of
from kpm.kube.informer import ApiListWatch, Informer
from kpm.process.threads import Threads
from kpm_planner.model.problems import Code
from tests.agent.http_server import Server, begin_chunks, chunk, serving
from tests.captured import CapturingLog

THINGS = Resource("", "v1", "things")
DEEP = b'{"a":' * 20_000 + b"1" + b"}" * 20_000
DEEP_ENOUGH = b'{"a":' * 2000 + b"1" + b"}" * 2000
LONG = b"9" * 5000


def listed(*items: bytes) -> bytes:
    return (
        b'{"kind": "List", "metadata": {"resourceVersion": "7"}, "items": ['
        + b", ".join(items)
        + b"]}"
    )


def thing(name: str, rest: bytes = b"") -> bytes:
    return (
        json.dumps(
            {
                "metadata": {
                    "name": name,
                    "namespace": "shop",
                    "uid": f"uid-{name}",
                    "resourceVersion": "5",
                }
            }
        )[:-1].encode()
        + rest
        + b"}"
    )


def with_managed_fields(name: str, content: bytes) -> bytes:
    return (
        b'{"metadata": {"managedFields": ['
        + content
        + b'], "name": "'
        + name.encode()
        + b'", "namespace": "shop"}, "spec": {"a": "}]{[\\"" }}'
    )


@pytest.mark.parametrize(
    "odd",
    [b', "x": ' + DEEP, b', "x": ' + LONG, b', "x": "\xff"'],
    ids=["deep", "long number", "no UTF-8"],
)
def test_a_list_is_read_but_for_what_cannot_be(odd: bytes) -> None:
    """Its identity is known all the same, so that somebody can be told."""
    page = page_of(decode_list(listed(thing("a"), thing("bad", odd), thing("b"))))
    assert [item["metadata"]["name"] for item in page.items] == ["a", "bad", "b"]
    assert [isinstance(item, Unread) for item in page.items] == [False, True, False]
    assert page.items[1]["metadata"] == {
        "name": "bad",
        "namespace": "shop",
        "uid": "uid-bad",
        "resourceVersion": "5",
    }
    assert page.version == "7"


def test_managed_fields_cost_nothing_but_themselves() -> None:
    """Nobody here uses them, and everybody may write them."""
    (item,) = page_of(decode_list(listed(with_managed_fields("web", DEEP)))).items
    assert not isinstance(item, Unread)
    assert item == {
        "metadata": {"managedFields": None, "name": "web", "namespace": "shop"},
        "spec": {"a": '}]{["'},
    }


def test_an_event_is_read_likewise() -> None:
    event = decode_event(b'{"type": "ADDED", "object": ' + with_managed_fields("web", DEEP) + b"}")
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "web")
    event = decode_event(
        b'{"object": ' + thing("bad", b', "x": ' + DEEP) + b', "type": "MODIFIED"}'
    )
    assert (
        event["type"],
        event["object"]["metadata"]["name"],
        isinstance(event["object"], Unread),
    ) == ("MODIFIED", "bad", True)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(['"', "\\", '{"', "]}", '\\\\"']),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=4), st.integers(0, 3), st.booleans())
def test_what_is_taken_apart_is_what_it_was(items: list[Any], at: int, spaced: bool) -> None:
    """Whatever else stands in the list, in any spelling that JSON has."""
    separators = (" , ", " : ") if spaced else (",", ":")
    texts = [
        json.dumps(
            {"metadata": {"name": f"n{number}"}, "spec": value}, separators=separators
        ).encode()
        for number, value in enumerate(items)
    ]
    texts.insert(at, thing("bad", b', "x": ' + DEEP_ENOUGH))
    found = decode_list(listed(*texts))["items"]
    read = [item for item in found if not isinstance(item, Unread)]
    assert read == [
        {"metadata": {"name": f"n{number}"}, "spec": value} for number, value in enumerate(items)
    ]
    assert len(found) == len(items) + 1


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\a1 \n', max_size=60).map(str.encode))
def test_whatever_comes_is_a_value_or_an_error(data: bytes) -> None:
    for read in (decode, decode_list, decode_event):
        try:
            read(data)
        except ValueError:
            continue


def test_a_pod_and_an_object_of_ours_that_cannot_be_read_are_told() -> None:
    unread = Unread({"name": "bad", "namespace": "shop"}, "is nested too deep")
    pod, profile = pod_view(unread), object_view(unread, "PowerProfile", "power.openshift.io")
    assert isinstance(pod, Skipped)
    assert isinstance(profile, Skipped)
    assert [(item.problem.code, item.problem.object) for item in (pod, profile)] == [
        (Code.OBJECT_UNREADABLE, "Pod/shop/bad"),
        (Code.OBJECT_UNREADABLE, "PowerProfile/bad"),
    ]
    assert isinstance(
        pod_view({"metadata": {"name": "a"}, "spec": {"containers": []}, "status": {}}), PodView
    )


def test_a_node_that_cannot_be_read_is_not_one_without_labels() -> None:
    """Which no selector would select: everything on it would be given back."""
    with pytest.raises(WireError, match="nested too deep"):
        node_view(Unread({"name": "n"}, "is nested too deep"), "power.openshift.io")


# --- informers that nothing ends ---

ODD_LISTS: dict[str, bytes] = {
    "items are text": b'{"metadata": {"resourceVersion": "1"}, "items": "abc"}',
    "metadata is a list": b'{"metadata": [], "items": []}',
    "metadata is text": b'{"metadata": "x", "items": []}',
    "the token is a mapping": (
        b'{"metadata": {"resourceVersion": "1", "continue": {"a": 1}}, "items": []}'
    ),
    "no JSON": b"<html>",
    "deep": DEEP,
    "nothing": b"",
    "null": b"null",
    "a number": b"1",
}
ODD_ITEMS: dict[str, bytes] = {
    "a number": b"1",
    "metadata is text": b'{"metadata": "x"}',
    "deep": thing("deep", b', "x": ' + DEEP),
    "long number": thing("long", b', "x": ' + LONG),
    "a name that is none": b'{"metadata": {"name": {"a": 1}, "namespace": [1]}}',
    "half a character": b'{"metadata": {"name": "\\ud800"}}',
}
ODD_EVENTS: dict[str, bytes] = {
    "code is text": b'{"type": "ERROR", "object": {"code": "x"}}',
    "code is a list": b'{"type": "ERROR", "object": {"code": [1]}}',
    "metadata is text": b'{"type": "ADDED", "object": {"metadata": "x"}}',
    "type is a list": b'{"type": [], "object": {"metadata": {"name": "a"}}}',
    "deep": b'{"type": "ADDED", "object": ' + thing("a", b', "x": ' + DEEP) + b"}",
    "no UTF-8": b'{"type": "ADDED", "object": {"metadata": {"name": "\xff"}}}',
    "no JSON": b"<html>",
    "cut off": b'{"type": "ADD',
    "text": b'"x"',
}


def follow(
    server: Server, write: Callable[[Any], None], transform: Callable[[Any], Any] = lambda obj: obj
) -> tuple[Informer, threading.Thread]:
    server.write = write
    informer = Informer("things", ApiListWatch(server.api(), THINGS), lambda: None, transform)
    return informer, informer.start(Threads(CapturingLog()))


def answer(link: Any, body: bytes, status: int = 200, **headers: str) -> None:
    link.send_response(status)
    for key, value in {"Content-Length": str(len(body)), **headers}.items():
        link.send_header(key.replace("_", "-"), value)
    link.end_headers()
    link.wfile.write(body)
    link.wfile.flush()


def recovers(
    first: Callable[[Any], None],
    *,
    watching: bool,
    transform: Callable[[Any], Any] = lambda obj: obj,
) -> bool:
    """Whether an informer that met an answer once goes on and has the thing that is listed after
    it.
    """
    met = threading.Event()

    def write(link: Any) -> None:
        asks_watch = "watch=true" in link.path
        if asks_watch is watching and not met.is_set():
            met.set()
            first(link)
        elif asks_watch:
            begin_chunks(link)
            time.sleep(0.3)
            chunk(link, b'{"type": "ADDED", "object": ' + thing("late") + b"}\n")
            time.sleep(1)
        else:
            answer(link, listed(thing("early")))

    with serving() as server:
        informer, thread = follow(server, write, transform)
        ends = time.monotonic() + 15
        while (
            time.monotonic() < ends
            and thread.is_alive()
            and not (met.is_set() and informer.get("early", "shop"))
        ):
            time.sleep(0.02)
        found = thread.is_alive() and informer.get("early", "shop") is not None
        informer.stop()
    return found


@pytest.mark.parametrize("name", ODD_LISTS)
def test_no_list_ends_an_informer(name: str) -> None:
    assert recovers(lambda link: answer(link, ODD_LISTS[name]), watching=False)


@pytest.mark.parametrize("name", ODD_ITEMS)
def test_an_item_costs_itself(name: str) -> None:
    """The others of its list are there at once, without a second list."""
    assert recovers(
        lambda link: answer(link, listed(ODD_ITEMS[name], thing("early"))), watching=False
    )


@pytest.mark.parametrize("name", ODD_EVENTS)
def test_no_event_ends_an_informer(name: str) -> None:
    def write(link: Any) -> None:
        begin_chunks(link)
        chunk(link, ODD_EVENTS[name] + b"\n")
        chunk(link, b"")

    assert recovers(write, watching=True)


def test_a_wait_that_no_clock_can_hold_is_bounded() -> None:
    with serving() as server:
        server.say(429, {"reason": "TooManyRequests"}, Retry_After="9" * 40)
        informer = Informer("things", ApiListWatch(server.api(), THINGS), lambda: None)
        thread = informer.start(Threads(CapturingLog()))
        time.sleep(0.3)
        assert thread.is_alive()
        informer.stop()
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "kind",
    [
        ValueError,
        KeyError,
        RecursionError,
        MemoryError,
        UnicodeError,
        AttributeError,
        OverflowError,
    ],
)
def test_what_a_transform_raises_costs_its_object(kind: type[Exception]) -> None:
    def transform(obj: Any) -> Any:
        if obj["metadata"]["name"] == "bad":
            raise kind("odd")
        return obj

    assert recovers(
        lambda link: answer(link, listed(thing("bad"), thing("early"))),
        watching=False,
        transform=transform,
    )


@pytest.mark.parametrize("kind", [ValueError, RecursionError, MemoryError, OSError, RuntimeError])
def test_what_a_source_raises_is_a_failure_like_any(kind: type[Exception]) -> None:
    """Also what nobody thought of: the list is made anew after a wait."""

    class Odd:
        asked = 0

        def list(self, token: str | None) -> Any:
            self.asked += 1
            if self.asked == 1:
                raise kind("odd")
            return {
                "metadata": {"resourceVersion": "1"},
                "items": [{"metadata": {"name": "early"}}],
            }

        def watch(self, version: str) -> Any:
            time.sleep(0.2)
            yield from ()

        def close(self) -> None:
            """Nothing is open."""

    informer = Informer("things", Odd(), lambda: None)
    thread = informer.start(Threads(CapturingLog()))
    ends = time.monotonic() + 10
    while time.monotonic() < ends and informer.get("early") is None:
        time.sleep(0.02)
    assert thread.is_alive()
    assert informer.get("early") is not None
    informer.stop()
