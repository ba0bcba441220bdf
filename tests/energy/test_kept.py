"""The file that keeps the totals: good for one boot, whole or nothing, and never the reason why
nothing is measured.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm.energy.exposition import Exposed, expose, render
from kpm.energy.kept import Kept, dump, load
from kpm_planner.energy.attribution import Sample
from kpm_planner.energy.standing import Standing, learn
from kpm_planner.model.agent_settings import METRIC_LEVELS, METRIC_NAMES
from tests.energy.test_ledger import APP, DRAM, PACKAGE, PSYS, SIDE, Book, again, numbers, part

BOOT = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
SAMPLE = Sample(
    10**9,
    {"p0": 123, "d0": None},
    {0: 10, 7: 20},
    {0: 30, 7: 40},
    {APP.id: 50},
    slept_us=60,
    carried={"p0": (10**8, 50)},
)


def kept() -> Kept:
    """Something of everything."""
    book = Book()
    book.add(
        part(PACKAGE, {APP: 7, SIDE: 5}, {APP: 3}, 2, 1),
        part(PSYS, {APP: 30}),
        part(DRAM),
        who=(APP, SIDE),
        used={APP: 10},
    )
    standing = Standing()
    for watts in (50, 60, 70):
        standing = learn(standing, watts * 10_000_000, watts / 10, watts / 12, 10_000_000)
    return Kept(book.ledger, SAMPLE, {"p0": standing, "d0": Standing()})


def put(folder: Path, content: bytes) -> str:
    """A state file."""
    path = folder / "energy.json"
    path.write_bytes(content)
    return str(path)


# --- there and back ---


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Totals, the sample that the next interval begins at, and what was learned."""
    before = kept()
    found = load(put(tmp_path, dump(before, BOOT)), BOOT, 5.0)
    assert numbers(found.ledger) == numbers(before.ledger)
    assert found.sample == SAMPLE
    assert found.standing == before.standing
    assert found.ledger.containers[APP.id].ended == 5.0


def test_before_the_first_sample_there_is_none(tmp_path: Path) -> None:
    """An agent that ends at once leaves a file all the same."""
    found = load(put(tmp_path, dump(Kept(), BOOT)), BOOT, 0.0)
    assert (found.sample, found.standing, numbers(found.ledger)) == (None, {}, {})


@given(
    st.builds(
        Sample,
        st.integers(0, 2**63),
        st.dictionaries(st.text(max_size=5), st.none() | st.integers(0, 2**63), max_size=3),
        st.dictionaries(st.integers(0, 9999), st.integers(0, 2**63), max_size=3),
        st.dictionaries(st.integers(0, 9999), st.integers(0, 2**63), max_size=3),
        st.dictionaries(st.text(max_size=5), st.integers(0, 2**63), max_size=3),
        slept_us=st.integers(0, 2**40),
        carried=st.dictionaries(
            st.text(max_size=5), st.tuples(st.integers(0, 2**63), st.integers(0, 2**40)), max_size=2
        ),
    ),
    st.dictionaries(
        st.text(max_size=5), st.builds(Standing, *[st.floats(-1e15, 1e15)] * 11), max_size=2
    ),
)
def test_any_sample_and_anything_learned_comes_back(
    tmp_path_factory: pytest.TempPathFactory, sample: Sample, standing: dict[str, Standing]
) -> None:
    """To the µJ and the last bit of a float."""
    path = put(tmp_path_factory.getbasetemp(), dump(Kept(sample=sample, standing=standing), BOOT))
    found = load(path, BOOT, 0.0)
    assert found.sample == sample
    assert found.standing == standing


# --- of another time ---


def nothing(found: Kept) -> bool:
    """Whether there is nothing in it."""
    return found.sample is None and not found.standing and not numbers(found.ledger)


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    """The first start of all."""
    assert nothing(load(str(tmp_path / "energy.json"), BOOT, 0.0))


def test_of_another_boot_there_is_nothing(tmp_path: Path) -> None:
    """Meters and clock began at 0, and so do counters."""
    assert nothing(load(put(tmp_path, dump(kept(), BOOT)), BOOT[::-1], 0.0))


def test_what_was_learned_of_the_machine_outlives_the_boot(tmp_path: Path) -> None:
    """Totals do not, since readers of counters expect them at 0; of another machine nothing is
    taken.
    """
    path = put(tmp_path, dump(evolve(kept(), machine="this"), BOOT))
    found = load(path, BOOT[::-1], 0.0, "this")
    assert (found.standing, found.sample, numbers(found.ledger)) == (kept().standing, None, {})
    assert nothing(load(path, BOOT[::-1], 0.0, "other"))
    assert load(path, BOOT, 0.0, "other").standing == {}


