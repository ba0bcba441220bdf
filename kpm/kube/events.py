"""Kubernetes Events: what a person must know, said once."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import define, field, frozen

from kpm.kube.api import Api, ApiError, Resource
from kpm.logs import Log

_MOST = 20
_REFILL_SECONDS = 60.0
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
class Recorder:
    """Sends Events; the same one again only after an hour, and never more than a few a minute."""

    api: Api
    component: str
    host: str
    fallback_namespace: str
    log: Log
    monotonic: Callable[[], float]
    _sent: dict[tuple[About, str, str], float] = field(factory=dict)
    _room: float = _MOST
    _filled: float | None = None
    _forget: float = 3600.0

    def say(self, about: About, reason: str, message: str, *, warning: bool = True) -> None:
        """Send an Event unless it has been said. Never raises for what the server does."""
        now = self.monotonic()
        key = (about, reason, message)
        if now - self._sent.get(key, -self._forget) < self._forget or not self._take(now):
            return
        self._sent = {known: at for known, at in self._sent.items() if now - at < self._forget} | {key: now}
        namespace = about.namespace or self.fallback_namespace
        try:
            self.api.create(Resource("", "v1", "events", namespace), self._body(about, namespace, reason, message, warning=warning))
        except ApiError as failure:
            self.log.warning("event not sent", reason=reason, error=str(failure))

    def _take(self, now: float) -> bool:
        if self._filled is not None:
            self._room = min(_MOST, self._room + (now - self._filled) / _REFILL_SECONDS)
        self._filled = now
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _body(self, about: About, namespace: str, reason: str, message: str, *, warning: bool) -> dict[str, Any]:
        moment = datetime.now(UTC)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        mark = hashlib.sha256(f"{about}{reason}{message}{moment.timestamp()}".encode()).hexdigest()[:16]
        involved = {"apiVersion": about.api_version, "kind": about.kind, "name": about.name, "namespace": about.namespace, "uid": about.uid}
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
