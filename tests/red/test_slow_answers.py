"""An answer may be as slow as it likes: whoever waits for it goes on, and pods are tuned meanwhile.

A server that is down is easy. One that hangs costs the time that a read may be silent, and one that
drips costs more, as each byte is a sign of life: so every phase of an answer has a time as a whole,
connection, handshake, status line, headers, body, trailers, and what the decoder swallows. A watch
lives by its events and bookmarks alone. Here each way to be slow lasts several times as long as
stated and would end well: whoever took that answer has waited for too long. No clock is compared,
and what would wait for its time alone waits beside all others, so that a busy machine makes nothing
fail and nobody wait.
"""

import gzip
import io
import queue
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3
from attrs import define, field, frozen
from kubernetes.client import Configuration

from kpm.agent.agent import Agent
from kpm.agent.build import Settings, build_agent
from kpm.agent.cluster import Cluster
from kpm.agent.report import Reporter
from kpm.agent.reports import Reports
from kpm.kube.access import Access, from_configuration
from kpm.kube.api import SILENT, Api, ApiError, Resource
from kpm.kube.events import Recorder
from kpm.kube.informer import ApiListWatch, Informer
from kpm.process.logs import Log
from kpm.process.threads import Threads
from kpm.request.machines import MachineSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.report.types import PowerNodeStatus
from tests.agent.http_server import serving
from tests.bench.bench_latency import GROUP, NAMESPACE, PlayedApi, play, pod
from tests.helper.running import until
from tests.trees import write_tree

THINGS = Resource("", "v1", "things")
#: Seconds: between two drops, for which an answer drips, and the stated time of each wait.
PACE, DRIPS, STATED = 0.05, 4.0, 0.7
#: A thread that goes on does so within this; one that does not would wait for LONG.
SOON, LONG = 5.0, 30.0
LIST = b'{"metadata":{"resourceVersion":"1"},"items":[{"metadata":{"name":"a"}}]}'
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"2"}}}\n'


def sized(body: bytes) -> bytes:
    """The last header and a body."""
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


@frozen
class Way:
    """To be slow: what comes at once, what comes again and again, and what would end it well."""

    head: bytes = b""
    drop: bytes = b""
    tail: bytes = b""


REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\n"
#: A gzip member that gives the name of a file, which may be as long as it likes; and its end.
NAMED = OK + b"Content-Encoding: gzip\r\n" + CHUNKED + chunk(b"\x1f\x8b\x08\x08\0\0\0\0\0\x03")
MEMBER = b"\0" + gzip.compress(b"{}", mtime=0)[10:]
#: Three that stand for all: nothing comes, a header drips, a body drips.
FEW = ("accepted and silent", "a header without end", "a body by the byte")
#: An answer to any request.
ANSWERS: dict[str, Way] = {
    "accepted and silent": Way(b"", b"", OK + sized(b"{}")),
    "a status line without end": Way(OK[:14], b"O", OK[14:] + sized(b"{}")),
    "a header without end": Way(OK + b"X: ", b"x", b"\r\n" + sized(b"{}")),
    "headers by the byte": Way(OK, b"X: y\r\n", sized(b"{}")),
    "100 Continue for ever": Way(b"", b"HTTP/1.1 100 Continue\r\n\r\n", OK + sized(b"{}")),
    "a body by the byte": Way(OK + b"Content-Length: 90\r\n\r\n", b" ", b"{}".rjust(90)),
    "chunks without end": Way(OK + CHUNKED, chunk(b" "), chunk(b"{}") + chunk(b"")),
    "a chunk's size without end": Way(OK + CHUNKED, b"0", b"2\r\n{}\r\n" + chunk(b"")),
    "trailers without end": Way(OK + CHUNKED + chunk(b"{}") + b"0\r\n", b"X: y\r\n", b"\r\n"),
    "compressed to nothing": Way(NAMED, chunk(b"n"), chunk(MEMBER) + chunk(b"")),
    "a refusal by the byte": Way(REFUSED, b" ", b"{}".rjust(1000)),
}
#: TLS that is never answered, and a record that says how much is to come.
HANDSHAKES: dict[str, Way] = {
    "a handshake that is never answered": Way(),
    "a handshake by the byte": Way(b"\x16\x03\x03\x40\x00", b"\x02"),
}
EVENTS = OK + CHUNKED + chunk(BOOKMARK)
#: A watch after its first bookmark.
STREAMS: dict[str, Way] = {
    "silent beyond its bookmark": Way(EVENTS, b"", chunk(b"")),
    "blank lines for ever": Way(EVENTS, chunk(b"\n"), chunk(b"")),
    "an event without end": Way(EVENTS + chunk(b'{"type":"'), chunk(b"x"), chunk(b"")),
    "a chunk's size without end": Way(EVENTS, b"0", b"\r\n\r\n"),
    "trailers without end": Way(EVENTS + b"0\r\n", b"X: y\r\n", b"\r\n"),
}


