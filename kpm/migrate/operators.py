"""The earlier operators' objects: the same kinds, of other releases and forks.

Their fields are read as those operators meant them; what was a default of theirs and is none here
is written out, so that the same values are asked for.
"""

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from kpm.migrate.findings import (
    Content,
    Fate,
    Made,
    Migration,
    group_of,
    label_of,
    listed,
    made,
    mapping,
    name_of,
    names,
)
from kpm_planner.model.cluster import AMD_GROUP, INTEL_GROUP, OPENSHIFT_GROUP, SYSTEM_NAMESPACE

GROUPS = (INTEL_GROUP, AMD_GROUP, OPENSHIFT_GROUP)
#: Plurals of all kinds that the earlier operators had.
PLURALS = (
    "powerconfigs",
    "powerprofiles",
    "powerworkloads",
    "powernodeconfigs",
    "uncores",
    "cstates",
    "timeofdays",
    "cpuscalingprofiles",
    "powernodes",
    "powernodestates",
)
#: Made by their operator and agents; made anew by ours.
_REMADE = {"PowerNode", "PowerNodeState", "PowerPod", "TimeOfDayCronJob", "CPUScalingConfiguration"}
#: Profiles that Intel's operator made by name: share of the range at the top, and of the CPUs. Its
#: minimum was 200 MHz below: seven hundredths of a usual range.
_MADE_BY_NAME = {
    "performance": ("performance", 100, 40),
    "balance-performance": ("balance_performance", 75, 60),
    "balance-power": ("balance_power", 50, 80),
}
_BELOW = 7
#: CPUs of a node, in per cent, that Intel's operator offered under a profile, by its EPP.
_CAPACITY = {"performance": "40%", "balance_performance": "60%", "balance_power": "80%"}
#: Of theirs, where a profile names none; drivers without EPP hold the lowest frequency under it.
_GOVERNOR = "powersave"
_FLAT = ("min", "max", "epp", "governor")
#: Fields of CPUScalingProfile → of cpuScalingPolicy.
_SCALING = {
    "workloadType": "workloadType",
    "samplePeriod": "samplePeriod",
    "cooldownPeriod": "cooldownPeriod",
    "targetBusyness": "targetUsage",
    "targetUsage": "targetUsage",
    "allowedBusynessDifference": "allowedUsageDifference",
    "allowedUsageDifference": "allowedUsageDifference",
    "allowedFrequencyDifference": "allowedFrequencyDifference",
    "scalePercentage": "scalePercentage",
    "fallbackFreqPercent": "fallbackFreqPercent",
}


@frozen
class _Place:
    """Where an object goes. earlier: the group that it was of."""

    group: str
    namespace: str
    earlier: str


def is_earlier(item: Content) -> bool:
    """Whether an object is of one of these operators."""
    return group_of(item) in GROUPS


def translate(items: list[Content], out: Migration) -> None:
    """Take over the objects of the earlier operators, profiles first."""
    order = ("PowerProfile", "CPUScalingProfile", "PowerConfig", "PowerNodeConfig", "PowerWorkload")
    rank = {kind: number for number, kind in enumerate(order)}
    for item in sorted(items, key=lambda item: rank.get(str(item.get("kind")), len(order))):
        group = group_of(item)
        target = OPENSHIFT_GROUP if group == AMD_GROUP else group
        place = _Place(target, SYSTEM_NAMESPACE[target], group)
        kind = str(item.get("kind"))
        if kind in _KINDS:
            _KINDS[kind](item, place, out)
        elif kind in _REMADE:
            out.say(label_of(item), "", Fate.SAME, "made anew by operator and agents; not copied")
        else:
            out.say(label_of(item), "", Fate.GONE, "no object of this kind is here")
    if any(group_of(item) == AMD_GROUP for item in items):
        out.say(
            f"pods that ask for {AMD_GROUP}/PROFILE",
            "resources",
            Fate.CHANGED,
            f"those that run keep their profiles; new ones ask for {OPENSHIFT_GROUP}/PROFILE:"
            " change their manifests before they are created again",
        )


def _copy(item: Content, place: _Place, spec: Content) -> Made:
    return made(place.group, str(item["kind"]), name_of(item), place.namespace, spec)


