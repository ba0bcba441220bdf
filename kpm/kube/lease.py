"""Leadership by a Lease of coordination.k8s.io.

Judged by the monotonic clock and by whether the record changes, never by comparing wall clocks of
machines. Leadership that cannot be renewed in time is given up before anybody else can have it.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from attrs import define, field

from kpm.kube.api import Api, ApiError, Object, Resource

_DURATION = 15.0
_RENEW_WITHIN = 10.0
#: Seconds that one time round takes at most, requests that hang included.
LONGEST_TURN = 600.0
_PERIOD = 2.0
_CONFLICT = 409


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@define(eq=False)
class Lease:
    """One candidate. monotonic: seconds.

    `leading` is judged by the clock, so that a renewal that hangs ends it in time.
    """

    api: Api
    resource: Resource
    name: str
    identity: str
    monotonic: Callable[[], float]
    _held: bool = False
    _mine: Object | None = None
    _seen: tuple[str, float] = ("", 0.0)
    _renewed: float = 0.0
    _stop: threading.Event = field(factory=threading.Event)

    @property
    def leading(self) -> bool:
        """Whether this one may act now: it holds the lease, and asked for it less than ten seconds
        ago.
        """
        return self._held and self.monotonic() - self._renewed <= _RENEW_WITHIN

    def run(
        self,
        gained: Callable[[], None],
        lost: Callable[[], None],
        turn: Callable[[], None] = lambda: None,
    ) -> None:
        """Try for leadership and keep it until stopped; `gained` and `lost` are told from this
        thread. turn: called each time round.
        """
        told = self.leading
        while not self._stop.is_set():
            turn()
            self.step()
            if self.leading is not told:
                told = not told
                (gained if told else lost)()
            self._stop.wait(_PERIOD)
        if self._held:
            self._release()
            self._held = False
        if told:
            lost()

    def stop(self) -> None:
        """End `run` soon; leadership is given back."""
        self._stop.set()

    def stopped(self) -> bool:
        """Whether it was told to end."""
        return self._stop.is_set()

    def step(self) -> None:
        """Acquire or renew once.

        Never raises for what the server does, nor for a record that makes no sense.
        """
        asked = self.monotonic()
        try:
            held = self._try()
        except (ApiError, ValueError, TypeError, AttributeError):
            held = False
        if held:
            self._renewed, self._held = asked, True
        elif not self.leading:
            self._held = False

    def _try(self) -> bool:
        if self._held and self._mine is not None and self._put(self._mine):
            return True
        try:
            lease = self.api.get(self.resource, self.name)
        except ApiError as failure:
            if not failure.missing:
                raise
            self._mine = self.api.create(self.resource, self._body(None))
            return True
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self.identity) and not self._expired(lease):
            self._held = False
            return False
        return self._put(lease)

    def _put(self, lease: Object) -> bool:
        """Write the lease anew over this version of it; False where somebody has written since."""
        try:
            self._mine = self.api.replace(self.resource, self.name, self._body(lease))
        except ApiError as failure:
            self._mine = None
            if failure.status != _CONFLICT:
                raise
            return False
        return True

    def _expired(self, lease: Object) -> bool:
        """Whether the holder has not renewed for its time, as seen from here."""
        version = str((lease.get("metadata") or {}).get("resourceVersion") or "")
        now = self.monotonic()
        if version != self._seen[0]:
            self._seen = (version, now)
            return False
        return now - self._seen[1] > float(
            (lease.get("spec") or {}).get("leaseDurationSeconds") or _DURATION
        )

    def _body(self, lease: Object | None) -> Object:
        spec: dict[str, Any] = dict((lease or {}).get("spec") or {})
        if spec.get("holderIdentity") != self.identity:
            transitions = int(spec.get("leaseTransitions") or 0)
            spec |= {"acquireTime": _now(), "leaseTransitions": transitions + (1 if lease else 0)}
        spec |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(_DURATION),
            "renewTime": _now(),
        }
        meta = dict(
            (lease or {}).get("metadata")
            or {"name": self.name, "namespace": self.resource.namespace}
        )
        meta.pop("managedFields", None)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": spec,
        }

    def _release(self) -> None:
        try:
            lease = self.api.get(self.resource, self.name)
            if (lease.get("spec") or {}).get("holderIdentity") == self.identity:
                body = dict(self._body(lease))
                body["spec"] = {**body["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                self.api.replace(self.resource, self.name, body)
        except ApiError:
            return
