"""Whether something in a cluster would write the same files as we do: an earlier operator that runs
still, the capping tool, TuneD, balloons with frequencies.
"""

from collections.abc import Iterable, Iterator

from kpm.kube.kinds import AGENT_NAME, PART_OF
from kpm.migrate import balloons, capping, performance, tuned
from kpm.migrate.findings import Content, Fate, Finding, label_of, listed, mapping, name_of

_OPERATOR = "controller-manager"
_MANAGERS = ("DaemonSet", "Deployment")


def fighting(objects: Iterable[Content]) -> tuple[Finding, ...]:
    """A finding for each writer, with the command that ends it."""
    return tuple(sorted(finding for item in objects for finding in _of(item)))


def _of(item: Content) -> Iterator[Finding]:
    kind, namespace = item.get("kind"), mapping(item.get("metadata")).get("namespace") or "default"
    where = f"{namespace}/{name_of(item)}"
    if kind in _MANAGERS and _is_theirs(item):
        text = f"an earlier operator writes the same files: kubectl delete {str(kind).lower()}"
        yield _found(item, f"{text} {name_of(item)} -n {namespace}")
    elif kind in _MANAGERS and capping.environment(item) is not None and not _is_ours(item):
        text = f"the powercap tool writes power limits ({where}): kubectl delete"
        yield _found(item, f"{text} {str(kind).lower()} {name_of(item)} -n {namespace}")
    elif tuned.is_tuned(item) and any(_sets(text) for _, text in tuned.profiles(item)):
        text = "TuneD sets governor, EPP or latency of CPUs by a profile of this object"
        yield _found(item, text)
    elif performance.is_profile(item):
        hints = mapping(mapping(item.get("spec")).get("workloadHints"))
        if not hints.get("perPodPowerManagement"):
            patch = '{"spec":{"workloadHints":{"perPodPowerManagement":true}}}'
            command = f"kubectl patch performanceprofile {name_of(item)} --type=merge -p '{patch}'"
            yield _found(item, f"TuneD sets governors and latencies: {command}")
    elif balloons.is_policy(item) and balloons.cpu_classes(item):
        yield _found(item, "its CPU classes set frequencies; take control.cpu.classes out")


def _found(item: Content, text: str) -> Finding:
    return Finding(label_of(item), "", Fate.CHANGED, text)


def _labels(item: Content) -> Content:
    return mapping(mapping(item.get("metadata")).get("labels"))


def _is_ours(item: Content) -> bool:
    """By the label of this system, or by its program, which deploy/powercap runs."""
    pod = mapping(mapping(mapping(item.get("spec")).get("template")).get("spec"))
    words = [listed(mapping(found).get("args"))[:1] for found in listed(pod.get("containers"))]
    return _labels(item).get(PART_OF[0]) == PART_OF[1] or ["powercap"] in words


def _is_theirs(item: Content) -> bool:
    """The operator's or the agents' of a system of the same names."""
    if _labels(item).get(PART_OF[0]) == PART_OF[1]:
        return False
    namespace = mapping(item.get("metadata")).get("namespace")
    if name_of(item) == AGENT_NAME:
        return True
    return name_of(item) == _OPERATOR and namespace in ("intel-power", "power-manager")


def _sets(text: str) -> bool:
    """Whether a profile of TuneD sets power of CPUs."""
    words = ("governor", "energy_perf", "force_latency", "min_perf_pct", "max_perf_pct")
    return any(line.strip().startswith(words) for line in text.splitlines())