def _profile(item: Content, place: _Place, out: Migration) -> None:
    """Flat or below pstates; zeros and defaults written out."""
    spec = dict(mapping(item.get("spec")))
    flat = {key: spec.pop(key) for key in _FLAT if key in spec}
    pstates = {**flat, **mapping(spec.pop("pstates", None))}
    where = label_of(item)
    if flat:
        out.say(where, "spec", Fate.SAME, f"{names(sorted(flat))} stand below pstates")
    for end in ("min", "max"):
        if pstates.get(end) in (0, "0"):
            del pstates[end]
            text = "0 meant the hardware's own limit, which is meant by leaving it out"
            out.say(where, f"spec.{end}", Fate.SAME, text)
    if pstates and not pstates.get("governor") and "cpuScalingPolicy" not in spec:
        pstates["governor"] = _GOVERNOR
        text = f"{_GOVERNOR} was the governor where none was named; it is written out"
        out.say(where, "spec.pstates.governor", Fate.SAME, text)
    capacity = _CAPACITY.get(str(pstates.get("epp")))
    earlier = place.earlier == INTEL_GROUP
    if earlier and capacity and not spec.get("shared") and "cpuCapacity" not in spec:
        spec["cpuCapacity"] = capacity
        text = f"{capacity} of a node's CPUs were offered for this EPP; it is written out"
        out.say(where, "spec.cpuCapacity", Fate.SAME, text)
    if isinstance(spec.get("cpuScalingPolicy"), Mapping):
        policy = {"workloadType": "polling-dpdk", **spec["cpuScalingPolicy"]}
        spec["cpuScalingPolicy"] = policy
        pstates.setdefault("governor", "userspace")
    out.add(_copy(item, place, {**spec, **({"pstates": pstates} if pstates else {})}))


def _scaling_profile(item: Content, place: _Place, out: Migration) -> None:
    """A kind of its own there, a part of the profile here."""
    spec, where = mapping(item.get("spec")), label_of(item)
    policy: dict[str, Any] = {"workloadType": "polling-dpdk"}
    policy |= {_SCALING[key]: value for key, value in spec.items() if key in _SCALING}
    pstates = {key: spec[key] for key in ("min", "max") if spec.get(key)}
    made_spec = {
        "pstates": {**pstates, "governor": "userspace"},
        "cpuScalingPolicy": policy,
    }
    out.add(made(place.group, "PowerProfile", name_of(item), place.namespace, made_spec))
    out.say(where, "", Fate.SAME, f"PowerProfile/{name_of(item)} with a cpuScalingPolicy")
    lost = sorted(set(spec) - {*_SCALING, "min", "max", "name", "epp"})
    if spec.get("epp"):
        text = "governor userspace sets the speed; an EPP has no effect beside it"
        out.say(where, "spec.epp", Fate.GONE, text)
    for key in lost:
        out.say(where, f"spec.{key}", Fate.GONE, "the scaler has no such setting")


def _config(item: Content, place: _Place, out: Migration) -> None:
    """Profiles that it only names are written as objects."""
    spec = dict(mapping(item.get("spec")))
    where = label_of(item)
    for name in listed(spec.pop("powerProfiles", None)):
        if out.find("PowerProfile", str(name)) is None:
            _named(str(name), where, place, out)
    lost = sorted(
        set(spec) - {"powerNodeSelector", "customDevices", "agent", "duplicatePowerConfig"}
    )
    for key in lost:
        out.say(where, f"spec.{key}", Fate.GONE, "the PowerConfig has no such field")
        del spec[key]
    if not spec.get("powerNodeSelector"):
        text = "without labels every node gets an agent"
        out.say(where, "spec.powerNodeSelector", Fate.CHANGED, text)
    out.add(_copy(item, place, spec))


def _named(name: str, where: str, place: _Place, out: Migration) -> None:
    """A profile that their operator made out of its name."""
    known = _MADE_BY_NAME.get(name)
    if known is None:
        text = f"no profile {name} is among the objects, and none is made of its name"
        out.say(where, "spec.powerProfiles", Fate.GONE, text)
        return
    epp, top, capacity = known
    pstates = {"min": f"{top - _BELOW}%", "max": f"{top}%", "governor": _GOVERNOR, "epp": epp}
    spec = {"pstates": pstates, "cpuCapacity": f"{capacity}%"}
    out.add(made(place.group, "PowerProfile", name, place.namespace, spec))
    text = (
        f"PowerProfile/{name} is written out as a share of each CPU's own range; its minimum was"
        f" 200 MHz below the maximum and is {_BELOW}% of the range below it"
    )
    out.say(where, "spec.powerProfiles", Fate.CHANGED, text)


