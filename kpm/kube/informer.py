"""A local copy of one kind of object, kept by list and watch.

The loop knows no HTTP: a Source lists pages and yields events. It resumes after a lost connection,
lists anew when the server has forgotten where it was (410), asks for bookmarks, and waits longer
and longer, with jitter, while the server fails.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from attrs import define, field, frozen

from kpm.kube.api import SILENT, TOO_LARGE, Api, ApiError, Object, Resource
from kpm.kube.decode import is_object, page_of
from kpm.process.threads import Threads

Transform = Callable[[Object], Any]
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
#: Objects of a page: of the first, when nobody knows how large they are, and at most; later pages
#: are to have so many bytes.
_FIRST_PAGE, _LARGEST_PAGE, _PAGE_BYTES = 10, 500, 4 << 20
_GONE = 410
#: Seconds; a watch that ends sooner with nothing counts as a failure, so that it is not opened
#: without end.
_SHORTEST_WATCH = 1.0
#: The server ends a watch after this many seconds; nothing is lost, it is resumed.
_WATCH_SECONDS = 3600.0
#: A watch that brings nothing for so long may be dead: where etcd reports its progress, the server
#: sends a bookmark a minute.
_SILENCE, _MORE_PATIENCE = 90.0, 8.0
#: Seconds in which an informer gets a page, an event or the end of its watch, whatever the server
#: does.
LONGEST_TURN = 1.25 * _WATCH_SECONDS + _SILENCE


class ListWatch(Protocol):
    """Where objects come from."""

    def list(self, token: str | None) -> Object:
        """A page of all objects. Errors: ApiError."""
        ...

    def watch(self, version: str) -> Iterator[Object]:
        """Events since a resourceVersion. Errors: ApiError."""
        ...

    def close(self) -> None:
        """End a watch that another thread is in."""
        ...


@define
class ApiListWatch:
    """Objects of the API server. selectors: labelSelector, fieldSelector.

    Where etcd does not report its progress a kind on which nothing happens brings no bookmark
    either, and a watch cannot be told from a dead one. So each silence makes it eight times as
    patient, up to a watch's whole length; bookmarks win it back.
    """

    api: Api
    resource: Resource
    selectors: Mapping[str, str] = field(factory=dict)
    _limit: int = _FIRST_PAGE
    _silence: float = _SILENCE
    _end: Callable[[], None] | None = None
    _closed: bool = False

    def list(self, token: str | None) -> Object:
        """A page; the first one may come from the server's cache, which is what a watch starts from
        as well. Large objects come by few.
        """
        limit = self._limit = self._limit if token else min(self._limit, _FIRST_PAGE)

        def sized(size: int) -> None:
            self._limit = max(1, min(_PAGE_BYTES * limit // max(size, 1), _LARGEST_PAGE))

        try:
            return self.api.list(
                self.resource,
                {**self.selectors, "limit": str(limit), **({"continue": token} if token else {})},
                sized,
            )
        except ApiError as failure:
            if failure.reason == TOO_LARGE:
                self._limit = max(1, limit // 4)
            raise

    def watch(self, version: str) -> Iterator[Object]:
        """Events with bookmarks.

        Errors: ApiError, with reason SILENT where none came for too long.
        """
        # spreads load, protects nothing
        length = _WATCH_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311
        query = {
            **self.selectors,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(length)),
        }
        marked = False
        try:
            for event in self.api.watch(
                self.resource, query, min(self._silence, length + _SILENCE), self._started
            ):
                marked = marked or event.get("type") == "BOOKMARK"
                yield event
        except ApiError as failure:
            if failure.reason == SILENT:
                self._silence *= _MORE_PATIENCE
            raise
        if marked:
            self._silence = _SILENCE

    def _started(self, end: Callable[[], None]) -> None:
        self._end = end
        if self._closed:
            end()

    def close(self) -> None:
        """End the watch, also one that is just being opened."""
        self._closed = True
        if self._end is not None:
            self._end()


@frozen
class Entry:
    """An object as it is kept, with the version of the server's copy."""

    version: str
    value: Any


def key_of(obj: Object) -> tuple[str, str]:
    """Namespace and name."""
    meta = obj.get("metadata") or {}
    return str(meta.get("namespace") or ""), str(meta.get("name") or "")


def _version_of(obj: Object) -> str:
    return str((obj.get("metadata") or {}).get("resourceVersion") or "")


