"""Sources for informers whose answers are written down, and a clock on which no time passes."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

from kpm.kube.api import ApiError, Object

Answer = Object | ApiError


def obj(name: str, version: int, namespace: str = "", **spec: Any) -> Object:
    """An object of the server."""
    return {
        "metadata": {
            "name": name,
            "resourceVersion": str(version),
            **({"namespace": namespace} if namespace else {}),
        },
        "spec": spec,
    }


def page(*items: Object, version: int, token: str = "") -> Object:
    """A page of a list."""
    return {
        "metadata": {"resourceVersion": str(version), **({"continue": token} if token else {})},
        "items": list(items),
    }


def event(kind: str, content: Object) -> Object:
    """An event of a watch."""
    return {"type": kind, "object": content}


def bookmark(version: int) -> Object:
    """What tells only a version."""
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


GONE = event(
    "ERROR",
    {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"},
)
BROKEN = ApiError(0, "WatchBroken", "connection reset")


class Waits(threading.Event):
    """An event that notes how long somebody wants to wait for it, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        """No time passes."""
        assert timeout is not None
        self.seconds.append(timeout)
        return self.is_set()


class Script:
    """A source whose answers are written down; it ends the informer when they are used up. asked:
    every question in order.
    """

    def __init__(self, lists: list[Answer], watches: list[list[Answer]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[tuple[str, str | None]] = []
        self.waits = Waits()
        self.done: Callable[[], None] = self.waits.set

    def list(self, token: str | None) -> Object:
        self.asked.append(("list", token))
        return self._said(self.lists.pop(0))

    def watch(self, version: str) -> Iterator[Object]:
        self.asked.append(("watch", version))
        for answer in self.watches.pop(0) if self.watches else []:
            yield self._said(answer)
        if not self.watches:
            self.done()

    def close(self) -> None:
        """Nobody else is in a watch."""

    def _said(self, answer: Answer) -> Object:
        if isinstance(answer, ApiError):
            raise answer
        return answer
