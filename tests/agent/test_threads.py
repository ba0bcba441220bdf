"""A thread that ends is noticed: it begins anew in place, and /healthz says where that does not
help.
"""

import itertools
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kpm.agent import hotplug
from kpm.agent.external import External
from kpm.agent.runtime import Runtime
from kpm.energy.collector import EnergyMeter, EnergySettings
from kpm.energy.sampler import Roots, Sampler
from kpm.kube.api import ApiError, Resource
from kpm.kube.informer import ApiListWatch, Informer
from kpm.kube.lease import Lease
from kpm.process.serving import serve
from kpm.process.threads import Threads
from kpm_planner.model.cap_objects import PowerCap
from tests.agent.http_server import serving
from tests.agent.memory_api import Clock, MemoryApi
from tests.agent.test_caps import NAMESPACE, of_map
from tests.agent.test_run import Rig
from tests.captured import CapturingLog
from tests.helper.running import until

KINDS = (
    ValueError,
    KeyError,
    RecursionError,
    MemoryError,
    OSError,
    RuntimeError,
    SystemExit,
    KeyboardInterrupt,
)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_thread_raises_it_begins_anew(kind: type[BaseException]) -> None:
    log, runs, stop = CapturingLog(), itertools.count(), threading.Event()

    def run() -> None:
        if next(runs) == 0:
            raise kind("odd")
        stop.wait(10)

    threads = Threads(log, first_pause=0.01)
    thread = threads.start("it", run, stop.is_set)
    until(lambda: log.calls)
    assert log.calls[0] == (
        "error",
        "thread ended",
        {"thread": "it", "why": f"{kind.__name__}: {kind('odd')}", "again_in": 0.01},
    )
    time.sleep(0.1)
    assert thread.is_alive()
    assert threads.trouble() == ""
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_one_that_stands_still_is_no_health() -> None:
    """It goes round no more, and Python cannot end it: the process begins anew.

    One that waits for events says nothing and is well.
    """
    clock, stop, stuck = Clock(), threading.Event(), threading.Event()
    threads = Threads(CapturingLog(), monotonic=clock)

    def run() -> None:
        threads.turn("round")
        stuck.wait(10)

    thread = threads.start("round", run, stop.is_set, longest=60.0)
    other = threads.start("waits", lambda: stuck.wait(10), stop.is_set)
    until(thread.is_alive)
    time.sleep(0.05)
    clock.now += 59
    assert threads.trouble() == ""
    clock.now += 3_000
    assert threads.trouble().startswith("thread round stands still for 3")
    threads.turn("round")
    assert threads.trouble() == ""
    stop.set()
    stuck.set()
    thread.join(5)
    other.join(5)


@pytest.mark.parametrize("name", ["reports", "energy", "lease", "informer-pods", "http"])
def test_the_threads_that_go_round_say_so(name: str, tmp_path: Path) -> None:
    """Each with a turn that has a longest time."""
    stop = threading.Event()
    threads = Threads(CapturingLog())
    if name == "reports":
        made = Rig().agent.reports
        made.start(threads)
        end: Callable[[], object] = made.stop
    elif name == "energy":
        meter = EnergyMeter(
            "n", EnergySettings(interval=0.01), Sampler(Roots(str(tmp_path))), CapturingLog()
        )
        meter.start(threads)
        end = meter.stop
    elif name == "informer-pods":
        informer = Informer(
            "pods",
            ApiListWatch(MemoryApi(failure=ApiError(0, "Down", "")), Resource("", "v1", "pods")),
            lambda: None,
        )
        informer.start(threads)
        end = informer.stop
    elif name == "http":
        port = serve(name, 0, threads, lambda _path, _address: None)
        end = lambda: None  # noqa: E731
        threading.Timer(
            0.2, lambda: socket.create_connection(("localhost", port), timeout=5).close()
        ).start()
    else:
        lease = Lease(
            MemoryApi(),
            Resource("coordination.k8s.io", "v1", "leases", NAMESPACE),
            "m",
            "me",
            time.monotonic,
        )
        threads.start(
            name,
            lambda: lease.run(stop.set, stop.set, lambda: threads.turn(name)),
            lease.stopped,
            60.0,
        )
        end = lease.stop
    state = threads._states[name]
    assert state.longest is not None
    state.turn = -1.0
    if name == "reports":
        made.say(lambda _reporter: None)
    until(lambda: state.turn > 0)
    end()


def test_one_that_returns_without_being_told_to_has_ended_too() -> None:
    log, stop = CapturingLog(), threading.Event()
    thread = Threads(log, first_pause=0.01).start("it", lambda: None, stop.is_set)
    until(lambda: len(log.calls) >= 3)
    assert {fields["why"] for _, _, fields in log.calls} == {"it returned"}
    assert [fields["again_in"] for _, _, fields in log.calls[:3]] == [0.01, 0.02, 0.04]
    stop.set()
    thread.join(5)


def test_five_beginnings_within_ten_minutes_are_no_health() -> None:
    stop = threading.Event()
    threads = Threads(CapturingLog(), first_pause=0.001)
    thread = threads.start("poor", lambda: None, stop.is_set)
    assert "thread poor began anew" in until(threads.trouble)
    stop.set()
    thread.join(15)


