"""Whether telemetry of pods is known to be theirs: the admission policy keeps each pod to its own
folder, where it is installed.

An agent cannot see whose process answers on a socket: it has no view of the host's processes. So it
asks the API server whether the policy's binding is there, seldom, from the thread that reports.
"""

from collections.abc import Callable

from attrs import define

from kpm.kube.api import Api, ApiError, Resource
from kpm_planner.report.types import Condition

_BINDINGS = Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings")
_NAME = "power-manager-telemetry"
#: Seconds between two questions, and after one that was not answered.
_EVERY, _AGAIN = 900.0, 60.0


@define(eq=False)
class TelemetryGuard:
    """What is known of the policy. installed: None before the API server has said it."""

    api: Api
    monotonic: Callable[[], float]
    installed: bool | None = None
    _next: float = float("-inf")

    def look(self) -> None:
        """Ask, where that was long ago. Never raises for what the server does."""
        now = self.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        try:
            self.api.get(_BINDINGS, _NAME)
        except ApiError as failure:
            if failure.missing:
                self.installed = False
            else:  # what was known stays (R7)
                self._next = now + _AGAIN
        else:
            self.installed = True

    def condition(self) -> Condition:
        """What a node that scales by telemetry says of it."""
        if self.installed is None:
            return Condition(
                "TelemetryAuthenticated",
                "Unknown",
                "NotAsked",
                f"whether the admission policy {_NAME} is installed is not known",
            )
        if self.installed:
            return Condition(
                "TelemetryAuthenticated",
                "True",
                "PolicyInstalled",
                "a pod reaches the sockets of its own folder alone",
            )
        message = (
            f"the admission policy {_NAME} is not installed: a pod that may mount host paths can"
            " answer for another"
        )
        return Condition("TelemetryAuthenticated", "False", "PolicyMissing", message)