@frozen
class Case:
    """How a server answers; whether it speaks TLS; how slow it is in TLS' handshake."""

    way: Way | None
    context: ssl.SSLContext | None = None
    handshake: Way | None = None


# --- a server that is slow ---


@define(eq=False)
class Slow:
    """A listener. way: how it answers, None for at once; only: which requests are answered so.

    seconds: for which it drips; handshake: what comes of TLS' by the byte, None for a good one.
    """

    way: Way | None = None
    only: Callable[[str], bool] = lambda _: True
    seconds: float = DRIPS
    handshake: Way | None = None
    port: int = 0
    asked: list[tuple[str, str, bytes]] = field(factory=list)
    slowly: list[str] = field(factory=list)
    closing: threading.Event = field(factory=threading.Event)

    def pour(self, write: Callable[[bytes], object], way: Way) -> None:
        """An answer that is slow this way."""
        write(way.head)
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends and not self.closing.wait(PACE):
            write(way.drop)
        write(way.tail)

    def answer(self, link: Any) -> None:
        """One request."""
        body = link.rfile.read(int(link.headers.get("Content-Length") or 0))
        self.asked.append((link.command, link.path, body))
        way = self.way if self.only(link.path) else None
        if way is not None:
            self.slowly.append(link.path)
            self.pour(link.wfile.write, way)
        elif "watch=true" in link.path:
            link.wfile.write(EVENTS)
            self.closing.wait(LONG)
        else:
            link.wfile.write(OK + sized(LIST))
        link.close_connection = True

    def api(self, scheme: str = "http") -> Api:
        """A client of it."""
        return Api(self.access(scheme))

    def access(self, scheme: str = "http") -> Access:
        """The same before it is one."""
        configuration = Configuration(host=f"{scheme}://127.0.0.1:{self.port}")
        configuration.proxy, configuration.verify_ssl = None, False
        return from_configuration(configuration)


@contextmanager
def listening(way: Way | None, context: ssl.SSLContext | None = None) -> Iterator[Slow]:
    """The server, running. context: it speaks TLS."""
    slow = Slow(way)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            slow.answer(self)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  # its names

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Listener(ThreadingHTTPServer):
        daemon_threads, request_queue_size = True, 64

        def finish_request(self, request: Any, client_address: Any) -> None:
            if slow.handshake is not None:
                slow.pour(request.sendall, slow.handshake)
            elif context is None:
                super().finish_request(request, client_address)
            else:
                with context.wrap_socket(request, server_side=True) as wrapped:
                    super().finish_request(wrapped, client_address)

        def handle_error(self, *_: Any) -> None:
            """A client that has gone is what is asked for."""

    http = Listener(("127.0.0.1", 0), Handler)
    slow.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield slow
    finally:
        slow.closing.set()
        http.shutdown()
        http.server_close()
        thread.join(5)


