"""What a kilowatt hour costs: a number, or a CSV file of times and numbers."""

import csv
import os
from datetime import UTC, datetime

from kpm.process.errors import InputError, one_line
from kpm_planner.energy.savings import Rate

_MOST_LINES = 1_000_000


def rates_of(option: str, text: str) -> tuple[Rate, ...]:
    """The rates that an option names. Errors: InputError.

    text: a number, or the path of a CSV file whose lines are an ISO 8601 time (UTC where it names
    no zone) and a number.
    """
    number = _number(text)
    if number is not None:
        return (Rate(0.0, number),)
    if not os.path.isfile(text):
        raise InputError(
            f"{option}: expected a number from 0 per kWh, or a CSV file of times and numbers,"
            f" got {one_line(text, 80)!r}"
        )
    return _read(option, text)


def _read(option: str, path: str) -> tuple[Rate, ...]:
    found = []
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            for index, row in enumerate(csv.reader(file), 1):
                if not row or (index == 1 and len(row) > 1 and _number(row[1]) is None):
                    continue
                place = f"{option} {path}: line {index}"
                number = _number(row[1]) if len(row) > 1 else None
                if number is None or index > _MOST_LINES:
                    raise InputError(
                        f"{place}: expected a time and a number from 0, got"
                        f" {one_line(','.join(row), 60)!r}"
                    )
                found.append(Rate(_second(row[0], place), number))
    except (OSError, csv.Error) as failure:
        raise InputError(f"{option} {path}: {one_line(failure)}") from None
    if not found:
        raise InputError(f"{option} {path}: has no line with a time and a number")
    return tuple(sorted(found, key=lambda rate: rate.since))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _second(text: str, place: str) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(
            f"{place}: expected a time such as 2026-01-31T08:00:00Z, got {one_line(text, 40)!r}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