def _workload(item: Content, place: _Place, out: Migration) -> None:
    """Those of a shared pool; those of pods are made by the operator."""
    spec, where = dict(mapping(item.get("spec"))), label_of(item)
    if not spec.get("allCores") and not spec.get("reservedCPUs"):
        out.say(where, "", Fate.SAME, "made by the operator for its profile and node; not copied")
        return
    if spec.pop("workloadNodes", None):
        out.say(where, "spec.workloadNodes", Fate.SAME, "what it held is told in status")
    spec["reservedCPUs"] = _reserved(spec.get("reservedCPUs"))
    if not spec["reservedCPUs"]:
        del spec["reservedCPUs"]
    if not spec.get("powerNodeSelector"):
        text = "without labels it is for no node here; name some in powerNodeSelector"
        out.say(where, "spec.powerNodeSelector", Fate.CHANGED, text)
    out.add(_copy(item, place, spec))


def _reserved(value: object) -> list[Any]:
    """Lists of CPUs, also as plain numbers of the first releases."""
    entries = listed(value)
    plain = [entry for entry in entries if isinstance(entry, int)]
    rest = [entry for entry in entries if not isinstance(entry, int)]
    return [*([{"cores": plain}] if plain else []), *rest]


def _node_config(item: Content, place: _Place, out: Migration) -> None:
    out.add(_copy(item, place, mapping(item.get("spec"))))


def _uncore(item: Content, place: _Place, out: Migration) -> None:
    """Without a selector: of the node of its name with Intel's operator, else of all nodes."""
    spec = dict(mapping(item.get("spec")))
    if "nodeSelector" not in spec and place.earlier != INTEL_GROUP:
        exists = [{"key": "kubernetes.io/hostname", "operator": "Exists"}]
        spec["nodeSelector"] = {"labelSelector": {"matchExpressions": exists}}
        text = "it was for all nodes; a selector that matches all of them says so"
        out.say(label_of(item), "spec.nodeSelector", Fate.SAME, text)
    out.add(_copy(item, place, spec))


def _cstates(item: Content, place: _Place, out: Migration) -> None:
    """A kind of its own there, a part of each profile here; of one node there, of all here."""
    del place
    spec, where = mapping(item.get("spec")), label_of(item)
    node = f"of node {name_of(item)}"
    shared = [made for made in out.objects if mapping(made["spec"]).get("shared")]
    wanted = {
        (str(made["metadata"]["name"])): mapping(spec.get("sharedPoolCStates")) for made in shared
    }
    wanted |= {
        str(name): mapping(states)
        for name, states in mapping(spec.get("exclusivePoolCStates")).items()
    }
    for name, states in wanted.items():
        profile = out.find("PowerProfile", name)
        if not states:
            continue
        if profile is None:
            out.say(where, "spec", Fate.GONE, f"profile {name} is not among the objects")
            continue
        before = mapping(mapping(profile["spec"].get("cstates")).get("names"))
        if before and dict(before) != dict(states):
            text = f"profile {name} has other states {node}: two profiles with nodeSelector say it"
            out.say(where, "spec", Fate.GONE, text)
            continue
        profile["spec"]["cstates"] = {"names": dict(states)}
        text = f"cstates.names of PowerProfile/{name}, on every node and not {node} alone"
        out.say(where, "spec", Fate.CHANGED, text)
    for cpu in mapping(spec.get("individualCoreCStates")):
        text = f"CPU {cpu} alone: a reservedCPUs entry with a profile of its own says it"
        out.say(where, "spec.individualCoreCStates", Fate.GONE, text)


def _time_of_day(item: Content, place: _Place, out: Migration) -> None:
    del place
    for entry in listed(mapping(item.get("spec")).get("schedule")):
        at = mapping(entry).get("time")
        text = (
            f"at {at}: profiles do not follow the clock; a CronJob that patches the profile does"
            " it, and power by the hour is a PowerCap with a schedule"
        )
        out.say(label_of(item), "spec.schedule", Fate.GONE, text)


_KINDS = {
    "PowerProfile": _profile,
    "CPUScalingProfile": _scaling_profile,
    "PowerConfig": _config,
    "PowerWorkload": _workload,
    "PowerNodeConfig": _node_config,
    "Uncore": _uncore,
    "CStates": _cstates,
    "TimeOfDay": _time_of_day,
}