@pytest.fixture(scope="module")
def stated() -> Iterator[None]:
    """Every wait of a request has a short time, and what failed is tried again soon."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_CONNECT_SECONDS", "_READ_SECONDS", "_WHOLE_SECONDS"):
            patch.setattr(f"kpm.kube.api.{name}", STATED)
        patch.setattr("kpm.kube.informer._FIRST_WAIT", 0.02)
        patch.setattr("kpm.agent.report._FIRST_RETRY", 0.05)
        patch.setattr("kpm.agent.reports._PATIENCE", 0.1)
        yield


# --- a request ends within its time ---


def follow(api: Api) -> list[Any]:
    """A watch, to its end."""
    return list(api.watch(THINGS, {}, STATED, lambda _end: None))


VERBS: dict[str, Callable[[Api], Any]] = {
    "get": lambda api: api.get(THINGS, "a"),
    "list": lambda api: api.list(THINGS, {}),
    "patch": lambda api: api.patch(THINGS, "a", {"a": 1}),
    "create": lambda api: api.create(THINGS, {"a": 1}),
    "watch": follow,
}


def outcome(ask: Callable[[Api], Any], api: Api) -> str:
    """How a request ended."""
    try:
        ask(api)
    except ApiError as failure:
        return "ended" if failure.status == 0 else str(failure.status)
    return "waited for"


@frozen
class Met:
    """What became of requests: how each verb ended, how often the server was asked meanwhile."""

    ended: dict[str, str]
    asked: int


def meet(case: Case) -> Met:
    """Every verb at once; then the server is well, and the same client is too."""
    with listening(case.way, case.context) as slow:
        slow.handshake = case.handshake
        api = slow.api("https" if case.context else "http")
        with ThreadPoolExecutor(len(VERBS)) as pool:
            ended = list(pool.map(lambda ask: outcome(ask, api), VERBS.values()))
        asked = len(slow.slowly)
        slow.way = slow.handshake = None
        until(lambda: outcome(VERBS["list"], api) == "waited for")
        api.close()
        return Met(dict(zip(VERBS, ended, strict=True)), asked)


def watch(way: Way) -> tuple[list[str], str]:
    """What a watch brings, and why it ends."""
    found: list[str] = []
    with listening(way) as slow:
        api = slow.api()
        try:
            for event in api.watch(THINGS, {}, STATED, lambda _end: None):
                found.append(event["type"])
        except ApiError as failure:
            return found, failure.reason
        finally:
            api.close()
    return found, "the server"


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's side of TLS."""
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=kube-apiserver"
    files = ["-keyout", "key.pem", "-out", "crt.pem"]
    subprocess.run(["openssl", *words.split(), *files], cwd=folder, check=True, capture_output=True)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "crt.pem", folder / "key.pem")
    return made


@pytest.fixture(scope="module")
def met(context: ssl.SSLContext, stated: None) -> dict[str, Met]:
    """What became of the requests of every case, all of them at once."""
    cases = {name: Case(way) for name, way in ANSWERS.items()}
    cases |= {f"{name}, over TLS": Case(ANSWERS[name], context) for name in FEW}
    cases |= {name: Case(None, context, way) for name, way in HANDSHAKES.items()}
    urllib3.disable_warnings()
    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(meet, cases.values()), strict=True))


@pytest.fixture(scope="module")
def watched(stated: None) -> dict[str, tuple[list[str], str]]:
    """What became of every watch, all of them at once."""
    with ThreadPoolExecutor(len(STREAMS)) as pool:
        return dict(zip(STREAMS, pool.map(watch, STREAMS.values()), strict=True))


@pytest.mark.parametrize("name", [*ANSWERS, *(f"{name}, over TLS" for name in FEW), *HANDSHAKES])
def test_a_request_ends_within_its_time(met: dict[str, Met], name: str) -> None:
    """Whatever it asks for, a watch too, as none of it is an event; the next answer is taken.

    Of a watch that is refused the status is known, and how soon to come back depends on it.
    """
    refused = {"watch": "403"} if name == "a refusal by the byte" else {}
    assert met[name].ended == {**dict.fromkeys(VERBS, "ended"), **refused}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_request_that_ended_is_not_made_again(met: dict[str, Met], name: str) -> None:
    """That is for whoever asked."""
    assert met[name].asked == len(VERBS)


@pytest.mark.parametrize("name", STREAMS)
def test_a_watch_lives_by_its_events(watched: dict[str, tuple[list[str], str]], name: str) -> None:
    """What came before is given; what is no event is no sign of life."""
    assert watched[name] == (["BOOKMARK"], SILENT)


@pytest.mark.usefixtures("stated")
def test_a_token_that_is_refused_slowly_is_exchanged() -> None:
    """The refusal's status says it all: its body is not waited for."""
    refusal = Way(b"HTTP/1.1 401 No\r\nContent-Length: 1000\r\n\r\n", b" ", b"{}".rjust(1000))
    with listening(refusal) as slow:
        plain = slow.access()

        def headers(anew: bool) -> dict[str, str]:
            slow.way = None if anew else refusal
            return {"Authorization": "new" if anew else "old"}

        slow.seconds = LONG
        found = queue.SimpleQueue[str]()
        api = Api(Access(plain.url, plain.pool, headers))
        ask = threading.Thread(target=lambda: found.put(outcome(VERBS["get"], api)), daemon=True)
        ask.start()
        assert found.get(timeout=SOON) == "waited for", "the second answer is taken"
        api.close()


