"""Who may read /metrics, as the API server says: TokenReview for who it is, SubjectAccessReview for
what is allowed.

A reader shows a token of the cluster and needs the right to get the path, as with every exporter
of the ecosystem. What the API server said holds for a minute, a refusal for less; strangers cost a
bounded number of questions, whatever they show. Tokens are kept as hashes alone.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from kpm.kube.api import Api, ApiError, Object, Resource

_TOKENS = Resource("authentication.k8s.io", "v1", "tokenreviews")
_ACCESS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews")
#: Seconds for which an answer holds: that somebody may read, that he may not.
_ALLOWED, _REFUSED = 60.0, 10.0
_MOST_KEPT, _LONGEST_TOKEN = 256, 16_384
#: Questions about tokens that are not known: so many at once, then so many a second.
_AT_ONCE, _A_SECOND = 10.0, 2.0
OK, WHO, MAY_NOT, TOO_MANY, CANNOT_ASK = 200, 401, 403, 429, 503


@frozen
class _Kept:
    """What was said of a token, and until when it holds."""

    status: int
    until: float


@define(eq=False)
class Readers:
    """What is known of readers of one path. Safe in any thread."""

    api: Api
    path: str = "/metrics"
    monotonic: Callable[[], float] = time.monotonic
    _known: dict[bytes, _Kept] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)
    _left: float = _AT_ONCE
    _filled: float = 0.0

    def status(self, header: str) -> int:
        """200 for whom the header of a request entitles; else the status to refuse with."""
        kind, _, token = header.partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN:
            return WHO
        key, now = hashlib.sha256(token.encode()).digest(), self.monotonic()
        with self._lock:
            kept = self._known.get(key)
            if kept is not None and now < kept.until:
                return kept.status
            if not self._may_ask(now):
                return TOO_MANY
        status = self._asked(token)
        if status != CANNOT_ASK:
            self._keep(key, _Kept(status, now + (_ALLOWED if status == OK else _REFUSED)))
        return status

    def _may_ask(self, now: float) -> bool:
        self._left = min(_AT_ONCE, self._left + (now - self._filled) * _A_SECOND)
        self._filled = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _keep(self, key: bytes, kept: _Kept) -> None:
        """Those who may read are not pushed out by those who may not."""
        with self._lock:
            self._known.pop(key, None)  # the newest is the last
            self._known[key] = kept
            while len(self._known) > _MOST_KEPT:
                refused = (item for item, held in self._known.items() if held.status != OK)
                del self._known[next(refused, next(iter(self._known)))]

    def _asked(self, token: str) -> int:
        try:
            said = _status(
                self.api.create(_TOKENS, _review("TokenReview", _TOKENS, {"token": token}))
            )
            user = said.get("user")
            if said.get("authenticated") is not True or not isinstance(user, dict):
                return WHO
            spec = {
                "user": user.get("username"),
                "uid": user.get("uid"),
                "groups": user.get("groups"),
                "extra": user.get("extra"),
                "nonResourceAttributes": {"path": self.path, "verb": "get"},
            }
            body = {name: value for name, value in spec.items() if value}
            said = _status(self.api.create(_ACCESS, _review("SubjectAccessReview", _ACCESS, body)))
        except ApiError:
            return CANNOT_ASK
        return OK if said.get("allowed") is True else MAY_NOT


def _review(kind: str, resource: Resource, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{resource.group}/{resource.version}", "kind": kind, "spec": spec}


def _status(answer: Object) -> dict[str, Any]:
    found = answer.get("status")
    return found if isinstance(found, dict) else {}
