"""Containers as the runtime tells of them: through the helper to the agent, before their first
instruction, and never in their way.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from kpm.agent.runtime import Runtime
from kpm.helper.containers import PATIENCE
from kpm.helper.nri import Event, NriError, Plugin
from kpm.process.logs import Log
from kpm.process.threads import Threads
from kpm_planner.model.allocation import RuntimeCpus
from tests.helper.played_runtime import PlayedRuntime, box, container, pod
from tests.helper.running import helper, until

UID, OTHER = "0a1b2c3d-0000-4000-8000-000000000001", "0a1b2c3d-0000-4000-8000-000000000002"


@define
class Rig:
    """A runtime, the helper between, and the agent's end; `matters` says whose creation waits."""

    runtime: PlayedRuntime
    agent: Runtime
    matters: set[str] = field(factory=set)
    woken: list[None] = field(factory=list)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    (tmp_path / "sys").mkdir()
    runtime = PlayedRuntime(tmp_path / "nri.sock")
    with helper(tmp_path / "sys", tmp_path, nri=tmp_path / "nri.sock"):
        woken: list[None] = []
        matters: set[str] = set()
        agent = Runtime(
            str(tmp_path / "containers.sock"),
            lambda: woken.append(None),
            lambda uid, _name: uid in matters,
            Log(level="error"),
        )
        agent.start(Threads(Log(level="error")))
        runtime.take_plugin()
        made = Rig(runtime, agent, matters, woken)
        yield made
        agent.stop()
        runtime.end()


def test_what_runs_is_told_with_its_cpus_once_the_runtime_has_said_all(rig: Rig) -> None:
    """Synchronize at connect; until then nothing is known, and an agent that comes later is told
    the same.
    """
    assert not rig.agent.picture().known
    rig.runtime.synchronize(
        box(1, pod(UID)),
        box(2, container(UID, "app", "2-3", "c1")) + box(2, container(UID, "side", "", "c2")),
    )
    found = until(lambda: rig.agent.picture() if len(rig.agent.picture().containers) == 2 else None)
    assert found.containers == (
        RuntimeCpus(UID, "app", (2, 3), "c1"),
        RuntimeCpus(UID, "side", (), "c2"),
    )
    assert found.known


def test_a_container_of_nobodys_business_begins_at_once(rig: Rig) -> None:
    rig.runtime.synchronize()
    until(lambda: rig.agent.picture().known)
    assert sorted(rig.runtime.create(UID, "app", "1") for _ in range(50))[25] < PATIENCE / 5
    until(lambda: rig.agent.picture().containers == (RuntimeCpus(UID, "app", (1,), "c1"),))


def test_one_that_asks_for_a_profile_begins_when_the_agent_has_written(rig: Rig) -> None:
    """And not before; the quickest of a few says that it is the answer that it waits for, and not
    the end of patience.
    """
    rig.runtime.synchronize()
    until(lambda: rig.agent.picture().known)
    rig.matters.add(UID)
    taken = []
    for number in range(5):
        rig.woken.clear()
        seconds = in_background(partial(rig.runtime.create, UID, "app", "1", f"c{number}"))
        (creation,) = until(lambda: rig.agent.picture().created)
        assert (creation.uid, creation.container) == (UID, "app")
        assert rig.woken
        rig.agent.answer((creation,))
        taken += until(seconds)
        assert rig.agent.picture().created == ()
    assert min(taken) < PATIENCE * 0.8


def test_an_agent_that_does_not_answer_costs_a_quarter_of_a_second_and_no_more(rig: Rig) -> None:
    """And writes are served meanwhile: the agent needs them to be able to answer."""
    rig.runtime.synchronize()
    until(lambda: rig.agent.picture().known)
    rig.matters.add(UID)
    assert PATIENCE * 0.9 < rig.runtime.create(UID, "app", "1") < PATIENCE + 0.5


def test_without_an_agent_containers_begin_at_once(rig: Rig) -> None:
    """While it restarts nobody waits for it."""
    rig.runtime.synchronize()
    until(lambda: rig.agent.picture().known)
    rig.agent.stop()
    rig.matters.add(UID)
    time.sleep(0.2)
    assert min(rig.runtime.create(UID, "app", "1") for _ in range(3)) < PATIENCE * 0.8


