"""Attribution against the truth of the simulator's power model, beside the plain ratio of CPU time
(docs/user/energy.md has the table).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.energy import accuracy
from tests.energy.accuracy import Summary, mixes, summarise

DOCS = Path(__file__).parents[2] / "docs/user/energy.md"


@pytest.fixture(scope="module")
def summary() -> Summary:
    """A thousand random mixes."""
    return summarise(list(mixes(1000)))


def test_the_error_is_a_third_of_the_ratios_or_less(summary: Summary) -> None:
    """Mean, 95th hundredth and worst, over thousands of containers on machines whose physics
    attribution is not told.
    """
    assert summary.mixes == 1000
    assert summary.containers > 5000
    for ours, ratio, _ in (summary.mean, summary.high, summary.worst):
        assert ours <= ratio / 3


def test_weights_are_worth_their_code(summary: Summary) -> None:
    """Frequencies, hyperthreads and packages: without them the same busy energy is divided at least
    twice as wrongly in the mean.
    """
    assert summary.mean[0] <= summary.mean[2] / 2


def test_a_container_that_did_nothing_gets_nothing(summary: Summary) -> None:
    """Exactly 0 µJ of busy energy, whatever its neighbours burn (field report 58)."""
    assert summary.idle > 1000
    assert summary.idle_uj == 0


def test_the_table_of_the_documentation_is_what_comes_out(summary: Summary) -> None:
    """Made by `python tests/energy/accuracy.py`."""
    assert accuracy.table(summary) in DOCS.read_text(encoding="utf-8")
