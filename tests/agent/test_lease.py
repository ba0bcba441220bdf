"""Leadership: one of many, kept by renewing, given up in time, taken over only when the holder's
time is over.
"""

import threading
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kpm.kube.api import ApiError, Resource
from kpm.kube.lease import Lease
from tests.agent.memory_api import DOWN, Clock, MemoryApi

LEASES = Resource("coordination.k8s.io", "v1", "leases", "power-manager")
PERIOD, DURATION, RENEW_WITHIN = 2.0, 15.0, 10.0


def candidate(api: MemoryApi, name: str, clock: Callable[[], float]) -> Lease:
    """A candidate."""
    return Lease(api, LEASES, "operator", name, clock)


def leads(candidate: Lease) -> bool:
    """Whether it does, as of now."""
    return candidate.leading


def record(api: MemoryApi) -> dict[str, Any]:
    """What the server has."""
    spec: dict[str, Any] = api.objects["leases", "power-manager", "operator"]["spec"]
    return spec


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(api: MemoryApi, clock: Clock) -> tuple[Lease, Lease]:
    """Two candidates; the first leads."""
    first, second = candidate(api, "first", clock), candidate(api, "second", clock)
    first.step()
    second.step()
    return first, second


def steps(clock: Clock, seconds: float, *candidates: Lease) -> None:
    """Time passes, and candidates try at their pace."""
    for _ in range(int(seconds / PERIOD)):
        clock.now += PERIOD
        for item in candidates:
            item.step()


def test_a_renewal_is_one_request(api: MemoryApi, clock: Clock, pair: tuple[Lease, Lease]) -> None:
    """Written over the version that this one wrote last; only where somebody else wrote is the
    record read again.
    """
    first, _ = pair
    before = len(api.calls)
    steps(clock, 60, first)
    assert [call[0] for call in api.calls[before:]] == ["replace"] * 30


def test_the_first_of_two_leads_as_long_as_it_renews(
    api: MemoryApi, clock: Clock, pair: tuple[Lease, Lease]
) -> None:
    """An hour long; and the record is a Lease that others can read."""
    first, second = pair
    steps(clock, 3600, first, second)
    assert (first.leading, second.leading) == (True, False)
    spec = record(api)
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (
        "first",
        15,
        0,
    )
    assert spec["acquireTime"] < spec["renewTime"]
    assert api.objects["leases", "power-manager", "operator"]["kind"] == "Lease"


def test_two_that_begin_together_are_told_apart_by_the_server(api: MemoryApi, clock: Clock) -> None:
    """Both found no lease and create it; or both found a free one and take it."""
    first, second = candidate(api, "first", clock), candidate(api, "second", clock)
    meanwhile: list[Lease] = [second]
    api.before = lambda verb: meanwhile.pop().step() if verb == "create" and meanwhile else None
    first.step()
    assert (first.leading, second.leading) == (False, True)
    api.put(LEASES, {"metadata": {"name": "operator"}, "spec": {"holderIdentity": ""}})
    third, fourth = candidate(api, "third", clock), candidate(api, "fourth", clock)
    meanwhile.append(fourth)
    api.before = lambda verb: meanwhile.pop().step() if verb == "replace" and meanwhile else None
    third.step()
    assert (third.leading, fourth.leading, record(api)["holderIdentity"]) == (False, True, "fourth")


@pytest.mark.parametrize(
    "failure",
    [
        DOWN,
        ApiError(500, "InternalError", ""),
        ApiError(403, "Forbidden", ""),
        ApiError(409, "Conflict", ""),
    ],
)
def test_who_cannot_renew_stops_leading_in_time(
    api: MemoryApi, clock: Clock, pair: tuple[Lease, Lease], failure: ApiError
) -> None:
    """Not at the first failure, but before anybody else can take over; and leads again when the
    server is back.
    """
    first, _ = pair
    with api.failing(failure):
        steps(clock, RENEW_WITHIN, first)
        assert leads(first)
        steps(clock, PERIOD, first)
        assert not leads(first)
    assert RENEW_WITHIN + PERIOD < DURATION
    steps(clock, PERIOD, first)
    assert first.leading
    assert record(api)["leaseTransitions"] == 0


def test_the_other_takes_over_when_the_record_has_stood_still_for_its_time(
    clock: Clock, api: MemoryApi, pair: tuple[Lease, Lease]
) -> None:
    """By its own clock since it first saw that version; the old leader
    then finds that it is none.
    """
    first, second = pair
    steps(clock, 14, second)
    assert not leads(second)
    steps(clock, 2, second)
    assert leads(second)
    first.step()
    assert (first.leading, record(api)["holderIdentity"], record(api)["leaseTransitions"]) == (
        False,
        "second",
        1,
    )


def test_the_time_begins_when_the_record_is_first_seen(api: MemoryApi, clock: Clock) -> None:
    """Whatever times are written in it: clocks of machines are never compared."""
    old = "2000-01-01T00:00:00.000000Z"
    api.put(
        LEASES,
        {
            "metadata": {"name": "operator"},
            "spec": {
                "holderIdentity": "gone",
                "leaseDurationSeconds": 40,
                "renewTime": old,
                "acquireTime": old,
            },
        },
    )
    late = candidate(api, "late", clock)
    late.step()
    steps(clock, 40, late)
    assert not late.leading
    steps(clock, PERIOD, late)
    assert late.leading


