"""What somebody else changed of the agents' DaemonSet (pure): any value of ours that is another
one, and anything added.

The API server fills in defaults, which are known by name; everything else that we did not write is
foreign, above all in a security context. Server-side apply would take back values of ours, but
leave a container, a mount or a capability that somebody added: so a foreign edit is answered with
the whole specification.
"""

from collections.abc import Iterator, Mapping
from typing import Any

#: Fields that the API server fills in where they are left out (Kubernetes API reference), at any
#: depth.
_DEFAULTED = frozenset(
    {
        "apiVersion",
        "defaultMode",
        "deprecatedServiceAccount",
        "dnsPolicy",
        "failureThreshold",
        "initialDelaySeconds",
        "maxSurge",
        "optional",
        "preemptionPolicy",
        "priority",
        "protocol",
        "restartPolicy",
        "revisionHistoryLimit",
        "schedulerName",
        "scheme",
        "serviceAccount",
        "successThreshold",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "timeoutSeconds",
        "minReadySeconds",
        "enableServiceLinks",
        "creationTimestamp",
    }
)
#: Never filled in below these, so whatever is there is somebody's.
_EXACT = frozenset(
    {"securityContext", "capabilities", "nodeSelector", "matchLabels", "limits", "requests"}
)
#: Annotations and labels of the pods are added by many (kubectl rollout restart); one alone is
#: privilege, AppArmor's.
_OTHERS_MAY_ADD = frozenset({"labels", "annotations", "metadata"})
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
#: Fields that older API servers drop (recursiveReadOnly before 1.31, hostUsers before 1.33):
#: nobody's edit where none is left.
_LATER = frozenset({"hostUsers", "recursiveReadOnly"})


def departure(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> str:
    """The first place at which a specification is not the wanted one; empty where it is, defaults
    apart.
    """
    dropped = _LATER - _keys(live)
    return next(_departures(_without(wanted, dropped) if dropped else wanted, live, ""), "")


def _keys(value: Any) -> frozenset[str]:
    """The names of all fields, at any depth."""
    if isinstance(value, Mapping):
        return frozenset(value).union(*map(_keys, value.values()))
    return frozenset().union(*map(_keys, value)) if isinstance(value, list) else frozenset()


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _departures(wanted: Any, live: Any, path: str) -> Iterator[str]:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for key in sorted(wanted.keys() | live.keys()):
            place = f"{path}.{key}".removeprefix(".")
            if key in wanted and key in live:
                yield from _departures(wanted[key], live[key], place)
            elif not _nothing(wanted.get(key)) or not _may_be_added(path, key, live.get(key)):
                yield place
    elif isinstance(wanted, list) and isinstance(live, list):
        if len(wanted) != len(live):
            yield path
        for index, (ours, theirs) in enumerate(zip(wanted, live, strict=False)):
            yield from _departures(ours, theirs, f"{path}[{index}]")
    elif wanted != live and not (_nothing(wanted) and _nothing(live)):
        yield path


def _may_be_added(path: str, key: str, value: Any) -> bool:
    """Whether a field that we left out may stand there: nothing, a default, a mark."""
    name = path.rpartition(".")[2].partition("[")[0]
    default = key in _DEFAULTED and name not in _EXACT
    if (
        key == "annotations"
        and isinstance(value, Mapping)
        and any(mark.startswith(_APPARMOR) for mark in value)
    ):
        return False
    return _nothing(value) or default or name in _OTHERS_MAY_ADD or key in _OTHERS_MAY_ADD


def _nothing(value: Any) -> bool:
    """What the API server leaves out or fills in as it likes."""
    return value is None or value is False or value in ("", [], {}, ())
