"""The powercap tool's DaemonSet, by the environment of its container, as a PowerCap."""

import re
from collections.abc import Mapping
from typing import Any

from kpm.migrate.findings import Content, Fate, Migration, label_of, listed, made, mapping
from kpm_planner.model.cluster import OPENSHIFT_GROUP, SYSTEM_NAMESPACE

#: What tells its container from others.
_MARKS = ("MAX_SOURCE", "RAPL_MIN_POWER", "STABILISATION_TIME", "RAPL_LIMIT", "DATA_PROVIDER")
_ZONE, _UW = "Europe/Paris", 1_000_000
_MAX_SOURCE, _LEAST, _STABLE = 40e6, 10e6, 300.0
_MOST_UW = 4e9
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)
_EVERYWHERE = {
    "labelSelector": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}
}


def environment(item: Content) -> Mapping[str, str] | None:
    """The tool's settings, where an object runs it."""
    if item.get("kind") not in ("DaemonSet", "Deployment", "Pod"):
        return None
    spec = mapping(item.get("spec"))
    pod = mapping(mapping(spec.get("template")).get("spec")) or spec
    for container in listed(pod.get("containers")):
        found = {
            str(entry.get("name")): str(entry.get("value"))
            for entry in map(mapping, listed(mapping(container).get("env")))
            if entry.get("value") is not None
        }
        if any(name in found for name in _MARKS):
            return {**found, "selector": _text(mapping(pod.get("nodeSelector")))}
    return None


def _text(selector: Content) -> str:
    return ",".join(f"{key}={value}" for key, value in selector.items())


def translate(item: Content, out: Migration) -> None:
    """A PowerCap that asks for the same watts, and what differs."""
    values, where = environment(item) or {}, label_of(item)
    peak = _watts(_number(values, "MAX_SOURCE", _MAX_SOURCE, where, out))
    provider = values.get("DATA_PROVIDER") or "solar"
    source: dict[str, Any] = {"timeZone": values.get("TIMEZONE") or _ZONE}
    if provider == "solar":
        exponent = round(_number(values, "ALPHA", 4.0, where, out))
        source["solar"] = {"peakWatts": peak, "exponent": min(max(exponent, 1), 16)}
        text = "the same curve from 04:00 to 20:00; outside it the cap is minWatts"
        out.say(where, "DATA_PROVIDER", Fate.SAME, text)
    elif provider == "static":
        source["static"] = {"watts": peak}
        text = "MAX_SOURCE all the time; there it was a made-up day"
        out.say(where, "DATA_PROVIDER", Fate.CHANGED, text)
    else:
        source["static"] = {"watts": peak}
        text = (
            f"{provider}: MAX_SOURCE all the time is written; market.volumes with the day's"
            " numbers, or external with a server that names watts, follow a market"
        )
        out.say(where, "DATA_PROVIDER", Fate.GONE, text)
    period = int(_number(values, "STABILISATION_TIME", _STABLE, where, out))
    spec = {
        "nodeSelector": _selector(values.get("selector", "")),
        "source": source,
        "minWatts": min(_watts(_number(values, "RAPL_MIN_POWER", _LEAST, where, out)), peak),
        "maxWatts": peak,
        "period": f"{min(max(period, 5), 3600)}s",
    }
    _differences(values, where, out)
    namespace = SYSTEM_NAMESPACE[OPENSHIFT_GROUP]
    out.add(made(OPENSHIFT_GROUP, "PowerCap", "powercap", namespace, spec))


def _differences(values: Mapping[str, str], where: str, out: Migration) -> None:
    """What the tool did that a PowerCap does not."""
    text = "one number was written to every limit of every zone; a node's budget is divided here"
    out.say(where, "MAX_SOURCE", Fate.CHANGED, text)
    if values.get("RAPL_LIMIT"):
        text = "limits of the start are not scaled; minWatts says how low the cap may go"
        out.say(where, "RAPL_LIMIT", Fate.CHANGED, text)
    for name in ("PMAX_FUNC", "POWER_CALC_MODE", "DATA_REFRESH_CRON", "PROVIDER_URL"):
        if values.get(name):
            out.say(where, name, Fate.GONE, "a PowerCap has no such setting")
    text = (
        "annotations rapl/... of the Node are not written; status of the PowerNodeState tells them"
    )
    out.say(where, "annotations", Fate.CHANGED, text)


def _selector(text: str) -> dict[str, Any]:
    """Of the nodes on which it ran; of all nodes where it ran on all."""
    labels = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    return {"labelSelector": {"matchLabels": labels}} if labels else _EVERYWHERE


def _number(
    values: Mapping[str, str], name: str, default: float, where: str, out: Migration
) -> float:
    """A setting as a number; its default where it is none, with a word."""
    text = values.get(name) or ""
    if _DECIMAL.fullmatch(text):
        return float(text)
    if text:
        out.say(where, name, Fate.GONE, f"{text[:60]!r} is no decimal number; {default:g} is taken")
    return default


def _watts(uw: float) -> int:
    """µW as they are written there, as whole watts, at least one."""
    return max(int(min(uw, _MOST_UW)) // _UW, 1)