def test_what_an_earlier_version_had_learned_is_learned_anew(tmp_path: Path) -> None:
    """Its sums were others; its totals go on."""
    document = json.loads(dump(kept(), BOOT))
    document["standing"] = {"p0": [20.0, 10.0, 100.0, 20.0, 60.0, 3.0]}
    found = load(put(tmp_path, json.dumps(document).encode()), BOOT, 0.0)
    assert found.standing == {}
    assert numbers(found.ledger)


def test_where_the_boot_is_not_known_there_is_nothing(tmp_path: Path) -> None:
    """Neither now nor when it was written: two unknown boots are not one."""
    assert nothing(load(put(tmp_path, dump(kept(), BOOT)), "", 0.0))
    assert nothing(load(put(tmp_path, dump(kept(), "")), "", 0.0))
    assert nothing(load(put(tmp_path, dump(kept(), "")), BOOT, 0.0))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_of_another_version_there_is_nothing(tmp_path: Path, version: Any) -> None:
    """Whatever its other fields look like."""
    document = {"version": version, "boot": BOOT, "ledger": "of another form"}
    assert nothing(load(put(tmp_path, json.dumps(document).encode()), BOOT, 0.0))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """That is an OSError, not damage."""
    with pytest.raises(OSError, match="directory"):
        load(str(tmp_path), BOOT, 0.0)


# --- damaged ---


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"17",
        b'"text"',
        b"\xff\xfe\xfd",
        b"\xef\xbb\xbf{}",
        b"nan",
        b"9" * 5000,
        json.dumps({"boot": BOOT}).encode(),
        b"[" * 200_000,
        b'{"a":' * 100_000,
    ],
    ids=[
        "empty",
        "zeros",
        "brace",
        "null",
        "list",
        "no fields",
        "number",
        "text",
        "no utf-8",
        "mark",
        "word",
        "digits",
        "one field",
        "deep list",
        "deep mapping",
    ],
)
def test_what_is_no_document_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    """And nothing else, so that the agent begins at 0 and says so."""
    with pytest.raises(ValueError, match=r".*"):
        load(put(tmp_path, content), BOOT, 0.0)


@given(st.integers(0), st.integers(0, 255) | st.none())
def test_cut_anywhere_it_is_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, instead: int | None
) -> None:
    """A full disk, a crash. With one byte changed it is one, or a document all the same."""
    content = dump(kept(), BOOT)
    at = place % len(content)
    path = put(
        tmp_path_factory.getbasetemp(),
        content[:at] if instead is None else content[:at] + bytes([instead]) + content[at + 1 :],
    )
    try:
        load(path, BOOT, 0.0)
    except ValueError:
        return
    assert instead is not None


def places(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """The way to everything in a document."""
    for key, item in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        yield (*above, key)
        yield from places(item, *above, key)


DOCUMENT = json.loads(dump(kept(), BOOT))
PLACES = [way for way in places(DOCUMENT) if way[0] not in ("boot", "version")]
WRONG = {
    "null": None,
    "text": "x",
    "list": [],
    "mapping": {},
    "pair": [1, 2],
    "strange": {"x": 1},
    "number": -7,
    "broken": 1.5,
    "true": True,
    "infinite": float("inf"),
    "nan": float("nan"),
    "huge": 10**400,
}


def changed(way: tuple[Any, ...], value: Any) -> bytes:
    """The document with something else in a place."""
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = value
    return json.dumps(document).encode()


def usable(found: Kept) -> None:
    """What was loaded can be gone on with: an interval is booked, told, and written."""
    book = Book(found.ledger)
    book.add(
        part(PACKAGE, {APP: 7, SIDE: 5}, {APP: 3}, 2, 1),
        part(PSYS, {APP: 30}),
        part(DRAM),
        who=(APP, SIDE),
        used={APP: 10},
    )
    families, _ = expose(
        Exposed("n", METRIC_LEVELS, METRIC_NAMES, 10_000, book.ledger, (PACKAGE, DRAM, PSYS))
    )
    render(families)
    for standing in found.standing.values():
        learn(standing, 10, 1.0, 1.0, 10).line()
    again(book.ledger)
    dump(found, BOOT)


@pytest.mark.parametrize("value", WRONG.values(), ids=list(WRONG))
def test_a_wrong_value_is_a_value_error_or_does_no_harm(tmp_path: Path, value: Any) -> None:
    """In every place of the document: what is loaded can be gone on with, else it is refused at
    once and not at every later sample.
    """
    failed = {}
    for way in PLACES:
        try:
            found = load(put(tmp_path, changed(way, value)), BOOT, 0.0)
        except ValueError:
            continue
        except Exception as failure:  # noqa: BLE001  # any other kind is the finding
            failed[way] = ("refused by", failure)
            continue
        try:
            usable(found)
        except Exception as failure:  # noqa: BLE001
            failed[way] = ("loaded, then", failure)
    assert not failed, "; ".join(
        f"{'.'.join(str(key)[:8] for key in way)}: {when} {failure!r}"
        for way, (when, failure) in list(failed.items())[:4]
    )
