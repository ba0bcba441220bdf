"""How many queries of Kepler's dashboards answer, with the example for measuring alone and with
each further setting; which do not, and why (kepler/boards.yaml)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.monitoring.energy_rig import rigged
from tests.monitoring.kepler.boards import (
    ALL,
    BOTH,
    NEWEST,
    REASONS,
    SETTINGS,
    Query,
    Setting,
    example,
    expected,
    measured,
    queries,
    unanswered,
)

ASKED = queries()
#: Setting → how many queries answer, of the boards of now and of the one of 0.7.
ANSWERED = {NEWEST: (66, 0), BOTH: (69, 12), ALL: (93, 12)}
TOTAL = (138, 18)
#: Why queries never answer, whatever is set → how many of the boards of now, and of 0.7.
NEVER = {
    "bed": (14, 0),
    "processes": (11, 0),
    "machine": (10, 0),
    "exporter": (10, 0),
    "gpu": (0, 3),
}


def by_line(found: list[Query]) -> tuple[int, int]:
    """Of the boards of now, and of the one of 0.7."""
    return sum(query.line == "now" for query in found), sum(query.line != "now" for query in found)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Setting, set[str]]]:
    """Setting → the queries without a sample, by a real Prometheus that scrapes a real agent."""
    folder = tmp_path_factory.mktemp("kepler")
    with rigged(folder) as rig:
        yield {turn: unanswered(server, ASKED) for turn, server in measured(rig, folder)}


@pytest.mark.monitoring
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.title)
def test_just_these_have_no_answer(
    silent: dict[Setting, set[str]],
    setting: Setting,
) -> None:
    """Those that need what is not set, and those that ask for what is never told."""
    assert silent[setting] == expected(ASKED, setting)


def test_how_many_answer() -> None:
    """The counts that docs and docs/developer/kepler-queries.md tell."""
    assert by_line(list(ASKED)) == TOTAL
    for setting in SETTINGS:
        answered = [query for query in ASKED if not query.reason(setting.given)]
        assert by_line(answered) == ANSWERED[setting], setting.title


def test_each_that_never_answers_has_a_reason_that_is_told() -> None:
    """And no reason is there for nothing."""
    reasons = Counter(query.why for query in ASKED if query.why)
    assert reasons.keys() == REASONS.keys() == NEVER.keys()
    for why in REASONS:
        assert by_line([query for query in ASKED if query.why == why]) == NEVER[why], why


def test_no_query_is_listed_twice() -> None:
    """A board has each panel's letter once."""
    assert max(Counter(query.name for query in ASKED).values()) == 1


def test_the_example_is_one_of_the_settings() -> None:
    """So that what is counted is what its user gets."""
    metrics = example()
    assert (metrics.names, metrics.levels) in {(item.names, item.levels) for item in SETTINGS}
