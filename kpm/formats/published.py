"""What a node's agent publishes: its status, and in it the machine, which is the JSON of
`kpm discover`, and what the kubelet says about CPUs; both as xz and base64.

With these texts of a PowerNodeState others can plan for the node without being there. A dictionary
of 64 kB keeps the compression of the largest machines at 1 MiB of memory, and they come to a third
of what gzip makes of them, for a machine says the same of each CPU.

What is read was written by a node's agent, and a node can be taken over: it is bounded in size,
memory and depth before anything looks at it. For people: base64 -d | xz -d.
"""

import base64
import binascii
import json
import lzma
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from kpm.formats.views import allocation_of, allocation_view, machine_of, machine_view
from kpm.formats.wire import converter
from kpm.process.errors import InputError
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.cluster import Pod
from kpm_planner.model.machine import Machine
from kpm_planner.report.types import (
    LONGEST_ALLOCATION,
    LONGEST_MACHINE,
    PowerNodeStateStatus,
)

#: Bytes of the JSON, and of memory to unpack it.
_LARGEST_JSON = 2 << 20
_MEMORY = 2 << 20
_FILTERS = ({"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 16},)


def reported(document: Mapping[str, Any]) -> PowerNodeStateStatus | None:
    """The status of a PowerNodeState; None for one that cannot be read: whatever an agent of
    another version wrote costs only itself.
    """
    try:
        return converter(strict=False).structure(document.get("status") or {}, PowerNodeStateStatus)
    except Exception:  # noqa: BLE001
        return None


def packed(value: Machine | Allocation) -> str | None:
    """The text of a machine or an allocation; None where it is longer than a status has room for.

    Of an allocation without its pods, which are objects of the API; while the kubelet does not
    answer, what it said last.
    """
    if isinstance(value, Machine):
        view, most = machine_view(value), LONGEST_MACHINE
    else:
        said = tuple(item for item in value.said_last if item.cpus)
        view = allocation_view(evolve(value, pods=(), reported=said))
        most = LONGEST_ALLOCATION
    content = json.dumps(view, separators=(",", ":")).encode()
    if len(content) > _LARGEST_JSON:
        return None
    text = base64.b64encode(lzma.compress(content, filters=_FILTERS)).decode()
    return text if len(text) <= most else None


def unpacked_machine(text: str, source: str) -> Machine:
    """The machine of a text. source: how errors name it. Errors: InputError."""
    return machine_of(_unpacked(text, source, LONGEST_MACHINE), source)


def unpacked_allocation(text: str, pods: Iterable[Pod], source: str) -> Allocation:
    """The allocation of a text, with the pods of its node. Errors: InputError."""
    found = allocation_of(_unpacked(text, source, LONGEST_ALLOCATION), (), source)
    if not found.answered:
        found = evolve(found, reported=(), last_known=found.reported)
    return evolve(found, pods=tuple(pods))


def _unpacked(text: str, source: str, most: int) -> Mapping[str, Any]:
    if len(text) > most:
        raise InputError(f"{source}: expected at most {most} characters, got {len(text)}")
    try:
        reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
        content = reader.decompress(base64.b64decode(text, validate=True), _LARGEST_JSON + 1)
        if len(content) > _LARGEST_JSON or not reader.eof:
            raise InputError(f"{source}: expected at most {_LARGEST_JSON} bytes of JSON, in whole")
        found = json.loads(content)
    except (binascii.Error, lzma.LZMAError, ValueError, RecursionError):
        raise InputError(f"{source}: expected JSON as xz in base64") from None
    if not isinstance(found, dict):
        raise InputError(f"{source}: expected a mapping")
    return found
