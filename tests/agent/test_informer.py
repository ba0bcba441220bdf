"""The informer against scripted sources: what it keeps, how it resumes, how long it waits."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from kpm.kube.api import ApiError, Object
from kpm.kube.informer import Informer
from kpm.process.threads import Threads
from tests.agent.scripted_source import BROKEN, GONE, Answer, Script, bookmark, event, obj, page
from tests.captured import CapturingLog


def follow(
    lists: Sequence[Answer], *watches: Sequence[Answer], **options: Any
) -> tuple[Informer, Script, list[tuple[Any, ...]]]:
    """Run an informer to the end of a script: it, the script, and what it held at each call of
    `changed`.
    """
    script = Script(list(lists), [list(watch) for watch in watches])
    seen: list[tuple[Any, ...]] = []
    informer = Informer(
        "things", script, lambda: seen.append(informer.values()), stop=script.waits, **options
    )
    informer.run()
    return informer, script, seen


def names(values: tuple[Any, ...]) -> list[str]:
    """Names of objects."""
    return [item["metadata"]["name"] for item in values]


# --- what is kept ---


def test_pages_are_put_together_before_anything_is_shown() -> None:
    """With the continue token of each page, and the version of the last; one call of `changed`."""
    informer, script, seen = follow(
        [
            page(obj("b", 3), version=5, token="t1"),
            page(obj("c", 4), version=5, token="t2"),
            page(obj("a", 5), version=5),
        ],
        [],
    )
    assert script.asked == [("list", None), ("list", "t1"), ("list", "t2"), ("watch", "5")]
    assert names(informer.values()) == ["a", "b", "c"]
    assert len(seen) == 1
    assert informer.synced


def test_events_change_what_is_kept() -> None:
    """ADDED, MODIFIED, DELETED, each told once."""
    events = [
        event("ADDED", obj("b", 6)),
        event("MODIFIED", obj("a", 7, on=True)),
        event("DELETED", obj("b", 8)),
    ]
    informer, _, seen = follow([page(obj("a", 5), version=5)], events)
    assert [names(held) for held in seen] == [["a"], ["a", "b"], ["a", "b"], ["a"]]
    assert informer.get("a")["spec"] == {"on": True}
    assert informer.get("b") is None


def test_an_empty_list_is_news_the_first_time() -> None:
    """Whoever waits for the kind to be listed is woken."""
    informer, _, seen = follow([page(version=1)], [])
    assert seen == [()]
    assert informer.synced


def test_values_are_in_order_of_namespace_and_name() -> None:
    """And found by both; a name alone is one without a namespace."""
    items = [obj("b", 1, "x"), obj("a", 2, "y"), obj("c", 3), obj("a", 4, "x")]
    informer, _, _ = follow([page(*items, version=4)], [])
    assert [
        (item["metadata"].get("namespace"), item["metadata"]["name"]) for item in informer.values()
    ] == [(None, "c"), ("x", "a"), ("x", "b"), ("y", "a")]
    assert informer.get("b", "x") == items[0]
    assert informer.get("b") is None


def test_what_the_transform_leaves_out_is_not_kept() -> None:
    """From a list or an event; an object that is left out from now on is gone, and one that never
    was is no news.
    """

    def keep(item: Object) -> Any:
        return item["metadata"]["name"] if item["spec"].get("on") else None

    events = [
        event("MODIFIED", obj("b", 6)),
        event("MODIFIED", obj("a", 7)),
        event("ADDED", obj("c", 8, on=True)),
        event("DELETED", obj("b", 9)),
    ]
    informer, _, seen = follow(
        [page(obj("a", 4, on=True), obj("b", 5), version=5)], events, transform=keep
    )
    assert seen == [("a",), (), ("c",)]
    assert informer.values() == ("c",)


def test_a_new_version_that_means_the_same_is_no_news() -> None:
    """Heartbeats of nodes wake nobody."""
    _, _, seen = follow(
        [page(obj("a", 1, on=True), version=1)],
        [event("MODIFIED", obj("a", 2, on=True))],
        transform=lambda item: item["spec"],
    )
    assert len(seen) == 1


# --- where it goes on ---


def test_a_broken_watch_is_resumed_where_it_was() -> None:
    """Nothing is listed again; the version is that of the last event."""
    _, script, _ = follow(
        [page(version=5)],
        [event("ADDED", obj("a", 7)), BROKEN],
        [event("DELETED", obj("a", 9)), BROKEN],
        [],
    )
    assert script.asked == [("list", None), ("watch", "5"), ("watch", "7"), ("watch", "9")]


def test_a_bookmark_moves_the_version_and_nothing_else() -> None:
    """It has no object that could be kept."""
    informer, script, seen = follow([page(version=5)], [bookmark(70)], [])
    assert script.asked == [("list", None), ("watch", "5"), ("watch", "70")]
    assert (informer.values(), seen) == ((), [()])


@pytest.mark.parametrize("gone", [ApiError(410, "Gone", "too old"), GONE], ids=["status", "event"])
def test_where_the_server_has_forgotten_the_version_it_lists_anew(gone: Answer) -> None:
    """At once, for compaction is no fault; what is gone meanwhile goes, what is new comes."""
    informer, script, seen = follow(
        [page(obj("a", 1), obj("b", 2), version=5), page(obj("b", 2), obj("c", 8), version=9)],
        [gone],
        [],
    )
    assert script.asked == [("list", None), ("watch", "5"), ("list", None), ("watch", "9")]
    assert [names(held) for held in seen] == [["a", "b"], ["b", "c"]]
    assert script.waits.seconds == []
    assert names(informer.values()) == ["b", "c"]


def test_a_list_that_finds_nothing_changed_is_no_news() -> None:
    """And the objects are not looked at again."""
    looked: list[str] = []

    def look(item: Object) -> Object:
        looked.append(item["metadata"]["name"])
        return item

    _, _, seen = follow(
        [page(obj("a", 1), version=5), page(obj("a", 1), version=9)], [GONE], [], transform=look
    )
    assert len(seen) == 1
    assert looked == ["a"]


def test_a_page_whose_token_has_expired_begins_the_list_anew() -> None:
    """Nothing of the first try is kept."""
    informer, script, seen = follow(
        [
            page(obj("a", 1), version=5, token="t"),
            ApiError(410, "Expired", "token"),
            page(obj("b", 6), version=7),
        ],
        [],
    )
    assert script.asked == [("list", None), ("list", "t"), ("list", None), ("watch", "7")]
    assert names(informer.values()) == ["b"]
    assert len(seen) == 1


# --- how long it waits ---


@pytest.mark.parametrize("status", [0, 401, 403, 429, 500, 503])
def test_waits_grow_to_half_a_minute(status: int) -> None:
    """Fifty failures take more than ten minutes; each is told; no wait is shorter than a quarter of
    a second or longer than 30.
    """
    told: list[str] = []
    _, script, _ = follow(
        [*[ApiError(status, "Failed", "no")] * 50, page(version=1)],
        [],
        trouble=lambda name, failure: told.append(f"{name} {failure}"),
    )
    waits = script.waits.seconds
    assert len(waits) == len(told) == 50
    assert all(0.25 <= seconds <= 30 for seconds in waits)
    assert max(waits[:1]) <= 1 < 15 <= min(waits[10:])
    assert sum(waits) > 600
    assert len(set(waits[10:])) > 10  # not all at once


def test_failing_watches_wait_as_well_and_an_event_makes_them_patient_again() -> None:
    """The wait after a connection that brought something is a short one."""
    _, script, _ = follow(
        [page(version=5)], *[[BROKEN]] * 8, [event("ADDED", obj("a", 7)), BROKEN], []
    )
    assert script.waits.seconds[7] >= 15
    assert script.waits.seconds[8] <= 1


def test_a_server_that_has_always_just_forgotten_is_not_asked_without_end() -> None:
    """Only the first 410 in a row is taken at once."""
    _, script, _ = follow([page(version=5)] * 51, *[[GONE]] * 50, [])
    assert len(script.waits.seconds) >= 49
    assert sum(script.waits.seconds) > 600


@pytest.mark.parametrize(
    "lists",
    [[ApiError(429, "TooManyRequests", "later", 45.0), page(version=1)], [page(version=1)]],
    ids=["list", "watch"],
)
def test_the_server_may_ask_for_a_longer_wait(lists: list[Answer]) -> None:
    """Retry-After is honoured, of a list and of a watch."""
    first: list[list[Answer]] = (
        [] if len(lists) > 1 else [[ApiError(503, "Unavailable", "later", 45.0)]]
    )
    _, script, _ = follow(lists, *first, [])
    assert len(script.waits.seconds) == 1
    assert script.waits.seconds[0] >= 45


class Blocking:
    """A source whose watch brings nothing until it is closed."""

    def __init__(self) -> None:
        self.ended, self.watching = threading.Event(), threading.Event()

    def list(self, token: str | None) -> Object:
        return page(version=1)

    def watch(self, version: str) -> Iterator[Object]:
        self.watching.set()
        self.ended.wait(10)
        yield from ()
        raise BROKEN

    def close(self) -> None:
        self.ended.set()


class Failing(Blocking):
    """A source that fails at once."""

    def list(self, token: str | None) -> Object:
        self.watching.set()
        raise ApiError(503, "Unavailable", "later", 60.0)


@pytest.mark.parametrize("kind", [Blocking, Failing])
def test_stop_ends_a_watch_and_a_wait_within_a_second(kind: type[Blocking]) -> None:
    """From another thread, whatever the loop is in; an end that was asked for is no trouble."""
    source, told = kind(), []
    informer = Informer(
        "things", source, lambda: None, trouble=lambda _name, failure: told.append(failure)
    )
    thread = informer.start(Threads(CapturingLog()))
    assert source.watching.wait(5)
    started = time.monotonic()
    informer.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - started < 1
    assert len(told) == (1 if kind is Failing else 0)


def test_many_events_and_many_readers_at_once() -> None:
    """No lock is held while others are told, so reading in there hangs nobody; at the end the copy
    is right (field report 46).
    """
    count = 10_000
    script = Script(
        [page(version=1)],
        [[event("ADDED", obj(f"p{number % 97}", number + 2, n=number)) for number in range(count)]],
    )
    seen: list[int] = []
    informer = Informer(
        "things", script, lambda: seen.append(len(informer.values())), stop=script.waits
    )
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            assert len(informer.values()) <= 97
            informer.get("p5")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    loop = threading.Thread(target=informer.run)
    loop.start()
    loop.join(30)
    ended.set()
    for reader in readers:
        reader.join(5)
    assert not any(thread.is_alive() for thread in (loop, *readers))
    assert {item["spec"]["n"] for item in informer.values()} == set(range(count - 97, count))
