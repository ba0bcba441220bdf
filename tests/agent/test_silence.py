"""How long a watch may be silent: 90 seconds where bookmarks come, longer and longer where none
ever do.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from kpm.kube.api import SILENT, ApiError, Object
from kpm.kube.informer import ApiListWatch, Informer
from kpm.kube.kinds import NODES
from tests.agent.scripted_source import Script, bookmark, event, obj, page

_SILENT = ApiError(0, SILENT, "nothing for a while")


class Watches:
    """An API whose watches are written down. allowed: the silence that each was given."""

    def __init__(self, *watches: list[Any]) -> None:
        self._watches = list(watches)
        self.allowed: list[Any] = []

    def watch(
        self, resource: Any, query: Mapping[str, str], silence: float, started: Callable[..., None]
    ) -> Iterator[Object]:
        self.allowed.append(silence)
        for item in self._watches.pop(0):
            if isinstance(item, ApiError):
                raise item
            yield item


def allowed(*watches: list[Any]) -> list[float]:
    """The silence that each of these watches was allowed, and one after them."""
    api = Watches(*watches, [])
    source = ApiListWatch(api, NODES)  # type: ignore[arg-type]
    for watch in (*watches, []):
        if _SILENT in watch:
            with pytest.raises(ApiError):
                list(source.watch("1"))
        else:
            list(source.watch("1"))
    return api.allowed


def test_each_silence_makes_it_more_patient() -> None:
    """On a kind on which nothing happens, of a server without bookmarks; soon the server ends the
    watch itself.
    """
    found = allowed(*[[_SILENT]] * 4)
    assert found[:2] == [90, 720]
    assert all(3300 < seconds < 4100 for seconds in found[2:]), (
        "the watch's own length, so that the server ends it first"
    )


def test_a_bookmark_wins_it_back() -> None:
    """A whole watch with bookmarks: this server tells that it lives."""
    assert allowed([_SILENT], [event("ADDED", obj("a", 2))], [bookmark(3)]) == [90, 720, 720, 90]


def test_a_silent_watch_is_resumed_at_once_and_without_a_word() -> None:
    """It says nothing about the server, and happens in the middle of the night."""
    script = Script([page(version=5)], [[_SILENT], [bookmark(7)], []])
    said: list[Any] = []
    informer = Informer(
        "things", script, lambda: None, trouble=lambda *words: said.append(words), stop=script.waits
    )
    informer.run()
    assert script.asked[:3] == [("list", None), ("watch", "5"), ("watch", "5")]
    assert said == []