# --- threads go on ---


@pytest.mark.usefixtures("stated")
@pytest.mark.parametrize("name", FEW)
def test_threads_go_on(name: str) -> None:
    """Of the reports, of an informer whose LIST page is slow, of one whose watch is: in place."""
    log, heard = Log(stream=io.StringIO()), set[str]()
    threads = Threads(log)
    with listening(ANSWERS[name]) as slow:
        slow.seconds = LONG
        slow.only = lambda path: ("watch=true" in path, "/watched" in path) != (False, True)
        api, kinds = slow.api(), ("listed", "watched")
        sources = [ApiListWatch(api, Resource("", "v1", kind), silence=STATED) for kind in kinds]
        informers = [Informer(*pair, lambda: None) for pair in zip(kinds, sources, strict=True)]
        running = [informer.start(threads) for informer in informers]
        recorder = Recorder(api, "agent", "n", NAMESPACE, log, time.monotonic)
        reports = Reports(Reporter(api, GROUP, NAMESPACE, "n", recorder, log, time.monotonic))
        reports.start(threads)
        reports.tell(lambda reporter: reporter.event("First", "is never answered"))
        parts = ("/listed", "/watched", "/events")
        until(lambda: all(any(part in path for path in slow.slowly) for part in parts))
        met = len([path for path in slow.slowly if "/watched" in path])
        slow.way = None
        reports.tell(lambda reporter: reporter.event("Next", "is answered"))

        def gone_on() -> bool:
            asked = list(slow.asked)
            watches = [path for _, path, _ in asked if "/watched" in path and "watch=" in path]
            heard.update({"watched"} if len(watches) > met else ())
            heard.update({"listed"} if informers[0].get("a") is not None else ())
            heard.update({"reports"} if any(b"Next" in body for *_, body in asked) else ())
            return len(heard) == 3

        ends = time.monotonic() + SOON
        while not gone_on() and time.monotonic() < ends:
            time.sleep(0.02)
        assert heard == {"listed", "watched", "reports"}
        assert all(thread.is_alive() for thread in running)
        assert not threads.trouble()
        for informer in informers:
            informer.stop()
        reports.stop()
        api.close()


@pytest.mark.usefixtures("stated")
def test_a_write_without_an_answer_may_have_been_taken() -> None:
    """So what the object had before is said again, where that is what holds now."""
    log = Log(stream=io.StringIO())
    before, after = (PowerNodeStatus(shared_pool=text) for text in ("before", "after"))
    with listening(None) as slow:
        api = slow.api()
        recorder = Recorder(api, "agent", "n", NAMESPACE, log, time.monotonic)
        reporter = Reporter(api, GROUP, NAMESPACE, "n", recorder, log, time.monotonic)
        reporter.lines(before)
        slow.way = ANSWERS["accepted and silent"]
        reporter.lines(after)
        until(lambda: slow.slowly)
        slow.way = None
        reporter.hurry()
        reporter.lines(before)
        sent = ["after" if b"after" in body else "before" for *_, body in slow.asked]
        assert sent == ["before", "after", "before"]
        api.close()


# --- pods are tuned meanwhile ---

SPEC = MachineSpec(cores=8, epp="balance_performance")
SHARED, FAST = "1670000", "3555000"


