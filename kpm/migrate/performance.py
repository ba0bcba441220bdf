"""OpenShift's PerformanceProfile, and the annotations with which CRI-O sets power of pods."""

from typing import Any

from kpm.migrate.findings import (
    Content,
    Fate,
    Migration,
    group_of,
    label_of,
    made,
    mapping,
    name_of,
    names,
)
from kpm_planner.model.cluster import OPENSHIFT_GROUP, SYSTEM_NAMESPACE
from kpm_planner.model.cpuset import parse_cpulist

GROUP, PLURAL = "performance.openshift.io", "performanceprofiles"
ANNOTATIONS = ("cpu-freq-governor.crio.io", "cpu-c-states.crio.io")
_NAMESPACE = SYSTEM_NAMESPACE[OPENSHIFT_GROUP]


def is_profile(item: Content) -> bool:
    """Whether an object is a PerformanceProfile."""
    return group_of(item) == GROUP and item.get("kind") == "PerformanceProfile"


def translate(item: Content, out: Migration) -> None:
    """Reserved CPUs and frequencies as a PowerNodeConfig with its profiles; hints as words."""
    spec, where = mapping(item.get("spec")), label_of(item)
    tuning, config = mapping(spec.get("hardwareTuning")), dict[str, Any]()
    for part, field in (("isolated", "isolatedCpuFreq"), ("reserved", "reservedCpuFreq")):
        if tuning.get(field):
            _fixed(f"{name_of(item)}-{part}", tuning[field], part, out)
            out.say(where, f"spec.hardwareTuning.{field}", Fate.SAME, "maximum of a profile")
    reserved = _cpus(mapping(spec.get("cpu")).get("reserved"), where, out)
    if reserved:
        entry: dict[str, Any] = {"cores": reserved}
        if tuning.get("reservedCpuFreq"):
            entry["powerProfile"] = f"{name_of(item)}-reserved"
        config["reservedCPUs"] = [entry]
    if tuning.get("isolatedCpuFreq"):
        config["sharedPowerProfile"] = f"{name_of(item)}-isolated"
        text = "pods that own CPUs ask for a profile of their own with the same maximum"
        out.say(where, "spec.hardwareTuning.isolatedCpuFreq", Fate.CHANGED, text)
    if config:
        labels = mapping(spec.get("nodeSelector"))
        config["nodeSelector"] = {"labelSelector": {"matchLabels": dict(labels)}}
        out.add(made(OPENSHIFT_GROUP, "PowerNodeConfig", name_of(item), _NAMESPACE, config))
    _hints(mapping(spec.get("workloadHints")), where, out)


def _fixed(name: str, khz: object, part: str, out: Migration) -> None:
    spec = {"pstates": {"max": khz}, **({"shared": True} if part == "isolated" else {})}
    out.add(made(OPENSHIFT_GROUP, "PowerProfile", name, _NAMESPACE, spec))


def _cpus(text: object, where: str, out: Migration) -> list[int]:
    try:
        return sorted(parse_cpulist(str(text or "")))
    except ValueError:
        out.say(where, "spec.cpu.reserved", Fate.GONE, "it is no list of CPUs")
        return []


def _hints(hints: Content, where: str, out: Migration) -> None:
    """What TuneD made of the hints, and what to set."""
    if not hints.get("perPodPowerManagement"):
        text = "set it to true before agents come, or TuneD sets governors and latencies again"
        out.say(where, "spec.workloadHints.perPodPowerManagement", Fate.CHANGED, text)
    if hints.get("highPowerConsumption"):
        text = "kernel arguments keep idle states off; a profile with cstates.maxLatencyUs does it"
        out.say(where, "spec.workloadHints.highPowerConsumption", Fate.GONE, text)
    if hints.get("realTime"):
        text = "kernel arguments and scheduling are TuneD's still"
        out.say(where, "spec.workloadHints.realTime", Fate.SAME, text)


def annotated(item: Content) -> dict[str, str]:
    """CRI-O's annotations of a pod or of a template of pods."""
    spec = mapping(item.get("spec"))
    found: dict[str, str] = {}
    for meta in (item.get("metadata"), mapping(spec.get("template")).get("metadata")):
        for key, value in mapping(mapping(meta).get("annotations")).items():
            if str(key).partition("/")[0] in ANNOTATIONS:
                found[str(key)] = str(value)
    return found


def accept_annotations(items: list[Content], out: Migration) -> None:
    """What pods are annotated with goes on having its effect, done by our agents."""
    found = [item for item in items if annotated(item)]
    if not found:
        return
    config = next((item for item in out.objects if item["kind"] == "PowerConfig"), None)
    if config is None:
        config = made(OPENSHIFT_GROUP, "PowerConfig", "power-config", _NAMESPACE, {})
        out.add(config)
        text = "without labels every node gets an agent; name some in powerNodeSelector"
        out.say("PowerConfig/power-config", "spec.powerNodeSelector", Fate.CHANGED, text)
    config["spec"].setdefault("agent", {})["crioAnnotations"] = "accept"
    text = "the PowerConfig accepts them: agents do what they ask, and put it back"
    for item in found:
        out.say(label_of(item), names(sorted(annotated(item))), Fate.SAME, text)
