"""Files of trades as the earlier tool's users have them, and what is none of them."""

import csv
import io
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.powercap.trades import mock_trades, parse_trades
from kpm.process.errors import InputError
from kpm_planner.caps.legacy_tool import Trade, trade_at

HEAD = "Period,Volume (MWh),Price (€/MWh)"
#: How many files of the default run are mutated.
FILES = 20_000


def quarter(index: int) -> str:
    begins, ends = index * 15, index * 15 + 15
    return f"{begins // 60:02}:{begins % 60:02}-{ends // 60:02}:{ends % 60:02}"


def day(volume: float = 60.0) -> bytes:
    return "\n".join(
        [HEAD, *(f"{quarter(index)},{volume + index},{100 - index}" for index in range(96))]
    ).encode()


def test_a_day_of_96_quarters_is_read_to_its_end() -> None:
    """The last quarter ends at 24:00; the earlier tool looked for 00:00 there and set ten watts for
    a quarter of an hour each night (field report 57).
    """
    trades = parse_trades(day(), "f")
    assert len(trades) == 96
    assert trades[-1] == Trade(23 * 60 + 45, 24 * 60, 155.0, 5.0)
    assert trades[-1].name == "23:45-24:00"
    assert trade_at(trades, 24 * 60 - 0.01) == trades[-1]
    assert [trade_at(trades, minute) for minute in (0, 14.99, 15)] == [
        trades[0],
        trades[0],
        trades[1],
    ]


def test_columns_are_known_by_name_and_rows_by_period() -> None:
    """In any order, with a byte order mark, Windows line ends and columns that nobody asked for."""
    text = (
        "\ufeffPrice (€/MWh),Hub,Period,Volume"
        " (MWh)\r\n5.5,x,12:00-24:00,20\r\n-7,x,00:00-12:00,10\r\n\r\n"
    )
    assert parse_trades(text.encode(), "f") == (
        Trade(0, 720, 10.0, -7.0),
        Trade(720, 1440, 20.0, 5.5),
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "columns"),
        ("Time,Volume\n", "columns"),
        (HEAD, "0 rows"),
        (f"{HEAD}\n25:10-25:20,1,1", "row 2: Period"),
        (f"{HEAD}\n12:00-11:00,1,1", "row 2: Period"),
        (f"{HEAD}\n12:00,1,1", "row 2: Period"),
        (f"{HEAD}\n00:00-24:00,-1,1", "Volume"),
        (f"{HEAD}\n00:00-24:00,nan,1", "Volume"),
        (f"{HEAD}\n00:00-24:00,1_0,1", "Volume"),
        (f"{HEAD}\n00:00-24:00,1", "Price"),
        (f"{HEAD}\n00:00-12:00,1,1\n11:00-24:00,1,1", "overlap"),
        (f'{HEAD}\n"00:00-24:00,1,1', "CSV"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        parse_trades(text.encode(), "f")


def test_what_is_too_much_or_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="larger"):
        parse_trades(b"x" * (2 << 20), "f")
    with pytest.raises(InputError, match="UTF-8"):
        parse_trades(b"\xff\xfe\x00", "f")


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e4, 1e4)), min_size=96, max_size=96))
def test_any_day_that_is_written_is_read_back(rows: list[tuple[float, float]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEAD.split(","))
    writer.writerows(
        (quarter(index), repr(volume), repr(price)) for index, (volume, price) in enumerate(rows)
    )
    assert [
        (trade.volume, trade.price) for trade in parse_trades(out.getvalue().encode(), "f")
    ] == rows


def test_any_file_is_trades_or_one_line_of_refusal() -> None:
    """Mutated files: bytes changed, cut, doubled; never a traceback, and trades only in order."""
    source = random.Random(4)
    base = day()
    for _ in range(FILES):
        data = bytearray(base[: source.randrange(80, 400)])
        for _ in range(source.randrange(1, 6)):
            place = source.randrange(len(data))
            match source.randrange(4):
                case 0:
                    data[place] = source.randrange(256)
                case 1:
                    del data[place : place + source.randrange(1, 20)]
                case 2:
                    data[place:place] = data[place : place + source.randrange(1, 40)]
                case _:
                    data[place:place] = source.choice(
                        [b",", b"\n", b'"', b"\0", b"24:00", b"-", b"1e999", "€".encode(), b"\r"]
                    )
            data = data or bytearray(b"x")
        trades, refusal = trades_or_refusal(bytes(data))
        assert "\n" not in refusal
        assert all(before.ends <= after.begins for before, after in pairwise(trades))


def trades_or_refusal(data: bytes) -> tuple[tuple[Trade, ...], str]:
    try:
        return parse_trades(data, "f"), ""
    except InputError as failure:
        return (), str(failure)


def test_the_mock_day_is_whole() -> None:
    trades = mock_trades()
    assert [trade.begins for trade in trades] == list(range(0, 1440, 15))
    assert trades[-1].ends == 1440
