"""Coefficients of estimates, by kind of processor, out of cpu_models.yaml."""

import re
from importlib import resources

import yaml

from kpm_planner.energy.estimate import Coefficients


def coefficients_for(proc: str) -> Coefficients:
    """Those of the machine's processor as its cpuinfo names it, or the ones for all others."""
    return coefficients_of(cpuinfo_of(proc))


def cpuinfo_of(proc: str) -> str:
    """The beginning of cpuinfo; nothing where there is none."""
    try:
        with open(f"{proc or '/proc'}/cpuinfo", encoding="ascii", errors="replace") as file:
            return file.read(16_384)
    except OSError:
        return ""


def processor_of(cpuinfo: str) -> dict[str, str]:
    """What a cpuinfo text says of a processor: the last value of each name."""
    return {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in cpuinfo.splitlines())
        if name.strip()
    }


def coefficients_of(cpuinfo: str) -> Coefficients:
    """The first entry that fits vendor, family and model of a cpuinfo text."""
    words = processor_of(cpuinfo)
    vendor, family, model = (
        words.get("vendor_id", ""),
        words.get("cpu family", ""),
        words.get("model", ""),
    )
    text = resources.files("kpm.energy").joinpath("cpu_models.yaml").read_text(encoding="utf-8")
    for entry in yaml.load(text, Loader=yaml.CSafeLoader):  # the C form of the safe loader
        fits = (
            entry.get("vendor", vendor) == vendor
            and re.fullmatch(str(entry.get("family", ".*")), family)
            and re.fullmatch(str(entry.get("model", ".*")), model)
        )
        if fits:
            return Coefficients(
                str(entry["name"]),
                float(entry["standing"]),
                float(entry["core"]),
                int(entry["error"]),
            )
    raise ValueError("cpu_models.yaml has no entry for all others")
