"""Whether the admission policies are installed without which no agent is made.

RBAC cannot say that an agent changes its own node alone, nor what the operator's DaemonSet may
hold; the policies do (deploy/base). A form of installation that does not carry them, such as an OLM
bundle, leaves them to a person, so the operator asks before it makes agents. What is there stays.
"""

from collections.abc import Callable

from attrs import define

from kpm.kube.api import Api, ApiError, Resource
from kpm_planner.model.problems import Code, Problem, error

_GROUP = "admissionregistration.k8s.io"
POLICIES = Resource(_GROUP, "v1", "validatingadmissionpolicies")
_BINDINGS = Resource(_GROUP, "v1", "validatingadmissionpolicybindings")
NAMES = ("power-manager-node-agent", "power-manager-operator", "power-manager-telemetry")
#: Seconds between two looks, and while something is missing.
_EVERY, _AGAIN = 900.0, 15.0


@define(eq=False)
class Admission:
    """What is known of the policies."""

    api: Api
    monotonic: Callable[[], float]
    _missing: tuple[str, ...] = ()
    _next: float = float("-inf")

    def missing(self) -> tuple[str, ...]:
        """Names of policies that are not in force; asked seldom.

        What a server that does not answer would say, or one that does not let us ask, is what it
        said before (R7), at first that all is well.
        """
        now = self.monotonic()
        if now >= self._next:
            try:
                self._missing = tuple(name for name in NAMES if not self.denies(name))
                self._next = now + (_AGAIN if self._missing else _EVERY)
            except ApiError:
                self._next = now + _AGAIN
        return self._missing

    def denies(self, name: str) -> bool:
        """Whether a policy is there and bound so that it refuses. Errors: ApiError."""
        try:
            self.api.get(POLICIES, name)
            spec = self.api.get(_BINDINGS, name).get("spec") or {}
        except ApiError as failure:
            if failure.missing:
                return False
            raise
        return spec.get("policyName") == name and "Deny" in (spec.get("validationActions") or ())


def admission_problem(config: str, missing: tuple[str, ...]) -> Problem:
    """What a PowerConfig says while no agents are made for it."""
    message = (
        f"expected the admission policies {', '.join(NAMES)}, found no {', '.join(missing)} that"
        " refuses; agents are not made before"
    )
    return error(Code.ADMISSION_MISSING, f"PowerConfig/{config}", "", message)
