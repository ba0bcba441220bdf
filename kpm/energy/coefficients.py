"""Coefficients of estimates, by kind of processor, out of cpu_models.yaml."""

import re
from importlib import resources

import yaml

from kpm_planner.energy_estimate import Coefficients


def coefficients_for(proc: str) -> Coefficients:
    """Those of the machine's processor as its cpuinfo names it, or the ones for all others."""
    try:
        with open(f"{proc}/cpuinfo", encoding="ascii", errors="replace") as file:
            return coefficients_of(file.read(16_384))
    except OSError:
        return coefficients_of("")


def coefficients_of(cpuinfo: str) -> Coefficients:
    """The first entry that fits vendor, family and model of a cpuinfo text."""
    words = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in cpuinfo.splitlines()) if name.strip()}
    vendor, family, model = words.get("vendor_id", ""), words.get("cpu family", ""), words.get("model", "")
    text = resources.files("kpm.energy").joinpath("cpu_models.yaml").read_text(encoding="utf-8")
    for entry in yaml.load(text, Loader=yaml.CSafeLoader):  # the C form of the safe loader
        fits = entry.get("vendor", vendor) == vendor and re.fullmatch(str(entry.get("family", ".*")), family) and re.fullmatch(str(entry.get("model", ".*")), model)
        if fits:
            return Coefficients(str(entry["name"]), float(entry["standing"]), float(entry["core"]), int(entry["error"]))
    raise ValueError("cpu_models.yaml has no entry for all others")
