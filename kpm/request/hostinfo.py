"""What /sys does not say about a machine."""

import os

from attrs import evolve

from kpm.request.tree import files_of
from kpm_applier.sysfs.host import Host
from kpm_planner.model.machine import Machine


def with_cpu_model(machine: Machine, host: Host) -> Machine:
    """The machine with its CPU model, from the procfs beside the tree (a dump often has one) or the
    running one; as it is where the host has no files.
    """
    files = files_of(host)
    if files is None:
        return machine
    path = (
        "/proc/cpuinfo"
        if files.live
        else os.path.join(os.path.dirname(files.root), "proc", "cpuinfo")
    )
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(16384)
    except OSError:
        return machine
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model") and value.strip():
            return evolve(machine, cpu_model=value.strip())
    return machine
