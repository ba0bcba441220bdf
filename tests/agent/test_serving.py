"""The ports of agent and operator, attacked: a flood of slow readers costs neither probes nor the
process.
"""

import http.client
import resource
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from kpm.cli.serving_options import ServingOptions
from kpm.process.errors import InputError
from kpm.process.serving import Server, health_answers, listen, metric_answers, serve_all
from kpm.process.threads import Threads
from tests.captured import CapturingLog
from tests.helper.running import until

HEALTH = health_answers(lambda: True, lambda: True)


def plain(path: str, _address: str) -> tuple[int, bytes] | None:
    """One page."""
    return (200, b"yes\n") if path == "/" else None


@pytest.fixture
def serving() -> Callable[..., Server]:
    """Servers on ports that the kernel chooses."""

    def make(**settings: object) -> Server:
        made = Server(listen(0), plain, CapturingLog(), **settings)  # type: ignore[arg-type]
        threading.Thread(target=made.run, daemon=True).start()
        return made

    return make


def ask(port: int, path: str = "/", host: str = "127.0.0.1", seconds: float = 5.0) -> int:
    """The status of an answer."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_both_versions_of_ip_are_answered(serving: Callable[..., Server]) -> None:
    """One socket for both."""
    port = serving().port
    assert ask(port) == 200
    assert ask(port, "/else") == 404
    if socket.has_ipv6:
        assert ask(port, host="::1") == 200


def test_without_ipv6_the_older_version_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was booted without it refuses the family."""
    plain_socket = socket.socket

    def refusing(family: int, *words: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return plain_socket(family, *words)

    monkeypatch.setattr("kpm.process.serving.socket.socket", refusing)
    made = listen(0)
    assert made.family == socket.AF_INET
    made.close()


def test_a_port_that_is_taken_is_an_error() -> None:
    """It is not tried again with the older version, which would hide it."""
    first = listen(0)
    with pytest.raises(OSError, match="in use"):
        listen(first.getsockname()[1])
    first.close()


def test_who_says_nothing_is_ended_for_those_who_come_later(serving: Callable[..., Server]) -> None:
    """Three hundred that hold their connections: a probe is answered all the same, and threads stay
    few.
    """
    made = serving(most=8)
    before = threading.active_count()
    silent = [socket.create_connection(("127.0.0.1", made.port)) for _ in range(300)]
    assert ask(made.port) == 200
    assert threading.active_count() - before <= 2 * 8
    for item in silent:
        item.close()


def test_a_request_that_drips_has_its_time_as_a_whole(serving: Callable[..., Server]) -> None:
    """A byte now and then does not make it last."""
    made = serving(seconds=0.6)
    with socket.create_connection(("127.0.0.1", made.port)) as slow:
        slow.settimeout(0.1)
        began, ended = time.monotonic(), 0.0
        while time.monotonic() - began < 5:
            try:
                slow.send(b"G")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        ended = time.monotonic() - began
    assert ended < 2.5
    assert until(lambda: not made._open, 2)


def test_an_answer_that_nobody_takes_ends_too(serving: Callable[..., Server]) -> None:
    """The buffers are full, and the thread goes after its time."""
    made = serving(seconds=0.5)
    made.answers = lambda _path, _address: (200, b"x" * (32 << 20))
    with socket.create_connection(("127.0.0.1", made.port)) as slow:
        slow.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert until(lambda: bool(made._open), 2)
        assert until(lambda: not made._open, 3)


def test_without_descriptors_the_loop_waits_and_says_so_once(
    serving: Callable[..., Server],
) -> None:
    """Accepting fails for a while: hardly any time of a CPU goes by, and afterwards all is well."""
    made = serving()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket()
    highest = max(made.listening.fileno(), client.fileno()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        used = time.process_time()
        client.connect(("127.0.0.1", made.port))
        time.sleep(1.5)
        assert time.process_time() - used < 0.5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    client.close()
    assert until(lambda: ask(made.port) == 200, 5)
    assert [event for _, event, _ in made.log.calls].count("connections are not taken") <= 1  # type: ignore[attr-defined]


def test_a_reset_is_one_quiet_line(serving: Callable[..., Server]) -> None:
    """No traceback, and nothing that a stranger could fill a log with."""
    made = serving()
    with socket.create_connection(("127.0.0.1", made.port)) as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rude.sendall(b"GET / HT")
    assert until(lambda: not made._open, 3)
    assert {level for level, _, _ in made.log.calls} <= {"debug"}  # type: ignore[attr-defined]


def test_a_flood_of_scrapers_does_not_keep_probes_out() -> None:
    """Health has a server of its own; that of the metrics answers probes
    too where there is no TLS.
    """
    making = threading.Event()

    def slow() -> CollectorRegistry:
        making.wait(3)
        return CollectorRegistry()

    port, health = serve_all(0, 0, Threads(CapturingLog()), HEALTH, metric_answers(slow))
    scrapers = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    for item in scrapers:
        item.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    began = time.monotonic()
    assert ask(health, "/healthz") == 200
    assert ask(health, "/readyz") == 200
    assert time.monotonic() - began < 2
    assert ask(health, "/metrics") == 404
    making.set()
    for item in scrapers:
        item.close()
    assert ask(port, "/metrics") == 200
    assert ask(port, "/healthz") == 200


def _certificates(folder: Path) -> dict[str, Path]:
    """An authority, and a certificate of it."""
    found = {name: folder / name for name in ("ca.key", "ca.crt", "key", "csr", "crt")}
    words = [
        [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-subj",
            "/CN=ca",
            "-days",
            "2",
        ],
        [
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key",
            "-out",
            "csr",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ],
        [
            "x509",
            "-req",
            "-in",
            "csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            "crt",
            "-days",
            "2",
            "-copy_extensions",
            "copy",
        ],
    ]
    for arguments in words:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
    return found


def test_with_tls_only_known_clients_read_metrics(tmp_path: Path) -> None:
    """Probes have their own port without it; on the metrics' port there is nothing else."""
    files = _certificates(tmp_path)
    options = ServingOptions(0, str(files["crt"]), str(files["key"]), str(files["ca.crt"]))
    port = options.serve(0, Threads(CapturingLog()), HEALTH, metric_answers(CollectorRegistry))
    known = ssl.create_default_context(cafile=str(files["ca.crt"]))
    known.load_cert_chain(files["crt"], files["key"])
    strange = ssl.create_default_context(cafile=str(files["ca.crt"]))
    assert _ask_by_tls(port, known) == 200
    with pytest.raises((OSError, http.client.HTTPException)):
        _ask_by_tls(port, strange)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(port, "/metrics")


def _ask_by_tls(port: int, context: ssl.SSLContext) -> int:
    with (
        socket.create_connection(("localhost", port), timeout=5) as plain_end,
        context.wrap_socket(plain_end, server_hostname="localhost") as found,
    ):
        found.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return int(found.recv(4096).split()[1])


def test_certificates_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    """One line that names the option."""
    threads = Threads(CapturingLog())
    with pytest.raises(InputError, match="--metrics-cert"):
        ServingOptions(None, str(tmp_path / "none"), str(tmp_path / "none")).serve(
            0, threads, HEALTH, plain
        )
    with pytest.raises(InputError, match="together"):
        ServingOptions(None, "", "", str(tmp_path / "ca")).serve(0, threads, HEALTH, plain)