def test_a_renewal_that_is_seen_begins_the_time_anew(
    clock: Clock, pair: tuple[Lease, Lease]
) -> None:
    """A holder that renews each fourteen seconds keeps it."""
    first, second = pair
    for _ in range(10):
        steps(clock, 14, second)
        first.step()
        second.step()
        assert (first.leading, second.leading) == (True, False)


def test_a_holder_that_comes_back_under_its_name_needs_not_wait(
    api: MemoryApi, clock: Clock, pair: tuple[Lease, Lease]
) -> None:
    """The same identity restarted is no transition; fields that others put there stay."""
    api.objects["leases", "power-manager", "operator"]["metadata"] |= {
        "labels": {"a": "b"},
        "managedFields": [{"manager": "x"}],
    }
    again = candidate(api, "first", clock)
    again.step()
    assert again.leading
    assert record(api)["leaseTransitions"] == 0
    metadata = api.objects["leases", "power-manager", "operator"]["metadata"]
    assert metadata["labels"] == {"a": "b"}
    assert "managedFields" not in metadata


def run(lease: Lease) -> tuple[threading.Thread, list[str], dict[str, threading.Event]]:
    """A candidate in its thread, and what it tells."""
    told: list[str] = []
    events = {"gained": threading.Event(), "lost": threading.Event()}

    def tell(what: str) -> Callable[[], None]:
        def tells() -> None:
            told.append(what)
            events[what].set()

        return tells

    thread = threading.Thread(target=lease.run, args=(tell("gained"), tell("lost")), daemon=True)
    thread.start()
    return thread, told, events


def test_who_stops_lets_the_other_in_at_once(api: MemoryApi, clock: Clock) -> None:
    """The record is given back, and each gain and loss is told once."""
    first, second = candidate(api, "first", clock), candidate(api, "second", clock)
    thread, told, events = run(first)
    assert events["gained"].wait(5)
    second.step()
    first.stop()
    thread.join(1)
    assert not thread.is_alive()
    assert (told, first.leading, record(api)["holderIdentity"]) == (["gained", "lost"], False, "")
    second.step()
    assert second.leading
    assert record(api)["leaseTransitions"] == 1


def test_who_stops_without_a_server_or_without_leading_gives_nothing_back(
    api: MemoryApi, clock: Clock, pair: tuple[Lease, Lease]
) -> None:
    """The loop ends all the same; the record of another is left alone."""
    first, second = pair
    thread, told, _ = run(second)
    second.stop()
    thread.join(1)
    assert (thread.is_alive(), told, record(api)["holderIdentity"]) == (False, [], "first")
    first.stop()
    with api.failing():
        first.run(lambda: None, lambda: told.append("lost"))
    assert (told, record(api)["holderIdentity"]) == (["lost"], "first")


def test_loss_is_told_when_it_happens(api: MemoryApi, clock: Clock) -> None:
    """By the loop, as soon as it knows."""
    lease = candidate(api, "first", clock)
    lease._stop = Paced(clock)
    thread, told, events = run(lease)
    assert events["gained"].wait(5)
    api.failure = DOWN
    assert events["lost"].wait(5)
    lease.stop()
    thread.join(5)
    assert told == ["gained", "lost"]


class Paced(threading.Event):
    """An event on which time passes by the test's clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self.clock.now += timeout or 0.0
        return super().wait(0.001)


# --- any schedule ---

PHASES = st.lists(
    st.tuples(st.sampled_from([3, 12, 18, 40]), st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=7,
)


@given(
    PHASES,
    st.floats(1, 1.1),
    st.booleans(),
    st.sampled_from([0.0, 0.3, 1.9]),
    st.lists(st.sampled_from([0.0, 0.5]), min_size=1, max_size=5),
)
@example(
    [(3, True, True, False), (40, False, False, False), (18, True, True, True)],
    1.0,
    False,
    0.3,
    [0.0],
)
@example([(12, True, True, False), (40, False, True, False)], 1.1, False, 0.3, [0.5])
@example([(12, True, True, False), (40, False, True, False)], 1.1, False, 0.3, [0.0])
def test_two_never_lead_at_once(
    phases: list[tuple[int, bool, bool, bool]],
    speed: float,
    swap: bool,
    offset: float,
    late: list[float],
) -> None:
    """Whoever can reach the server when, clocks up to ten per cent apart, one cutting in on the
    other; and with a server somebody leads.
    """
    api = MemoryApi()
    clocks = [Clock(0.0, speed if swap else 1.0), Clock(0.0, 1.0 if swap else speed)]
    both = [candidate(api, name, clock) for name, clock in zip("ab", clocks, strict=True)]
    due, end, lates = [0.0, offset], 0.0, cycle(late)
    reach = (True, True)

    def step(which: int) -> None:
        before, api.failure = api.failure, None if reach[which] else DOWN
        both[which].step()
        api.failure = before
        assert not (both[0].leading and both[1].leading)

    for seconds, first, second, cut_in in phases:
        end, reach = end + seconds, (first, second)
        while min(due) < end:
            now, which = min((at, index) for index, at in enumerate(due))
            for clock in clocks:
                clock.now = now
            others = [1 - which] if cut_in else []

            def cut(verb: str, others: list[int] = others) -> None:
                if verb in ("replace", "create") and others:
                    step(others.pop())

            api.before = cut
            step(which)
            due[which] = now + (PERIOD + next(lates)) / clocks[which].speed
    if seconds > 30 and all(reach):
        assert both[0].leading or both[1].leading
