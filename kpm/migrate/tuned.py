"""TuneD profiles: what they say of frequencies, turbo and idle states."""

import configparser
from collections.abc import Iterator, Mapping

from kpm.migrate.findings import (
    Content,
    Fate,
    Migration,
    epp_word,
    label_of,
    listed,
    made,
    mapping,
    name_of,
)
from kpm_planner.model.cluster import OPENSHIFT_GROUP, SYSTEM_NAMESPACE

GROUP, PLURAL = "tuned.openshift.io", "tuneds"
#: Sections whose settings are power; of others nothing is said.
_SECTIONS = ("cpu", "uncore", "main")
_LARGEST = 1 << 20


def is_tuned(item: Content) -> bool:
    """Whether an object holds profiles of TuneD."""
    return str(item.get("apiVersion")).startswith(f"{GROUP}/") and item.get("kind") == "Tuned"


def profiles(item: Content) -> Iterator[tuple[str, str]]:
    """Name and text of each profile of an object."""
    for entry in map(mapping, listed(mapping(item.get("spec")).get("profile"))):
        yield str(entry.get("name") or name_of(item)), str(entry.get("data") or "")


def translate_object(item: Content, out: Migration) -> None:
    """All profiles of an object; what chooses among them is not taken over."""
    for name, text in profiles(item):
        translate(name, text, out)
    if listed(mapping(item.get("spec")).get("recommend")):
        text = "which nodes get which profile: nodeSelector of the objects says it"
        out.say(label_of(item), "spec.recommend", Fate.GONE, text)


def translate(name: str, text: str, out: Migration) -> None:
    """One profile, as a shared PowerProfile and, for turbo, a PowerNodeConfig."""
    where, sections = f"tuned/{name}", _sections(text)
    if sections is None:
        out.say(where, "", Fate.GONE, "it cannot be read as a profile of TuneD")
        return
    include = sections.get("main", {}).get("include")
    if include:
        text = f"what {include} says is not looked at; migrate that profile too"
        out.say(where, "include", Fate.GONE, text)
    spec, turbo = _profile(sections.get("cpu", {}), where, out)
    namespace = SYSTEM_NAMESPACE[OPENSHIFT_GROUP]
    if spec:
        body = {"shared": True, **spec}
        out.add(made(OPENSHIFT_GROUP, "PowerProfile", name, namespace, body))
        text = (
            "for CPUs that no container owns, once a PowerNodeConfig names it; TuneD set all CPUs"
        )
        out.say(where, "cpu", Fate.CHANGED, text)
    if turbo is not None:
        exists = [{"key": "kubernetes.io/hostname", "operator": "Exists"}]
        selector = {"labelSelector": {"matchExpressions": exists}}
        body = {"nodeSelector": selector, "turbo": turbo}
        if spec:
            body["sharedPowerProfile"] = name
        out.add(made(OPENSHIFT_GROUP, "PowerNodeConfig", name, namespace, body))
    for key in sections.get("uncore", {}):
        text = "a delta to the hardware's limits; an Uncore names kHz"
        out.say(where, f"uncore.{key}", Fate.GONE, text)


def _sections(text: str) -> dict[str, dict[str, str]] | None:
    """The sections that are about power; None for what is no such file."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string(text[:_LARGEST])
    except configparser.Error:
        return None
    return {
        name: {key: value or "" for key, value in parser.items(name)}
        for name in parser.sections()
        if name in _SECTIONS or parser.get(name, "type", fallback="") in ("cpu", "uncore")
    }


def _profile(
    settings: Mapping[str, str], where: str, out: Migration
) -> tuple[dict[str, object], bool | None]:
    """Spec of a PowerProfile, and the turbo switch."""
    pstates: dict[str, object] = {}
    cstates: dict[str, object] = {}
    turbo: bool | None = None
    for key, text in settings.items():
        first = text.split("|")[0].strip()
        if key == "governor":
            pstates["governor"] = first
            if "|" in text:
                out.say(where, "cpu.governor", Fate.CHANGED, f"the first of {text} is taken")
        elif key == "energy_performance_preference" and epp_word(first):
            pstates["epp"] = epp_word(first)
        elif key in ("energy_perf_bias", "energy_performance_bias"):
            pstates["epb"] = int(first) if first.isdigit() else first
        elif key in ("no_turbo", "boost") and first in ("0", "1"):
            turbo = (first == "1") is (key == "boost")
        elif key == "force_latency" and first.isdigit():
            cstates["maxLatencyUs"] = int(first)
        elif key in ("min_perf_pct", "max_perf_pct"):
            end = key.partition("_")[0]
            text = (
                f"{text}% of the highest frequency; pstates.{end} is MHz, or a share of the range"
            )
            out.say(where, f"cpu.{key}", Fate.GONE, text)
        elif key not in ("type", "devices", "priority", "replace", "load_threshold"):
            out.say(where, f"cpu.{key}", Fate.GONE, f"{text}: nothing here says it")
    parts = {"pstates": pstates, "cstates": cstates}
    return {key: value for key, value in parts.items() if value}, turbo
