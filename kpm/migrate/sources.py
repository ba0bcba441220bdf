"""Where the objects of other systems come from: files, or a cluster that is only read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from kpm.cluster.listing import every
from kpm.formats.documents import read_documents, read_file
from kpm.kube.api import Api, ApiError, Resource
from kpm.migrate import balloons, operators, performance, tuned
from kpm.process.errors import InputError, one_line

#: Kinds that are looked for in a cluster. Of the last ones only those count that say something of
#: power: the tool's DaemonSet, pods with annotations.
_KINDS = (
    *(Resource(group, "v1", plural) for group in operators.GROUPS for plural in operators.PLURALS),
    Resource(tuned.GROUP, "v1", tuned.PLURAL),
    Resource(performance.GROUP, "v2", performance.PLURAL),
    Resource(balloons.GROUP, "v1alpha1", balloons.PLURAL),
    Resource("apps", "v1", "daemonsets"),
    Resource("apps", "v1", "deployments"),
    Resource("", "v1", "pods"),
)
_CONF = ".conf"


@frozen
class Sources:
    """What was found: objects, and profiles of TuneD by name."""

    objects: tuple[dict[str, Any], ...]
    profiles: tuple[tuple[str, str], ...] = ()


def from_files(paths: Sequence[str]) -> Sources:
    """Objects of any kind, and tuned.conf files, whose profile is named as their folder.

    Errors: InputError.
    """
    confs = [path for path in paths if path.endswith(_CONF)]
    rest = [path for path in paths if not path.endswith(_CONF)]
    documents = read_documents(rest) if rest else []
    profiles = tuple(
        (Path(path).absolute().parent.name, read_file(path).decode("utf-8", "replace"))
        for path in confs
    )
    return Sources(tuple(dict(item.content) for item in documents), profiles)


def from_cluster(api: Api) -> Sources:
    """Everything of the kinds that other systems have; nothing is written.

    Errors: InputError where a kind that is there cannot be listed.
    """
    return Sources(tuple(item for kind in _KINDS for item in _listed(api, kind)))


def _listed(api: Api, kind: Resource) -> Iterator[dict[str, Any]]:
    version = f"{kind.group}/{kind.version}" if kind.group else kind.version
    try:
        for item in every(api, kind):
            yield {"apiVersion": version, **_typed(item, kind)}
    except ApiError as failure:
        if not failure.missing:
            raise InputError(f"{kind.plural}.{kind.group}: {one_line(failure)}") from None


_NAMES = {
    "powerconfigs": "PowerConfig",
    "powerprofiles": "PowerProfile",
    "powerworkloads": "PowerWorkload",
    "powernodeconfigs": "PowerNodeConfig",
    "uncores": "Uncore",
    "cstates": "CStates",
    "timeofdays": "TimeOfDay",
    "cpuscalingprofiles": "CPUScalingProfile",
    "powernodes": "PowerNode",
    "powernodestates": "PowerNodeState",
    "tuneds": "Tuned",
    "performanceprofiles": "PerformanceProfile",
    "balloonspolicies": "BalloonsPolicy",
    "daemonsets": "DaemonSet",
    "deployments": "Deployment",
    "pods": "Pod",
}


def _typed(item: Any, kind: Resource) -> dict[str, Any]:
    """An item of a list, which says its kind only sometimes."""
    return {"kind": _NAMES[kind.plural], **item}
