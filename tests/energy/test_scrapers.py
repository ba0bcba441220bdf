"""Who reads the metrics: remembered for a time, and never too many (field report 65)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.energy.scrapers import _GONE_S, _MOST, Scrapers


def test_nobody_reads_at_first() -> None:
    """So that nobody is waited for."""
    assert Scrapers().active(0.0) == ()


def test_a_reader_that_has_come_is_active() -> None:
    """Each address once, however often it comes."""
    scrapers = Scrapers()
    for at in (1.0, 2.0, 3.0):
        scrapers.came("10.0.0.1", at)
        scrapers.came("10.0.0.2", at)
    assert sorted(scrapers.active(4.0)) == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize(
    ("after", "active"),
    [(0.0, True), (_GONE_S - 0.001, True), (_GONE_S, False), (_GONE_S + 1e6, False)],
)
def test_one_that_does_not_come_again_is_none(after: float, *, active: bool) -> None:
    """After five minutes nobody waits for it."""
    scrapers = Scrapers()
    scrapers.came("a", 100.0)
    assert (scrapers.active(100.0 + after) == ("a",)) is active


def test_coming_again_counts_from_then() -> None:
    """One that comes every four minutes stays."""
    scrapers = Scrapers()
    for at in range(0, 2400, 240):
        scrapers.came("a", float(at))
        assert scrapers.active(at + 239.0) == ("a",)


def test_one_that_was_gone_and_comes_again_is_active() -> None:
    """As if for the first time."""
    scrapers = Scrapers()
    scrapers.came("a", 0.0)
    assert scrapers.active(_GONE_S) == ()
    scrapers.came("a", _GONE_S + 1)
    assert scrapers.active(_GONE_S + 2) == ("a",)


def test_of_too_many_the_one_that_has_not_come_for_longest_is_forgotten() -> None:
    """Not the one that came first of all but still comes."""
    scrapers = Scrapers()
    for number in range(_MOST):
        scrapers.came(f"r{number}", float(number))
    scrapers.came("r0", 50.0)
    scrapers.came("new", 51.0)
    assert set(scrapers.active(52.0)) == {
        "new",
        "r0",
        *(f"r{number}" for number in range(2, _MOST)),
    }


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 200)), max_size=60))
def test_never_too_many_and_always_the_last(comings: list[tuple[int, int]]) -> None:
    """Field report 59: a scanner of addresses costs nothing, and those remembered are the last ones
    to come.
    """
    scrapers = Scrapers()
    now, last = 0.0, dict[str, float]()
    for address, after in comings:
        now += after
        scrapers.came(str(address), now)
        last.pop(str(address), None)
        last[str(address)] = now
        active = scrapers.active(now)
        assert len(active) <= _MOST
        assert set(active) == {name for name in list(last)[-_MOST:] if now - last[name] < _GONE_S}
