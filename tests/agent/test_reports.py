"""Reports are said by a thread of their own: a server that hangs costs no tuning, and what waits
never grows.
"""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kpm.agent.reports import Reports
from kpm.process.threads import Threads
from tests.agent.test_run import Rig
from tests.captured import CapturingLog
from tests.helper.running import until


class Slow:
    """A reporter whose requests hang until they are let go."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.log = CapturingLog()
        self.retry: float | None = None

    def state(self, what: Any) -> None:
        self.begun.set()
        self.go_on.wait(10)
        self.said.append(what)

    def retry_at(self) -> float | None:
        return self.retry


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.go_on.set()


def started(slow: Slow, **more: Any) -> Reports:
    reports = Reports(slow, **more)  # type: ignore[arg-type]
    reports.start(Threads(CapturingLog()))
    return reports


def say(reports: Reports, what: Any) -> None:
    reports.say(lambda reporter: reporter.state(what))


def test_only_the_newest_of_what_waits_is_said(slow: Slow) -> None:
    reports = started(slow)
    say(reports, 0)
    assert slow.begun.wait(5)
    for number in range(1, 1000):
        say(reports, number)
    slow.go_on.set()
    until(lambda: len(slow.said) == 2)
    time.sleep(0.05)
    assert slow.said == [0, 999]
    reports.stop()


def test_events_are_all_said_up_to_a_number(slow: Slow) -> None:
    reports = started(slow)
    say(reports, "first")
    assert slow.begun.wait(5)
    for number in range(1000):
        reports.tell(lambda reporter, number=number: reporter.state(number))  # type: ignore[misc]
    slow.go_on.set()
    until(lambda: len(slow.said) == 201)
    assert slow.said == ["first", *range(800, 1000)]
    reports.stop()


def test_nothing_is_to_be_tried_again_while_something_is_said(slow: Slow) -> None:
    """Or the loop would go round without a pause."""
    again = threading.Event()
    reports = started(slow, changed=again.set)
    slow.retry = 1.0
    assert reports.retry_at() == 1.0
    say(reports, 0)
    assert slow.begun.wait(5)
    assert reports.retry_at() is None
    slow.go_on.set()
    assert again.wait(5), "the loop is told, for it must know when to come again"
    assert reports.retry_at() == 1.0
    reports.stop()


def test_what_raises_costs_itself(slow: Slow) -> None:
    slow.go_on.set()
    reports = started(slow)

    def odd(_: Any) -> None:
        raise RuntimeError("odd")

    reports.say(odd)
    until(lambda: slow.log.calls)
    say(reports, 1)
    until(lambda: slow.said == [1])
    reports.stop()


def test_before_and_after_its_life_everything_is_said_at_once(slow: Slow) -> None:
    slow.go_on.set()
    reports = Reports(slow)  # type: ignore[arg-type]
    say(reports, 1)
    assert slow.said == [1]
    reports.start(Threads(CapturingLog()))
    reports.stop()
    say(reports, 2)
    assert slow.said == [1, 2]


def test_a_server_that_hangs_costs_no_tuning() -> None:
    """A pass takes as long as without; the newest plan is in force at once."""

    def passes(hanging: bool) -> tuple[float, int]:
        rig, go_on = Rig(), threading.Event()
        reporter: Any = rig.agent.reports.reporter
        reporter.state = lambda _state: go_on.wait(20) if hanging else True
        rig.agent.reports.start(Threads(CapturingLog()))
        rig.agent.tick()
        began = time.monotonic()
        for number in range(20):
            rig.seen = f"look {number}"  # something new to say each time
            rig.agent.tick()
        took = time.monotonic() - began
        go_on.set()
        rig.agent.reports.stop()
        return took, len(rig.applied)

    plain = min(passes(False)[0] for _ in range(6))
    hung, applied = min(passes(True) for _ in range(6))
    assert applied == 21
    assert hung < 2 * plain + 0.05