def test_what_was_long_ago_is_forgotten() -> None:
    clock, stop = Clock(now=0.0), threading.Event()
    threads = Threads(CapturingLog(), first_pause=0.0, monotonic=clock)
    thread = threads.start(
        "poor", lambda: time.sleep(0.001) if clock.now < 1 else stop.wait(10), stop.is_set
    )
    time.sleep(0.05)
    state = threads._states["poor"]
    state.beginnings, clock.now = [0.0] * 5, 599.0
    assert threads.trouble()
    clock.now = 601.0
    assert not [at for at in state.beginnings if clock.now - at < 600.0]
    stop.set()
    thread.join(5)


def test_one_that_stays_down_for_half_a_minute_is_no_health() -> None:
    clock = Clock(now=0.0)
    threads = Threads(CapturingLog(), monotonic=clock)
    threads._states["down"] = SimpleNamespace(down=0.0, beginnings=[])  # type: ignore[assignment]
    clock.now = 29.0
    assert threads.trouble() == ""
    clock.now = 31.0
    assert threads.trouble() == "thread down is down for 31 s"


def test_an_agent_whose_thread_is_in_trouble_is_not_healthy() -> None:
    rig = Rig()
    rig.agent.last_tick = time.monotonic()
    assert rig.agent.healthy()
    threads = rig.agent.cluster.threads
    threads._states["x"] = SimpleNamespace(down=time.monotonic() - 60, beginnings=[])  # type: ignore[assignment]
    try:
        assert not rig.agent.healthy()
    finally:
        threads._states.clear()


# --- each thread that there is ---


def failing_once(
    real: Callable[..., Any], kind: type[BaseException], calls: list[int]
) -> Callable[..., Any]:
    def call(*args: Any, **words: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise kind("odd")
        return real(*args, **words)

    return call


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["informer", "lease", "runtime", "energy", "external", "http", "hotplug"]
)
def test_every_thread_goes_on_after_whatever_it_raises(
    name: str, kind: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its innermost step fails once, and is made again."""
    log = CapturingLog()
    threads, calls = Threads(log, first_pause=0.01), list[int]()
    monkeypatch.setattr("kpm.kube.informer._FIRST_WAIT", 0.01)
    monkeypatch.setattr("kpm.kube.lease._PERIOD", 0.01)
    monkeypatch.setattr("kpm.agent.runtime._RETRY", 0.01)
    monkeypatch.setattr("kpm.agent.hotplug._PAUSE", 0.01)
    monkeypatch.setattr("kpm.agent.hotplug._RETRY", 0.01)
    stop: Callable[[], object] = list
    match name:
        case "informer":
            with serving() as server:
                informer = Informer(
                    "things", ApiListWatch(server.api(), Resource("", "v1", "things")), lambda: None
                )
            monkeypatch.setattr(
                Informer, "follow_once", failing_once(lambda _: time.sleep(0.01), kind, calls)
            )
            informer.start(threads)
            stop = informer.stop
        case "lease":
            lease = Lease(
                MemoryApi(),
                Resource("coordination.k8s.io", "v1", "leases", "x"),
                "l",
                "me",
                time.monotonic,
            )
            monkeypatch.setattr(Lease, "step", failing_once(lambda _: None, kind, calls))
            threads.start("lease", lambda: lease.run(lambda: None, lambda: None), lease.stopped)
            stop = lease.stop
        case "runtime":
            runtime = Runtime(
                str(tmp_path / "none.sock"), lambda: None, lambda _uid, _name: False, log
            )
            monkeypatch.setattr(
                Runtime, "_listen", failing_once(lambda _: time.sleep(0.01), kind, calls)
            )
            runtime.start(threads)
            stop = runtime.stop
        case "energy":
            meter = EnergyMeter(
                "n",
                EnergySettings(interval=0.01, proc=str(tmp_path)),
                Sampler(Roots(str(tmp_path))),
                log,
            )
            monkeypatch.setattr(EnergyMeter, "sample", failing_once(lambda _: None, kind, calls))
            meter._view = SimpleNamespace(cpus=(1,))  # type: ignore[assignment]
            meter.start(threads)
            stop = meter.stop
        case "external":
            external = External(MemoryApi(), NAMESPACE, log, lambda: None, threads)
            monkeypatch.setattr(
                External, "_ask", failing_once(lambda _self, _cap: None, kind, calls)
            )
            monkeypatch.setattr(PowerCap, "interval", timedelta(milliseconds=10))
            external.follow(of_map())
            stop = external.stop
        case "http":
            monkeypatch.setattr(
                "kpm.process.serving.Server.run",
                failing_once(lambda _self: time.sleep(60), kind, calls),
            )
            serve("http", 0, threads, lambda _path, _address: None)
        case "hotplug":

            def get() -> list[object]:
                time.sleep(0.01)
                return []

            source = SimpleNamespace(get=failing_once(get, kind, calls))
            monkeypatch.setattr(hotplug, "_bound", lambda _log: source)
            hotplug.listen(lambda _cpus: None, log, threads)
    until(lambda: len(calls) >= 2)
    assert threads.trouble() == ""
    stop()