class Node:
    """A whole agent in this process, on a tree, with the stated times of requests as they are."""

    def __init__(self, folder: Path, played: PlayedApi, api: Api) -> None:
        self.folder, self.played = folder, played
        self.held: dict[str, frozenset[int]] = {}
        write_tree(KernelModel(build_machine(SPEC)), folder)
        play(played, "n", len(build_machine(SPEC).by_id))
        wake, log = threading.Event(), Log(stream=io.StringIO())
        threads = Threads(log)
        trouble: Any = lambda *_: None  # noqa: E731
        cluster = Cluster(api, "n", GROUP, NAMESPACE, wake.set, trouble, threads)
        places = (str(folder / "sys"), str(folder / "state"), str(folder / "none"))
        settings = Settings("n", GROUP, NAMESPACE, *places)
        self.agent: Agent = build_agent(settings, cluster, wake, log)
        self.agent.kubelet.list_cpus = lambda _: self.listed()
        self.agent.kubelet.allocatable_cpus = lambda _: frozenset(range(2, 8))
        self.thread = threading.Thread(target=self.agent.run, daemon=True)
        self.thread.start()
        self.limit(7, SHARED)

    def listed(self) -> tuple[ContainerCpus, ...]:
        """What the kubelet lists."""
        held = tuple(self.held.items())
        return tuple(ContainerCpus("default", name, "app", cpus) for name, cpus in held)

    def limit(self, cpu: int, khz: str) -> None:
        """Until a CPU has a limit."""
        path = self.folder / f"sys/devices/system/cpu/cpufreq/policy{cpu}/scaling_max_freq"
        until(lambda: path.read_text().strip() == khz)

    def come(self, name: str, *cpus: int) -> None:
        """A pod appears, and is tuned."""
        self.held[name] = frozenset(cpus)
        self.played.put("pods", pod(name, "n", len(cpus)))
        for cpu in cpus:
            self.limit(cpu, FAST)

    def go(self, name: str) -> None:
        """It goes, and its CPUs are shared again."""
        cpus = self.held.pop(name)
        self.played.delete("pods", name)
        for cpu in cpus:
            self.limit(cpu, SHARED)

    def fast(self, most: str) -> None:
        """Somebody changes the pods' profile."""
        profile = self.played.objects["powerprofiles"]["performance"]
        profile["spec"]["pstates"]["max"] = most
        self.played.put("powerprofiles", profile)

    def reported(self) -> set[str]:
        """Pods of the last report of the node that the server was sent."""
        sent = [item for item in self.played.server.requests if "/powernodestates/" in item.target]
        groups = [item.document["status"] for item in sent if item.method == "PATCH"][-1:]
        return {name for name in ("first", "second") if name in str(groups)}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, stated: None) -> Iterator[Node]:
    """The agent, running; it is told to end at the end."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("kpm.kube.informer._FIRST_WAIT", 0.02)
        patch.setattr("kpm.agent.report._FIRST_RETRY", 0.05)
        patch.setattr("kpm.kube.api._READ_SECONDS", LONG)
        patch.setattr("kpm.kube.api._WHOLE_SECONDS", LONG)
        played = PlayedApi(server)
        api = server.api()
        made = Node(tmp_path_factory.mktemp("node"), played, api)
        yield made
        played.slow(None)
        made.agent.stop()
        made.thread.join(10)
        assert not made.thread.is_alive()
        api.close()


def poured(way: Way) -> Callable[[Any, threading.Event], None]:
    """An answer that is slow this way until it is told to end."""

    def write(link: Any, ends: threading.Event) -> None:
        link.wfile.write(way.head)
        while not ends.wait(PACE):
            link.wfile.write(way.drop)
            link.wfile.flush()
        link.wfile.write(way.tail)

    return write


@pytest.mark.parametrize("name", ANSWERS)
def test_pods_are_tuned_meanwhile(node: Node, name: str) -> None:
    """While reports are answered so, and a kind whose watch has ended and is opened anew.

    When all is well again, the newest is reported and the kind's news is taken.
    """
    played, opened, ends = node.played, threading.Event(), threading.Event()
    whole, pour = played.server.write, poured(ANSWERS[name])
    assert whole is not None

    def write(link: Any) -> None:
        if "/powerprofiles" in link.path and not ends.is_set():
            opened.set()
            pour(link, ends)
        else:
            whole(link)

    played.server.write = write
    played.end_watches("powerprofiles")
    played.slow(pour)
    node.come("first", 2, 3)
    until(lambda: played.waiting > 0 and opened.is_set())
    node.come("second", 4, 5)
    node.go("first")
    assert played.waiting > 0
    assert node.agent.healthy()
    ends.set()
    played.slow(None)
    until(lambda: node.reported() == {"second"})
    node.fast("90%")
    node.limit(4, "3410000")
    node.fast("95%")
    node.limit(4, FAST)
    node.go("second")
    until(lambda: node.reported() == set())
    played.server.write = whole
