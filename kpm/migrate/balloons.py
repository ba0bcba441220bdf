"""CPU classes of NRI's balloons policy, as profiles."""

from collections.abc import Mapping
from typing import Any

from kpm.migrate.findings import (
    Content,
    Fate,
    Migration,
    epp_word,
    group_of,
    label_of,
    listed,
    made,
    mapping,
)
from kpm_planner.model.cluster import OPENSHIFT_GROUP, SYSTEM_NAMESPACE

GROUP, PLURAL = "config.nri", "balloonspolicies"
#: Fields of a class → of pstates; kHz in both.
_PSTATES = {"minFreq": "min", "maxFreq": "max", "freqGovernor": "governor"}
_UNCORE = ("uncoreMinFreq", "uncoreMaxFreq")


def is_policy(item: Content) -> bool:
    """Whether an object is such a policy."""
    return group_of(item) == GROUP and item.get("kind") == "BalloonsPolicy"


def cpu_classes(item: Content) -> Mapping[str, Any]:
    """Name → settings of a policy's CPU classes: of control.cpu.classes, or of cpuClasses, a
    mapping or a list whose entries have names.
    """
    spec = mapping(item.get("spec"))
    classes = mapping(mapping(mapping(spec.get("control")).get("cpu")).get("classes"))
    named = {str(mapping(it).get("name")): mapping(it) for it in listed(spec.get("cpuClasses"))}
    return classes or mapping(spec.get("cpuClasses")) or named


def translate(item: Content, out: Migration) -> None:
    """A profile for each class; idleCPUClass is the shared one."""
    spec, where = mapping(item.get("spec")), label_of(item)
    classes = cpu_classes(item)
    idle = spec.get("idleCPUClass")
    for name, settings in classes.items():
        body = _profile(str(name), mapping(settings), where, out)
        if name == idle:
            body["shared"] = True
            out.say(where, "idleCPUClass", Fate.SAME, f"PowerProfile/{name} is shared")
        namespace = SYSTEM_NAMESPACE[OPENSHIFT_GROUP]
        out.add(made(OPENSHIFT_GROUP, "PowerProfile", str(name), namespace, body))
    for balloon in map(mapping, listed(spec.get("balloonTypes"))):
        wanted = balloon.get("cpuClass")
        if wanted:
            text = (
                f"containers in balloons of type {balloon.get('name')} had class {wanted} by their"
                f" place; they ask for {OPENSHIFT_GROUP}/{wanted} now, as many as CPUs"
            )
            out.say(where, "balloonTypes", Fate.CHANGED, text)
    if classes:
        text = "take the classes' frequencies out of the policy, or two write the same files"
        out.say(where, "control.cpu.classes", Fate.CHANGED, text)


def _profile(name: str, settings: Content, where: str, out: Migration) -> dict[str, Any]:
    """A class as spec of a PowerProfile."""
    place = f"classes.{name}"
    pstates = {key: settings[field] for field, key in _PSTATES.items() if settings.get(field)}
    number = settings.get("energyPerformancePreference")
    word = epp_word(number)
    if word:
        pstates["epp"] = word
    elif number is not None:
        text = f"{number}: an EPP is one of the driver's words here"
        out.say(where, f"{place}.energyPerformancePreference", Fate.GONE, text)
    states = {str(state): False for state in listed(settings.get("disabledCstates"))}
    for field in _UNCORE:
        if settings.get(field):
            text = f"{settings[field]} kHz: what CPUs share is an Uncore of a node, not of a class"
            out.say(where, f"{place}.{field}", Fate.GONE, text)
    known = {*_PSTATES, *_UNCORE, "energyPerformancePreference", "disabledCstates"}
    for key in sorted(set(settings) - known):
        out.say(where, f"{place}.{key}", Fate.GONE, "nothing here says it")
    parts = {"pstates": pstates, "cstates": {"names": states} if states else {}}
    return {key: value for key, value in parts.items() if value}
