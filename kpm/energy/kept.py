"""Totals of energy over a restart of the agent: one file, good for one boot.

It is written at every look, by a rename and without a sync: a process that is killed loses nothing
of it, and what a crash of the machine loses belongs to a boot that is over.
"""

import json
from collections.abc import Mapping
from math import inf, isfinite
from typing import Any

from attrs import astuple, evolve, field, fields, frozen

from kpm.energy.ledger import Ledger, whole_number
from kpm_planner.energy.attribution import Sample
from kpm_planner.energy.standing import Standing

_VERSION = 1
_LARGEST_SUM = 1e15
_SUMS = len(fields(Standing))
_LONGEST = 64 << 20
_LONGEST_ADDRESS, _MOST_READERS = 64, 16


@frozen
class Kept:
    """What goes on: the totals, the sample that the next interval begins at, what was learned of
    standing power, and who reads the metrics.

    machine: of which it was learned; that outlives the boot.
    """

    ledger: Ledger = field(factory=Ledger)
    sample: Sample | None = None
    standing: Mapping[str, Standing] = field(factory=dict)
    readers: tuple[str, ...] = ()
    machine: str = ""


def dump(kept: Kept, boot: str) -> bytes:
    """The file's content."""
    standing = {
        name: [None if number == inf else number for number in astuple(item)]
        for name, item in kept.standing.items()
    }
    sample = None if kept.sample is None else _document_of(kept.sample)
    document = {
        "version": _VERSION,
        "boot": boot,
        "machine": kept.machine,
        "sample": sample,
        "standing": standing,
        "readers": kept.readers,
        "ledger": kept.ledger.as_document(),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def load(path: str, boot: str, now: float, machine: str = "") -> Kept:
    """What the file keeps of this boot and machine, and what was learned of the machine in another
    boot; nothing where there is no file, or of another version.

    Errors: OSError; ValueError for a file that is damaged.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LONGEST)
    except FileNotFoundError:
        return Kept()
    try:
        document = json.loads(content)
        if document["version"] != _VERSION:
            return Kept()
        standing = {
            str(name): _standing(numbers)
            for name, numbers in document["standing"].items()
            if len(numbers) == _SUMS
        }
        standing = (
            standing
            if document.get("machine", "") == machine
            and (machine or (boot and document["boot"] == boot))
            else {}
        )
        if not boot or document["boot"] != boot:
            return Kept(standing=standing, machine=machine)
        sample = None if document["sample"] is None else _sample_of(document["sample"])
        readers = tuple(
            str(reader)[:_LONGEST_ADDRESS]
            for reader in list(document.get("readers", ()))[:_MOST_READERS]
        )
        return Kept(Ledger.of_document(document["ledger"], now), sample, standing, readers, machine)
    except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as failure:
        raise ValueError(f"is damaged: {failure}") from None


def _document_of(sample: Sample) -> list[Any]:
    return [
        sample.at_us,
        sample.readings,
        sample.busy_us,
        sample.idle_us,
        sample.usage_us,
        sample.slept_us,
        sample.carried,
    ]


def _sample_of(fields: Any) -> Sample:
    """A sample as it was kept. Errors: ValueError, TypeError, AttributeError for what is none."""
    at_us, readings, busy, idle, usage, slept, carried = fields
    return Sample(
        whole_number(at_us),
        {
            str(name): None if value is None else whole_number(value)
            for name, value in readings.items()
        },
        {int(cpu): whole_number(us) for cpu, us in busy.items()},
        {int(cpu): whole_number(us) for cpu, us in idle.items()},
        {str(name): whole_number(us) for name, us in usage.items()},
        slept_us=whole_number(slept),
        carried={
            str(name): (whole_number(since), whole_number(then))
            for name, (since, then) in carried.items()
        },
    )


def _standing(numbers: Any) -> Standing:
    """What was learned of a meter. Errors: ValueError, TypeError."""
    *sums, slope, error = numbers
    made = Standing(*map(_sum, sums))
    return (
        made
        if slope is None or error is None
        else evolve(made, slope_w=_sum(slope), slope_error_w=abs(_sum(error)))
    )


def _sum(value: Any) -> float:
    """A sum of powers and loads. Errors: ValueError for one that no machine has."""
    number = _number(value)
    if abs(number) > _LARGEST_SUM:
        raise ValueError(f"{number} is no sum")
    return number


def _number(value: Any) -> float:
    """A number that can be reckoned with. Errors: ValueError."""
    if type(value) not in (int, float) or not isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    return float(value)
