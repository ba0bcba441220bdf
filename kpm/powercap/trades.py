"""A day of trades out of a CSV file: columns Period, Volume (MWh), Price (€/MWh); periods
HH:MM-HH:MM, the last one to 24:00.
"""

import csv
import io
import math
from itertools import pairwise

from kpm.process.errors import InputError, one_line
from kpm_planner.caps.legacy_tool import Trade
from kpm_planner.model.quantities import clock_minutes

LARGEST_FILE = 1 << 20
_PERIOD, _VOLUME, _PRICE = "Period", "Volume (MWh)", "Price (€/MWh)"
_DAY = 24 * 60
_MOST_ROWS = _DAY
#: The day of the mock provider: low at night, a hump in the morning and one in the evening, MWh in
#: each quarter of an hour.
_MOCK_HOURS = (
    22,
    20,
    19,
    18,
    20,
    28,
    45,
    70,
    95,
    110,
    118,
    120,
    112,
    100,
    92,
    88,
    95,
    108,
    116,
    104,
    82,
    60,
    42,
    30,
)


def parse_trades(data: bytes, source: str) -> tuple[Trade, ...]:
    """The trades of a file, sorted. Errors: InputError that names file, row, column and value."""
    if len(data) > LARGEST_FILE:
        raise InputError(f"{source}: is larger than the {LARGEST_FILE >> 20} MiB that are allowed")
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as failure:
        raise InputError(f"{source}: {one_line(failure, 120)}; CSV in UTF-8 is allowed") from None
    head = [name.strip() for name in rows[0]] if rows else []
    if not {_PERIOD, _VOLUME, _PRICE} <= set(head):
        raise InputError(
            f"{source}: row 1: expected the columns {_PERIOD},{_VOLUME},{_PRICE}, got"
            f" {one_line(','.join(head), 80)!r}"
        )
    body = [row for row in rows[1:] if row]
    if not 1 <= len(body) <= _MOST_ROWS:
        raise InputError(f"{source}: {len(body)} rows are not allowed: 1 to {_MOST_ROWS}")
    return _in_order(
        [
            _trade(dict(zip(head, row, strict=False)), f"{source}: row {number}")
            for number, row in enumerate(body, 2)
        ],
        source,
    )


def _trade(row: dict[str, str], place: str) -> Trade:
    text = row.get(_PERIOD, "").strip()
    first, mark, last = text.partition("-")
    begins, ends = clock_minutes(first), _DAY if last in ("24:00", "00:00") else clock_minutes(last)
    if not mark or begins is None or ends is None or begins >= ends:
        raise InputError(
            f"{place}: {_PERIOD}: expected HH:MM-HH:MM, the last one to 24:00, got"
            f" {one_line(text, 60)!r}"
        )
    return Trade(begins, ends, _number(row, _VOLUME, place, 0.0), _number(row, _PRICE, place, -1e9))


def _number(row: dict[str, str], column: str, place: str, least: float) -> float:
    text = row.get(column, "").strip()
    try:
        value = float(text) if len(text) <= 40 and text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not least <= value <= 1e9:
        raise InputError(
            f"{place}: {column}: expected a number{' from 0' if least == 0 else ''}, got"
            f" {one_line(text, 60)!r}"
        )
    return value


def _in_order(trades: list[Trade], source: str) -> tuple[Trade, ...]:
    trades.sort(key=lambda trade: trade.begins)
    for before, after in pairwise(trades):
        if after.begins < before.ends:
            raise InputError(
                f"{source}: {_PERIOD}: {before.name} and {after.name} overlap; each minute is"
                " allowed once"
            )
    return tuple(trades)


def mock_trades() -> tuple[Trade, ...]:
    """A day that looks like one, always the same."""
    return tuple(
        Trade(
            index * 15,
            index * 15 + 15,
            float(_MOCK_HOURS[index // 4]),
            40.0 + _MOCK_HOURS[index // 4],
        )
        for index in range(96)
    )
