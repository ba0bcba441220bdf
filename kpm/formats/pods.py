"""Nodes, pods and the kubelet's PodResources answers between their mappings and the planner's
values.

These kinds are not ours: unknown fields are ignored, known ones must have their type.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from kpm.formats.wire import WireError, parse_time, structure_meta
from kpm.process.errors import show
from kpm_planner.crio import wishes_of
from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.cluster import Container, Node, Pod
from kpm_planner.model.cpuset import LARGEST_CPU
from kpm_planner.model.quantities import Quantity, parse_quantity

_LONGEST_WISH = 64
_UID = re.compile(r"[0-9a-f-]{32,36}")
_Resources = tuple[Quantity | None, Quantity | None]


def _mapping(value: Any, path: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise WireError(f"{path}: expected a mapping, got {show(value)}")
    return value


def _list(value: Any, path: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise WireError(f"{path}: expected a list, got {show(value)}")
    return value


def _text(value: Any, path: str) -> str:
    if value is not None and not isinstance(value, str):
        raise WireError(f"{path}: expected text, got {show(value)}")
    return value or ""


def structure_node(document: Mapping[str, Any]) -> Node:
    """A Node. Errors: WireError."""
    meta = structure_meta(document)
    return Node(meta.name, meta.labels)


def structure_pod(document: Mapping[str, Any]) -> Pod:
    """A Pod with the containers that can own CPUs. Errors: WireError."""
    meta = structure_meta(document)
    spec, status = (
        _mapping(document.get("spec"), "spec"),
        _mapping(document.get("status"), "status"),
    )
    policy = _text(spec.get("restartPolicy"), "spec.restartPolicy") or "Always"
    states = _statuses(status)
    app = [
        _container(item, f"spec.containers[{index}]", policy, states)
        for index, item in enumerate(_list(spec.get("containers"), "spec.containers"))
    ]
    first = [
        (f"spec.initContainers[{index}]", item)
        for index, item in enumerate(_list(spec.get("initContainers"), "spec.initContainers"))
    ]
    init = [
        (
            _container(item, path, "", states),
            _text(_mapping(item, path).get("restartPolicy"), f"{path}.restartPolicy") == "Always",
        )
        for path, item in first
    ]
    later = _list(spec.get("ephemeralContainers"), "spec.ephemeralContainers")
    plain = [container.name for container, restartable in init if not restartable]
    plain += [
        _text(
            _mapping(item, "spec.ephemeralContainers").get("name"), "spec.ephemeralContainers.name"
        )
        for item in later
    ]
    quality = _text(status.get("qosClass"), "status.qosClass")
    started = _text(status.get("startTime"), "status.startTime")
    return Pod(
        meta=meta,
        containers=(*app, *(container for container, restartable in init if restartable)),
        node=_text(spec.get("nodeName"), "spec.nodeName") or None,
        phase=_text(status.get("phase"), "status.phase"),
        started=parse_time(started, "status.startTime") if started else None,
        wishes=_wishes(document),
        static_uid=_static_uid(document),
        others=tuple(
            (name, states[name].id) for name in plain if name in states and states[name].id
        ),
        guaranteed=(
            quality == "Guaranteed"
            if quality
            else _guaranteed([*app, *(container for container, _ in init)], spec)
        ),
    )


@frozen
class _State:
    """What the status says of one container."""

    id: str = ""
    terminated: bool = False
    exit_code: int | None = None
    allocated: Mapping[str, Quantity] = field(factory=dict)


def _statuses(status: Mapping[str, Any]) -> dict[str, _State]:
    found = {}
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for index, item in enumerate(_list(status.get(kind), f"status.{kind}")):
            path = f"status.{kind}[{index}]"
            entry = _mapping(item, path)
            end = _mapping(
                _mapping(entry.get("state"), f"{path}.state").get("terminated"),
                f"{path}.state.terminated",
            )
            code = end.get("exitCode")
            if code is not None and type(code) is not int:
                raise WireError(
                    f"{path}.state.terminated.exitCode: expected a whole number, got {show(code)}"
                )
            actual = _mapping(entry.get("resources"), f"{path}.resources")
            allocated = {
                **_quantities(actual.get("requests"), f"{path}.resources.requests"),
                **_quantities(entry.get("allocatedResources"), f"{path}.allocatedResources"),
            }
            name, identity = (
                _text(entry.get(key), f"{path}.{key}") for key in ("name", "containerID")
            )
            found[name] = _State(identity, bool(end), code, allocated)
    return found


def _container(item: Any, path: str, policy: str, states: Mapping[str, _State]) -> Container:
    entry = _mapping(item, path)
    name = _text(entry.get("name"), f"{path}.name")
    if not name:
        raise WireError(f"{path}.name: is missing; a container needs a name")
    resources = _mapping(entry.get("resources"), f"{path}.resources")
    limits = _quantities(resources.get("limits"), f"{path}.resources.limits")
    requests = {**limits, **_quantities(resources.get("requests"), f"{path}.resources.requests")}
    state = states.get(name, _State())
    limits, requests = _allocated(limits, requests, state.allocated)
    return Container(
        name=name,
        cpu=(requests.get("cpu"), limits.get("cpu")),
        memory=(requests.get("memory"), limits.get("memory")),
        resources=tuple(sorted((key, amount) for key, amount in requests.items() if "/" in key)),
        claims=bool(_list(resources.get("claims"), f"{path}.resources.claims")),
        finished=state.terminated and not _restarts(entry, path, policy, state.exit_code),
        id=state.id,
    )


def _allocated(
    limits: dict[str, Quantity], requests: dict[str, Quantity], allocated: Mapping[str, Quantity]
) -> tuple[dict[str, Quantity], dict[str, Quantity]]:
    """Limits and requests as the kubelet has admitted them: what spec asks for may be a resize that
    it defers or finds infeasible.
    """
    for name in ("cpu", "memory"):
        given = allocated.get(name)
        if given is not None and name in requests and given != requests[name]:
            limits = {**limits, name: given} if limits.get(name) == requests[name] else limits
            requests = {**requests, name: given}
    return limits, requests


def _restarts(entry: Mapping[str, Any], path: str, policy: str, code: int | None) -> bool:
    """Whether a container that has ended is started again: by the first of its rules that matches,
    its own policy, the pod's (KEP-5307).

    policy: the pod's; empty for init containers, of which those that can own CPUs always are.
    """
    for index, item in enumerate(
        _list(entry.get("restartPolicyRules"), f"{path}.restartPolicyRules")
    ):
        rule = _mapping(item, f"{path}.restartPolicyRules[{index}]")
        codes = _mapping(rule.get("exitCodes"), f"{path}.restartPolicyRules[{index}].exitCodes")
        values = _list(codes.get("values"), f"{path}.restartPolicyRules[{index}].exitCodes.values")
        if codes and (code in values) == (codes.get("operator") == "In"):
            return str(rule.get("action")).startswith("Restart")
    own = _text(entry.get("restartPolicy"), f"{path}.restartPolicy") or policy or "Always"
    return own == "Always" or (own == "OnFailure" and code != 0)


def _quantities(value: Any, path: str) -> dict[str, Quantity]:
    found = {}
    for name, amount in _mapping(value, path).items():
        try:
            if type(amount) is float:
                amount = str(amount)
            if type(amount) not in (int, str) or type(name) is not str:
                raise ValueError
            found[name] = parse_quantity(amount)
        except ValueError:
            raise WireError(
                f"{path}.{name}: expected a quantity such as 2, 1500m or 1Gi, got {show(amount)}"
            ) from None
    return found


def _static_uid(document: Mapping[str, Any]) -> str:
    """Of a static pod, the hash that its mirror names (Kubernetes, kubelet types:
    ConfigMirrorAnnotationKey, ConfigHashAnnotationKey).
    """
    found = _mapping(
        _mapping(document.get("metadata"), "metadata").get("annotations"), "metadata.annotations"
    )
    text = found.get("kubernetes.io/config.mirror") or found.get("kubernetes.io/config.hash")
    return text if isinstance(text, str) and _UID.fullmatch(text) else ""


def _wishes(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """CRI-O's annotations; their values are anybody's, and cut."""
    found = _mapping(
        _mapping(document.get("metadata"), "metadata").get("annotations"), "metadata.annotations"
    )
    return wishes_of({str(name): str(value)[:_LONGEST_WISH] for name, value in found.items()})


def _guaranteed(containers: Iterable[Container], spec: Mapping[str, Any]) -> bool:
    """The QoS class as the API server computes it (Kubernetes, pod quality of service)."""
    whole = _mapping(spec.get("resources"), "spec.resources")
    if whole:
        limits = _quantities(whole.get("limits"), "spec.resources.limits")
        requests = {**limits, **_quantities(whole.get("requests"), "spec.resources.requests")}
        return all(
            limits.get(key) and limits.get(key) == requests.get(key) for key in ("cpu", "memory")
        )
    pairs: list[_Resources] = [
        pair for container in containers for pair in (container.cpu, container.memory)
    ]
    return bool(pairs) and all(limit and request == limit for request, limit in pairs)


def structure_pod_resources(answer: Any) -> tuple[tuple[ContainerCpus, ...], frozenset[int] | None]:
    """The kubelet's List answer, and its allocatable CPUs where "cpuIds" of GetAllocatableResources
    stand beside it.

    Errors: WireError. Ids may be numbers or texts, names in camelCase or with underscores, as
    different encoders write.
    """
    content = _mapping(answer, "document")
    pods = content.get("podResources", content.get("pod_resources"))
    if pods is None:
        raise WireError(
            "podResources: is missing; the kubelet's PodResources List answer is needed"
        )
    found = []
    for index, item in enumerate(_list(pods, "podResources")):
        path = f"podResources[{index}]"
        entry = _mapping(item, path)
        for number, inner in enumerate(_list(entry.get("containers"), f"{path}.containers")):
            place = f"{path}.containers[{number}]"
            container = _mapping(inner, place)
            cpus = _cpu_ids(container.get("cpuIds", container.get("cpu_ids")), f"{place}.cpuIds")
            names = [
                _text(value, place)
                for value in (entry.get("namespace"), entry.get("name"), container.get("name"))
            ]
            devices = _cdi_devices(container, place)
            found.append(
                ContainerCpus(names[0] or "default", names[1], names[2], cpus, devices=devices)
            )
    allocatable = content.get("cpuIds", content.get("cpu_ids"))
    return tuple(found), None if allocatable is None else _cpu_ids(allocatable, "cpuIds")


def _cdi_devices(container: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """The CDI devices of a container's claims: dynamicResources,
    claimResources, cdiDevices, name.
    """
    level = [container]
    for name in ("dynamicResources", "claimResources", "cdiDevices"):
        other = re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)
        inner = (item.get(name, item.get(other)) for item in level)
        level = [
            _mapping(item, f"{path}.{name}")
            for items in inner
            for item in _list(items, f"{path}.{name}")
        ]
    return tuple(_text(item.get("name"), f"{path}.cdiDevices.name") for item in level)


def _cpu_ids(value: Any, path: str) -> frozenset[int]:
    cpus = set()
    for index, item in enumerate(_list(value, path)):
        text = str(item) if type(item) in (int, str) else ""
        if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > LARGEST_CPU:
            raise WireError(
                f"{path}[{index}]: expected a CPU id from 0 to {LARGEST_CPU}, got {show(item)}"
            )
        cpus.add(int(text))
    return frozenset(cpus)
