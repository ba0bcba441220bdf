"""Whether telemetry is known to be the pods' own is said, and asked for seldom."""

import pytest

from kpm.agent.guard import _BINDINGS, TelemetryGuard
from tests.agent.memory_api import DOWN, Clock, MemoryApi


@pytest.mark.parametrize(
    ("server", "status"), [("installed", "True"), ("missing", "False"), ("down", "Unknown")]
)
def test_where_the_policy_is_not_installed_telemetry_is_not_authenticated(
    server: str, status: str
) -> None:
    """A server that does not answer is no server without the policy (R7)."""
    api, clock = MemoryApi(), Clock()
    if server == "installed":
        api.put(_BINDINGS, {"metadata": {"name": "power-manager-telemetry"}})
    guard = TelemetryGuard(api, clock)
    assert guard.condition().status == "Unknown"
    if server == "down":
        with api.failing(DOWN):
            guard.look()
    else:
        guard.look()
    assert (guard.condition().type, guard.condition().status) == ("TelemetryAuthenticated", status)


def test_it_is_asked_for_seldom() -> None:
    api, clock = MemoryApi(), Clock()
    guard = TelemetryGuard(api, clock)
    for _ in range(100):
        guard.look()
        clock.now += 60
    assert len(api.calls) <= 8


def test_a_question_without_an_answer_is_asked_again_soon_and_takes_nothing_back() -> None:
    api, clock = MemoryApi(), Clock()
    api.put(_BINDINGS, {"metadata": {"name": "power-manager-telemetry"}})
    guard = TelemetryGuard(api, clock)
    with api.failing(DOWN):
        guard.look()
    clock.now += 60
    guard.look()
    assert guard.condition().status == "True"
    clock.now += 900
    with api.failing(DOWN):
        guard.look()
    assert guard.condition().status == "True"
