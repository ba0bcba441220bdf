"""CPUs that resource claims gave, out of CDI files.

Drivers of CPU claims (kubernetes-sigs/dra-driver-cpu, policies of NRI) name the CPUs in a variable
DRA_CPUSET_... that the claim's CDI device sets in the container. Who has which device the kubelet
says. A driver that moves claims names no CPUs there. The files are root's, and bounded all the
same: in number and length, and what is no list of CPUs is none.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from kpm.kube.decode import decode
from kpm_applier.measure.counters import CounterFiles
from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.cpuset import parse_cpulist

_VARIABLE = "DRA_CPUSET_"
_MOST_FILES, _MOST_BYTES = 1000, 8 << 20


def claimed_cpus(folder: str, reported: Iterable[ContainerCpus]) -> tuple[ContainerCpus, ...]:
    """The CPUs that CDI devices name for containers that the kubelet gives such devices and no
    CPUs.

    A container one of whose devices names CPUs that are none is left out.
    """
    wanted = [item for item in reported if item.devices and not item.cpus]
    if not wanted:
        return ()
    devices = _devices(folder, {name for item in wanted for name in item.devices})
    found = []
    for item in wanted:
        texts = [text for name in item.devices for text in devices.get(name, ())]
        with contextlib.suppress(ValueError):
            cpus = frozenset[int]().union(*map(some_cpus, texts))
            if cpus:
                found.append(ContainerCpus(item.namespace, item.pod, item.container, cpus))
    return tuple(found)


def some_cpus(text: str) -> frozenset[int]:
    """A list of one CPU or more. Errors: ValueError."""
    cpus = parse_cpulist(text)
    if not cpus:
        raise ValueError(f"{text[:80]!r} is no list of CPUs")
    return cpus


def _devices(folder: str, wanted: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Device → the CPU lists that its edits set, of these devices."""
    try:
        files = CounterFiles(folder)
    except OSError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    left = _MOST_BYTES
    names = sorted(name for name in files.names("") if name.endswith(".json"))
    for name in names[:_MOST_FILES]:
        with contextlib.suppress(OSError, ValueError):
            content = files.read_whole(name)
            left -= len(content)
            if left < 0:
                break
            if _VARIABLE.encode() in content:
                found |= {key: texts for key, texts in _edits(decode(content)) if key in wanted}
    return found


def _edits(document: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Qualified name and CPU lists of each device of a CDI file (CDI specification, devices)."""
    kind = _of(document, "kind", str)
    for device in _of(document, "devices", list) or ():
        name, edits = _of(device, "name", str), _of(device, "containerEdits", dict)
        if kind and name:
            variables = [item for item in _of(edits, "env", list) or () if isinstance(item, str)]
            pairs = (item.partition("=") for item in variables)
            lists = tuple(value for key, _, value in pairs if key.startswith(_VARIABLE))
            yield f"{kind}={name}", lists


def _of(document: Any, key: str, kind: type) -> Any:
    """A member of its type, else None."""
    found = document.get(key) if isinstance(document, dict) else None
    return found if isinstance(found, kind) else None
