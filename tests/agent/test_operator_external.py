"""The operator asks servers for the sake of power caps: whom it may, no address of its own machine,
and it believes nothing.
"""

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from kpm.operator.external import External, host_of, host_problem
from kpm.process.fetching import fetch, fetch_outside, outside_address
from kpm.process.threads import Threads
from kpm_planner.report.rollup import PublishedWatts
from tests.agent.clusters import World
from tests.agent.http_server import Server, serving
from tests.agent.test_caps import of_address, of_map, wait_for
from tests.captured import CapturingLog

HERE = ("127.0.0.1",)


@pytest.fixture
def external() -> Iterator[Callable[..., External]]:
    made: list[External] = []

    def make(hosts: tuple[str, ...] = HERE, ask: Callable[[str, int], bytes] = fetch) -> External:
        made.append(External(hosts, CapturingLog(), lambda: None, Threads(CapturingLog()), ask))
        return made[-1]

    yield make
    for item in made:
        item.stop()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def answer(made: External, url: str) -> str | None:
    """What one question gives, without the thread."""
    wanted = of_address(url)
    made._thread = threading.current_thread()
    made.follow([wanted])
    if wanted.meta.name in made._asked:
        made._ask(made._asked[wanted.meta.name].cap)
    found = made.published().get("budget")
    return None if found is None else found.watts


# --- whom ---


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://evil.example/",
        "http://127.0.0.1.evil.example/",
        "file:///etc/passwd",
        "http://[",
        "",
        "x",
    ],
)
def test_nobody_is_asked_whom_the_settings_do_not_name(
    external: Callable[..., External], url: str
) -> None:
    """By the whole name of the host."""
    asked: list[str] = []

    def ask(url: str, _most: int) -> bytes:
        asked.append(url)
        return b"1"

    assert answer(external(ask=ask), url) is None
    assert asked == []


def test_by_default_nobody_may_be_asked(external: Callable[..., External], server: Server) -> None:
    """Who writes a PowerCap does not choose whom the operator asks; the object says so."""
    assert answer(external(hosts=()), f"http://127.0.0.1:{server.port}/") is None
    problem = host_problem(of_address("http://meter.example/"), ())
    assert problem is not None
    assert (problem.code, problem.object, problem.field) == (
        "cap-host",
        "PowerCap/budget",
        "spec.source.external.url",
    )
    assert host_problem(of_map(), ()) is None
    assert [
        host_of(url) for url in ("http://Meter.Example./x", "http://a@meter:8/", "http://[::1]/")
    ] == ["meter.example", "meter", "::1"]


INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "::1",
    "::",
    "169.254.169.254",
    "fe80::1",
    "224.0.0.1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "::127.0.0.1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_no_address_of_this_machine_or_its_link_is_asked(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever name leads there, in whichever spelling, and though another address of that name is
    fine.
    """
    for found in ([address], ["192.0.2.7", address]):
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *_a, found=found, **_k: [(0, 0, 0, "", (item, 80)) for item in found],
        )
        with pytest.raises(PermissionError, match="is not asked"):
            outside_address("meter.example", 80)


@pytest.mark.parametrize(
    "address", ["192.168.1.9", "10.0.0.7", "8.8.8.8", "2001:db8::7", "fd00::7", "64:ff9b::808:808"]
)
def test_other_addresses_are(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: [(0, 0, 0, "", (address, 80))])
    assert outside_address("meter.example", 80) == address


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere a moment later (rebinding) leads
    nowhere: it is looked up once.
    """
    looked: list[str] = []

    def outside(host: str, _port: int) -> str:
        looked.append(host)
        return "127.0.0.1"

    monkeypatch.setattr("kpm.process.fetching.outside_address", outside)
    server.say(200, b"240")
    assert fetch_outside(f"http://meter.example:{server.port}/watts", 10) == b"240"
    assert looked == ["meter.example"]
    assert {key.lower(): value for key, value in server.requests[0].headers.items()}[
        "host"
    ] == f"meter.example:{server.port}"


def test_a_loopback_server_is_refused_by_the_one_that_operators_use(server: Server) -> None:
    with pytest.raises(PermissionError):
        fetch_outside(f"http://localhost:{server.port}/", 10)
    assert server.requests == []


# --- what they answer ---


def test_a_server_is_asked_without_credentials(
    external: Callable[..., External], server: Server
) -> None:
    server.say(200, b"240\n")
    assert answer(external(), f"http://127.0.0.1:{server.port}/watts") == "240"
    (request,) = server.requests
    assert not {"authorization", "cookie"} & {key.lower() for key in request.headers}


def test_a_redirect_is_not_followed(external: Callable[..., External], server: Server) -> None:
    """Else the server would choose what is asked next."""
    server.say(302, b"", Location=f"http://127.0.0.1:{server.port}/other")
    assert answer(external(), f"http://127.0.0.1:{server.port}/watts") is None
    assert [item.target for item in server.requests] == ["/watts"]


@pytest.mark.parametrize(
    "body", [b"9" * (1 << 20), b"\xff\xfe", b"<html>240</html>", b"240; drop", b""]
)
def test_an_answer_is_cut_and_must_be_a_number(
    external: Callable[..., External], server: Server, body: bytes
) -> None:
    server.say(200, body)
    assert answer(external(), f"http://127.0.0.1:{server.port}/") is None


def test_an_answer_that_is_cut_short_is_none(
    external: Callable[..., External], server: Server
) -> None:
    """Else twelve thousand watts would become twelve."""

    def short(link: Any) -> None:
        link.send_response(200)
        link.send_header("Content-Length", "5")
        link.end_headers()
        link.wfile.write(b"12")
        link.close_connection = True

    server.write = short
    assert answer(external(), f"http://127.0.0.1:{server.port}/") is None


def test_a_server_that_drips_is_left(
    external: Callable[..., External], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers and all: one source must not hold up what comes after it."""
    monkeypatch.setattr("kpm.process.fetching._LONGEST_WAIT", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def drip() -> None:
            link, _ = listener.accept()
            with link, suppress(OSError):
                for byte in itertools.cycle(b"HTTP/1.1 200 OK\r\nX: y"):
                    link.send(bytes([byte]))
                    time.sleep(0.02)

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        assert answer(external(), f"http://127.0.0.1:{listener.getsockname()[1]}/") is None
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:99999999999999999999/",
        "http://127.0.0.1:1/",
        "http://127.0.0.1:1/\r\nX: y",
        "https://127.0.0.1:1/",
    ],
)
def test_no_address_ends_the_thread(
    external: Callable[..., External], server: Server, url: str
) -> None:
    """The next cap is followed as if there had been no other."""
    server.say(200, b"100")
    made = external()
    made.follow([of_address(url)])
    wait_for(lambda: made.log.calls)  # type: ignore[attr-defined]
    made.follow([of_address(f"http://127.0.0.1:{server.port}/")])
    assert wait_for(made.published)["budget"].watts == "100"
    made.follow([])
    assert made.published() == {}


# --- what is published ---


def test_a_number_is_published_when_it_changes_and_before_it_is_too_old(
    external: Callable[..., External],
) -> None:
    """Every node's agent watches the status: what is the same is not written again each period."""
    said, heard = [b"240"], []
    made = external(ask=lambda *_: said[0])
    made.changed = lambda: heard.append(1)
    url = "http://127.0.0.1/"
    for _ in range(5):
        assert answer(made, url) == "240"
    assert len(heard) == 1
    said[0] = b"250"
    assert (answer(made, url), len(heard)) == ("250", 2)
    old = (datetime.now(UTC) - timedelta(minutes=4)).strftime("%Y-%m-%dT%H:%M:%SZ")
    made._found["budget"] = PublishedWatts("250", old)
    assert (answer(made, url), len(heard)) == ("250", 3)
    assert made.published()["budget"].at > old


def test_the_status_of_a_cap_has_what_its_server_said() -> None:
    """An operator that has just begun leaves what stands there; of a server that it may not ask
    nothing stands there.
    """
    world = World()
    external = {"url": "http://meter.example/watts"}
    world.put(
        "powercaps",
        "budget",
        {"nodeSelector": {"labelSelector": {}}, "source": {"external": external}},
    )
    told = PublishedWatts("240", "2026-01-01T12:00:00Z")

    def settle(**fields: Any) -> Any:
        world.more = lambda seen: evolve(seen, **fields)
        world.settle()
        return world.status("powercaps", "budget")

    assert "external" not in settle(hosts=())
    assert "meter.example" in world.status("powercaps", "budget")["errors"][0]
    hosts = ("meter.example",)
    assert settle(hosts=hosts, published={"budget": told}) == {
        "errors": [],
        "external": {"watts": "240", "at": told.at},
    }
    assert settle(hosts=hosts)["external"]["watts"] == "240"
    assert "external" not in settle(hosts=())