def test_stopped_containers_go_and_updates_are_followed(rig: Rig) -> None:
    rig.runtime.synchronize(box(1, pod(UID)), box(2, container(UID, "app", "2-3", "c1")))
    until(lambda: rig.agent.picture().containers)
    rig.runtime.ask(
        "UpdateContainer",
        box(1, pod(UID)) + box(2, container(UID, "app", "2-3", "c1")) + box(3, box(2, box(6, "4"))),
    )
    until(lambda: rig.agent.picture().containers == (RuntimeCpus(UID, "app", (4,), "c1"),))
    rig.runtime.ask("StopContainer", box(1, pod(UID)) + box(2, container(UID, "app", "4", "c1")))
    until(lambda: rig.agent.picture().containers == ())


def test_a_runtime_that_goes_takes_what_it_said_with_it_and_one_that_comes_is_found(
    rig: Rig,
) -> None:
    rig.runtime.synchronize(box(1, pod(UID)), box(2, container(UID, "app", "2-3", "c1")))
    until(lambda: rig.agent.picture().known)
    rig.runtime.close()
    until(lambda: not rig.agent.picture().known)
    rig.runtime.channels = {1: b"", 2: b""}
    rig.runtime.take_plugin()
    rig.runtime.synchronize(box(1, pod(OTHER)), box(2, container(OTHER, "app", "5", "c9")))
    until(lambda: rig.agent.picture().containers == (RuntimeCpus(OTHER, "app", (5,), "c9"),), 20)


def test_a_list_in_pieces_is_asked_for_to_its_end(rig: Rig) -> None:
    """Newer runtimes send what runs in several messages and wait to be told that the plugin knows
    (`more`).
    """
    first = rig.runtime.synchronize(
        box(1, pod(UID)), box(2, container(UID, "a", "1", "c1")) + b"\x18\x01"
    )
    assert first == box(1, b"") + box(2, b"\x10\x01")
    assert rig.runtime.synchronize(b"", box(2, container(UID, "b", "2", "c2"))) == box(
        1, b""
    ) + box(2, b"")
    until(lambda: len(rig.agent.picture().containers) == 2)


@pytest.mark.parametrize("cpus", ["x", "0-", "9" * 500, "0-99999999", "-1"])
def test_odd_cpus_are_none(rig: Rig, cpus: str) -> None:
    rig.runtime.synchronize(box(1, pod(UID)), box(2, container(UID, "app", cpus, "c1")))
    assert until(lambda: rig.agent.picture().containers) == (RuntimeCpus(UID, "app", (), "c1"),)


@given(st.binary(max_size=200))
def test_whatever_a_runtime_says_is_an_event_an_answer_or_the_end_of_the_link(data: bytes) -> None:
    plugin = Plugin()
    with contextlib.suppress(NriError):
        for item in plugin.take(data):
            assert isinstance(item, bytes | Event)


@given(st.lists(st.integers(1, 9), max_size=30))
def test_a_stream_means_the_same_however_it_is_cut(cuts: list[int]) -> None:
    """Frames and messages come in any pieces."""
    whole = bytearray()

    class Recorder:
        def sendall(self, piece: bytes) -> None:
            whole.extend(piece)

    side = object.__new__(PlayedRuntime)
    side.link = Recorder()  # type: ignore[assignment]
    side.send(
        1,
        3,
        1,
        box(1, "s")
        + box(2, "StopContainer")
        + box(3, box(1, pod(UID)) + box(2, container(UID, "app", "1-2"))),
    )
    plugin, found, at = Plugin(), [], 0
    for size in [*cuts, len(whole)]:
        found += list(plugin.take(bytes(whole[at : at + size])))
        at += size
    kinds = [item.kind for item in found if isinstance(item, Event)]
    assert (kinds, len(found)) == (["gone"], 2)


def in_background(call: Callable[[], float]) -> Callable[[], list[float]]:
    """Run a call in a thread; what it returned, once it has."""
    done: list[float] = []
    threading.Thread(target=lambda: done.append(call()), daemon=True).start()
    return lambda: done