@define(eq=False)
class Informer:
    """The copy, and the loop that keeps it. changed: called after every change, from the loop's
    thread.

    transform: what is kept of an object, or None to leave it out; called once for every version.
    """

    name: str
    source: ListWatch
    changed: Callable[[], None]
    transform: Transform = lambda obj: obj
    trouble: Callable[[str, ApiError], None] = lambda _name, _failure: None
    synced: bool = False
    _entries: dict[tuple[str, str], Entry] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)
    _stop: threading.Event = field(factory=threading.Event)
    _version: str | None = None
    _failures: int = 0
    _turn: Callable[[], None] = lambda: None

    def values(self) -> tuple[Any, ...]:
        """What is kept, in order of namespace and name."""
        with self._lock:
            return tuple(self._entries[key].value for key in sorted(self._entries))

    def get(self, name: str, namespace: str = "") -> Any:
        """What is kept of one object; None where there is none."""
        with self._lock:
            entry = self._entries.get((namespace, name))
        return None if entry is None else entry.value

    def start(self, threads: Threads) -> threading.Thread:
        """Run in a thread of its own."""
        name = f"informer-{self.name}"
        self._turn = lambda: threads.turn(name)
        return threads.start(name, self.run, self._stop.is_set, LONGEST_TURN)

    def stop(self) -> None:
        """End the loop soon."""
        self._stop.set()
        self.source.close()

    def run(self) -> None:
        """Follow the server until stopped; never raises for what the server does, nor for what
        nobody thought of.
        """
        while not self._stop.is_set():
            try:
                self.follow_once()
            except ApiError as failure:
                if not self._stop.is_set():
                    self._recover(failure)
            except Exception as failure:  # noqa: BLE001  # whatever it was, the copy is made anew
                self._version = None
                if not self._stop.is_set():
                    self._recover(ApiError(0, type(failure).__name__, str(failure)))

    def follow_once(self) -> None:
        """List if need be, then watch until the watch ends.

        Errors: ApiError, also for a watch that ends at once with nothing.
        """
        self._turn()
        if self._version is None:
            self._list()
        if self._stop.is_set():
            return
        started, events = time.monotonic(), 0
        for event in self.source.watch(str(self._version)):
            self._turn()
            self._take(event)
            self._failures, events = 0, events + 1
            if self._stop.is_set():
                return
        if not events and time.monotonic() - started < _SHORTEST_WATCH:
            raise ApiError(0, "WatchEnded", "a watch ended at once")

    def _recover(self, failure: ApiError) -> None:
        """Forget the place where the server has forgotten it, and wait where it fails."""
        if failure.status == _GONE:
            self._version = None
            if not self._failures:
                self._failures += 1  # the first time at once: compaction is no fault
                return
        if failure.reason == SILENT:
            return  # resumed at once: it says nothing about the server
        self.trouble(self.name, failure)
        self._failures += 1
        longest = min(_FIRST_WAIT * 2 ** min(self._failures, 10), _LONGEST_WAIT)
        # spreads load
        self._stop.wait(max(failure.retry_after or 0.0, random.uniform(longest / 2, longest)))  # noqa: S311

    def _list(self) -> None:
        found: dict[tuple[str, str], Entry | None] = {}
        token: str | None = None
        while True:
            try:
                page = page_of(self.source.list(token))
            except ValueError as failure:
                raise ApiError(0, "BadAnswer", f"the list {failure}") from None
            # the objects themselves go with their page
            found.update((key_of(item), self._kept(item)) for item in page.items)
            token = page.token
            self._turn()
            if token is None:
                break
        self._replace({key: entry for key, entry in found.items() if entry is not None})
        self._version = page.version

    def _kept(self, obj: Object) -> Entry | None:
        """What is kept of a listed object: as it is, where this version of it is known."""
        with self._lock:
            old = self._entries.get(key_of(obj))
        return old if old is not None and old.version == _version_of(obj) else self._entry(obj)

    def _replace(self, entries: dict[tuple[str, str], Entry]) -> None:
        with self._lock:
            before = self._entries
            same = self.synced and entries == before
            self._entries, self.synced = entries, True
        if not same:
            self.changed()

    def _entry(self, obj: Object) -> Entry | None:
        try:
            value = self.transform(obj)
        # an object that nobody can make sense of costs itself
        except Exception as failure:  # noqa: BLE001
            self.trouble(
                self.name,
                ApiError(0, "BadObject", f"{'/'.join(filter(None, key_of(obj)))}: {failure}"),
            )
            return None
        return None if value is None else Entry(_version_of(obj), value)

    def _take(self, event: Object) -> None:
        kind, obj = event.get("type"), event.get("object")
        if kind == "ERROR" and isinstance(obj, dict):
            code = obj.get("code")
            raise ApiError(
                code if isinstance(code, int) else 0,
                str(obj.get("reason") or "WatchError"),
                str(obj.get("message") or ""),
            )
        if not isinstance(kind, str) or not is_object(obj):
            raise ApiError(0, "BadEvent", f"an event of type {kind} without an object")
        self._version = _version_of(obj) or self._version
        if kind != "BOOKMARK":
            self._put(obj, gone=kind == "DELETED")

    def _put(self, obj: Object, *, gone: bool) -> None:
        key = key_of(obj)
        entry = None if gone else self._entry(obj)
        with self._lock:
            before = self._entries.get(key)
            if entry is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = entry
        if (None if before is None else before.value) != (None if entry is None else entry.value):
            self.changed()
