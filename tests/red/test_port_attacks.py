"""Whoever reaches the ports can send what they like: no line of log, no traceback, no leak."""

import http.client
import io
import os
import socket

import pytest
from prometheus_client import CollectorRegistry

from kpm.process.logs import Log
from kpm.process.serving import health_answers, metric_answers, serve_all
from kpm.process.threads import Threads
from tests.helper.running import until

HEADERS = b"".join(b"X%d: %s\r\n" % (number, b"y" * 60_000) for number in range(120))
ODD: dict[str, bytes] = {
    "a line of 70 kB": b"A" * 70_000 + b"\r\n\r\n",
    "a path of 60 kB": b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n\r\n",
    "another version": b"GET /healthz HTTP/9.9\r\n\r\n",
    "another method": b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    "a path upwards": b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    "no HTTP": b"\x00\xff\r\n\r\n",
    "an escape in a header": b"GET /healthz HTTP/1.1\r\nX: \x1b[31m\x00\r\n\r\n",
    "7 MB of headers": b"GET /metrics HTTP/1.1\r\n" + HEADERS + b"\r\n",
    "half a request": b"GET /metr",
}


def served() -> tuple[int, int, io.StringIO]:
    """Port of the metrics, port of health, and what is logged."""
    lines = io.StringIO()
    health = health_answers(lambda: True, lambda: True)
    threads = Threads(Log(stream=lines))
    return *serve_all(0, 0, threads, health, metric_answers(CollectorRegistry)), lines


def status(port: int, path: str = "/healthz") -> int:
    """What a probe is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_request_is_no_news(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Sent whole or cut off by a reset, to both ports: the next probe is answered."""
    *ports, lines = served()
    for port in ports:
        for linger in (b"\0" * 8, b"\1" + b"\0" * 7):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as rude:
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                try:
                    rude.sendall(ODD[name])
                except OSError:
                    continue  # it has been left already
        assert status(port) == 200
    assert lines.getvalue() == ""
    assert capfd.readouterr() == ("", "")


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_a_flood_on_both_ports_takes_few_descriptors() -> None:
    """What watches and files need stays: with none left an informer could not begin anew."""
    *ports, _ = served()
    before, flood = descriptors(), list[socket.socket]()
    for number in range(120):
        made = socket.create_connection(("127.0.0.1", ports[number % 2]), timeout=5)
        made.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        flood.append(made)
    assert [status(port) for port in ports] == [200, 200]
    assert until(lambda: descriptors() - before - len(flood) <= 16 + 8, 5)
    for item in flood:
        item.close()
    assert until(lambda: descriptors() <= before, 5)
