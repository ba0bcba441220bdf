"""Kubernetes Events: what a person must know, said once."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import define, field, frozen

from kpm.kube.api import Api, ApiError, Resource
from kpm.process.logs import Log

#: Events of one namespace that are sent at once, seconds until one more may be, and namespaces that
#: are told apart.
_MOST, _REFILL_SECONDS, _MOST_NAMESPACES = 20, 60.0, 1000
_MESSAGE = 1000


@frozen
class About:
    """The object that an Event is about."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = None
    uid: str = ""


@define
class _Room:
    """Events that a namespace may still send, and when that was reckoned."""

    left: float
    at: float

    def refill(self, now: float) -> None:
        """What has come since."""
        self.left = min(_MOST, self.left + (now - self.at) / _REFILL_SECONDS)
        self.at = now


@define
class Recorder:
    """Sends Events; the same one again only after an hour, and never more than a few a minute about
    the objects of one namespace.

    Each namespace has a budget of its own, so that one tenant's mistakes keep nobody else from
    being told of theirs.
    """

    api: Api
    component: str
    host: str
    fallback_namespace: str
    log: Log
    monotonic: Callable[[], float]
    _sent: dict[tuple[About, str, str], float] = field(factory=dict)
    _rooms: dict[str, _Room] = field(factory=dict)
    _forget: float = 3600.0

    def say(self, about: About, reason: str, message: str, *, warning: bool = True) -> bool:
        """Send an Event unless it has been said; False where its namespace has no room for one now.

        Never raises for what the server does.
        """
        now = self.monotonic()
        key = (about, reason, message)
        if now - self._sent.get(key, -self._forget) < self._forget:
            return True
        namespace = about.namespace or self.fallback_namespace
        if not self._take(namespace, now):
            return False
        self._sent = {known: at for known, at in self._sent.items() if now - at < self._forget} | {
            key: now
        }
        try:
            self.api.create(
                Resource("", "v1", "events", namespace),
                self._body(about, namespace, reason, message, warning=warning),
            )
        except ApiError as failure:
            self.log.warning("event not sent", reason=reason, error=str(failure))
        return True

    def room_at(self, about: About) -> float:
        """When there is room for an Event about an object."""
        room = self._rooms.get(about.namespace or self.fallback_namespace)
        return (
            self.monotonic()
            if room is None
            else room.at + max(0.0, 1 - room.left) * _REFILL_SECONDS
        )

    def _take(self, namespace: str, now: float) -> bool:
        room = self._rooms.get(namespace)
        if room is None:
            for item in self._rooms.values():
                item.refill(now)
            self._rooms = {name: item for name, item in self._rooms.items() if item.left < _MOST}
            if len(self._rooms) >= _MOST_NAMESPACES:
                return False
            room = self._rooms[namespace] = _Room(_MOST, now)
        room.refill(now)
        if room.left < 1:
            return False
        room.left -= 1
        return True

    def _body(
        self, about: About, namespace: str, reason: str, message: str, *, warning: bool
    ) -> dict[str, Any]:
        moment = datetime.now(UTC)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        mark = hashlib.sha256(f"{about}{reason}{message}{moment.timestamp()}".encode()).hexdigest()[
            :16
        ]
        involved = {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "name": about.name,
            "namespace": about.namespace,
            "uid": about.uid,
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about.name[:200]}.{mark}", "namespace": namespace},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "reason": reason,
            "message": message[:_MESSAGE],
            "type": "Warning" if warning else "Normal",
            "source": {"component": self.component, "host": self.host},
            "reportingComponent": self.component,
            "reportingInstance": self.host,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
