"""What is wrong with a cluster, by its API server: versions, kinds, operator, policies, rights,
nodes that are silent or refused, and other systems that set what this one sets.

Each check asks what it needs; one that may not be asked is a finding itself, and costs no other.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from kpm.agent.cluster import PodView, pod_view
from kpm.cluster.listing import every
from kpm.cluster.status import ClusterStatus, status_of
from kpm.doctor.findings import Code, Finding, error, warning
from kpm.kube.api import Api, ApiError, Resource
from kpm.kube.kinds import AGENT_NAME, NAMESPACES, PODS, power
from kpm.operator.admission import NAMES, Admission
from kpm.process.errors import one_line
from kpm.process.words import some_of

_OLDEST = (1, 30)
_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
_LEVEL = "pod-security.kubernetes.io/enforce"
_MOST = 6
#: What verbs of this program need → the verbs.
_NEEDED = (
    ("list", "", "pods", "", "status NODE, plan, explain"),
    ("list", "", "nodes", "", "plan, explain"),
    ("get", "", "pods", "proxy", "top NODE"),
)
#: Conditions of a node's agent that are no fault where they are False.
_REASONS = {
    "Forbidden": (
        "an agent may not write what it is to write",
        "kubectl apply -k deploy/overlays/privileged, or see docs/user/security.md",
    ),
    "Refused": ("an agent does not get its machine", "kubectl logs -n {namespace} {pod} -c agent"),
    "NotSettled": (
        "values do not become what was written",
        "kubectl power status {node}; somebody else may write them",
    ),
    "NotAnswered": (
        "the kubelet's PodResources socket does not answer",
        "systemctl status kubelet, on the node",
    ),
}


@frozen
class Clinic:
    """What the checks ask, and about what."""

    api: Api
    group: str
    namespace: str


def findings_of(clinic: Clinic) -> tuple[Finding, ...]:
    """All findings; a check that may not ask says so."""
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(clinic)
        except ApiError as failure:
            found.append(
                error(
                    Code.NO_RIGHT,
                    getattr(check, "__name__", "").strip("_").replace("_", " "),
                    f"could not be looked at: {failure}",
                    "kubectl auth can-i --list, and ask for what is missing",
                )
            )
    return tuple(found)


def _version(clinic: Clinic) -> Iterator[Finding]:
    said = clinic.api.server_version()
    numbers = [re.sub(r"\D.*", "", str(said.get(name) or "")) for name in ("major", "minor")]
    if all(numbers) and (int(numbers[0][:4]), int(numbers[1][:4])) < _OLDEST:
        yield error(
            Code.OLD_KUBERNETES,
            "API server",
            f"is {one_line(said.get('gitVersion'), 40)}",
            "update the control plane to 1.30 or later",
        )


def _kinds_and_operator(clinic: Clinic) -> Iterator[Finding]:
    try:
        status = status_of(clinic.api, clinic.group, clinic.namespace, datetime.now(UTC))
    except ApiError as failure:
        if not failure.missing:
            raise
        mend = "kpm crds | kubectl apply --server-side -f -"
        yield error(Code.NO_KINDS, clinic.group, "its kinds are not installed", mend)
        return
    yield from _standing(status, clinic.namespace)
    silent = [name for group in status.groups for name in group.nodes if group.ready == "Unknown"]
    if silent:
        yield error(
            Code.NODE_SILENT,
            some_of(sorted(silent), _MOST),
            "no agent has reported",
            f"kubectl get pods -n {clinic.namespace} -o wide -l app.kubernetes.io/name="
            f"{AGENT_NAME}",
        )


def _standing(status: ClusterStatus, namespace: str) -> Iterator[Finding]:
    """Operator and PowerConfig."""
    place = f"namespace {namespace}"
    if status.operator is None:
        mend = f"kubectl get pods -n {namespace}; kubectl apply -k deploy/overlays/default"
        yield error(Code.NO_OPERATOR, place, "no operator renews its lease", mend)
    if status.config is None:
        yield error(
            Code.NO_POWERCONFIG,
            place,
            "there is no PowerConfig, so no node is managed",
            "kubectl apply -f examples/example-powerconfig.yaml",
        )
    for text in status.errors[:_MOST]:
        mend = f"kubectl describe powerconfig -n {namespace}"
        yield error(Code.NO_POWERCONFIG, f"PowerConfig/{status.config}", text, mend)


def _policies(clinic: Clinic) -> Iterator[Finding]:
    guard = Admission(clinic.api, time.monotonic)
    missing = [name for name in NAMES if not guard.denies(name)]
    if missing:
        yield error(
            Code.NO_ADMISSION_POLICIES,
            ", ".join(missing),
            "are not installed, or do not refuse",
            "kubectl apply -f admission-policies.yaml of the release, or make deploy, or the chart",
        )


def _pod_security(clinic: Clinic) -> Iterator[Finding]:
    try:
        meta = clinic.api.get(NAMESPACES, clinic.namespace).get("metadata") or {}
    except ApiError as failure:
        if failure.missing:
            return
        raise
    level = (meta.get("labels") or {}).get(_LEVEL, "privileged")
    if level != "privileged":
        yield error(
            Code.POD_SECURITY,
            f"namespace {clinic.namespace}",
            f"enforces {one_line(level, 40)}, and the agents' pods use folders of their node",
            f"kubectl label namespace {clinic.namespace} {_LEVEL}=privileged --overwrite",
        )


def _rights(clinic: Clinic) -> Iterator[Finding]:
    for verb, group, resource, sub, needs in _NEEDED:
        wanted = {"verb": verb, "group": group, "resource": resource, "subresource": sub}
        wanted |= {"namespace": clinic.namespace} if sub else {}
        body = {"spec": {"resourceAttributes": wanted}}
        if not (clinic.api.create(_REVIEWS, body).get("status") or {}).get("allowed"):
            what = f"{verb} {resource}{'/' if sub else ''}{sub}"
            yield warning(
                Code.NO_RIGHT,
                what,
                f"you may not; kubectl power {needs} needs it",
                f"kubectl create clusterrole kpm-reader --verb={verb} --resource="
                f"{resource}{'/' if sub else ''}{sub}, and bind it",
            )


def _nodes(clinic: Clinic) -> Iterator[Finding]:
    """What agents report: one finding for each reason, with the nodes that have it."""
    found: dict[tuple[str, str], list[str]] = {}
    try:
        for item in every(clinic.api, power(clinic.group, "powernodestates", clinic.namespace)):
            name = str((item.get("spec") or {}).get("nodeName"))
            for condition in _conditions(item):
                reason = str(condition.get("reason"))
                if condition.get("status") == "False" and reason in _REASONS:
                    found.setdefault((reason, str(condition.get("message") or "")), []).append(name)
    except ApiError as failure:
        if not failure.missing:
            raise
    for (reason, message), names in sorted(found.items()):
        meaning, mend = _REASONS[reason]
        text = f"{meaning}: {one_line(message)}" if message else meaning
        place = {"namespace": clinic.namespace, "node": names[0], "pod": "POD"}
        yield error(Code.NODE_REFUSED, some_of(sorted(names), _MOST), text, mend.format(**place))


def _conditions(item: Any) -> list[dict[str, Any]]:
    found = (item.get("status") or {}).get("conditions") or ()
    return [entry for entry in found if isinstance(entry, dict)]


def _others(clinic: Clinic) -> Iterator[Finding]:
    """Other systems, by their pods: each once, with the nodes that they are on."""
    found: dict[str, set[str]] = {}
    for item in every(clinic.api, PODS):
        seen = pod_view(item, clinic.namespace)
        if isinstance(seen, PodView) and seen.rival:
            kind = re.sub(r" \(.*", "", seen.rival)
            found.setdefault(kind, set()).add(str(seen.pod.node or "no node"))
    for kind, nodes in sorted(found.items()):
        yield warning(
            Code.OTHER_SYSTEM,
            some_of(sorted(nodes), _MOST),
            f"{one_line(kind)} sets CPUs too",
            "kpm migrate --check says what of it meets ours, and how it goes",
        )


CHECKS: tuple[Callable[[Clinic], Iterable[Finding]], ...] = (
    _version, _kinds_and_operator, _policies, _pod_security, _rights, _nodes, _others,
)  # fmt: skip
