"""The scaler's process: what it is told on standard input, a line of JSON each, and its loop; it ends with its input."""

import contextlib
import gc
import json
import os
import select
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import asdict

from kpm.errors import one_line
from kpm.logs import Log
from kpm.scaler.loop import Scaler
from kpm.scaler.peers import News
from kpm_planner.scaling import PodCpus, ScaledDomain, Scaling

#: Seconds between looks at standard input while domains are scaled.
_LISTEN = 0.05
_LONGEST_INPUT = 16 << 20


def line_of(wanted: Iterable[ScaledDomain]) -> bytes:
    """What the agent writes to the scaler: all domains that are to be scaled from now on."""
    return json.dumps([asdict(item) for item in wanted], separators=(",", ":")).encode() + b"\n"


def domains_of(line: bytes) -> tuple[ScaledDomain, ...]:
    """The same, read. Errors: ValueError."""
    try:
        return tuple(_domain(item) for item in json.loads(line))
    except (TypeError, KeyError) as failure:
        raise ValueError(f"no list of domains: {failure}") from None


def _domain(item: Any) -> ScaledDomain:
    pods = tuple(PodCpus(str(pod["uid"]), tuple(int(cpu) for cpu in pod["cpus"])) for pod in item["pods"])
    scaling = Scaling(**{name: int(value) for name, value in item["scaling"].items()})
    return ScaledDomain(int(item["domain"]), pods, str(item["profile"]), scaling, bool(item["by_limits"]))


#: Answered for each line that was read, when it is in force, so that whoever wrote it can wait for that.
IN_FORCE = b"{}"


#: Asks for the speeds of now; answered in lines that each fit in a pipe whole.
SPEEDS = b'"speeds"'
_DOMAINS_A_LINE = 100
_SPEEDS_HEAD = b'{"speeds":'


def speed_lines(speeds: Sequence[tuple[int, int | None, float | None]]) -> list[bytes]:
    """What the scaler answers: domain, kHz, busy per cent."""
    parts = [speeds[start : start + _DOMAINS_A_LINE] for start in range(0, len(speeds), _DOMAINS_A_LINE)]
    rounded = ([(number, khz, None if busy is None else round(busy, 1)) for number, khz, busy in part] for part in parts)
    return [_SPEEDS_HEAD + json.dumps(part, separators=(",", ":")).encode() + b"}" for part in rounded]


def speeds_of(line: bytes) -> dict[int, tuple[int | None, float | None]] | None:
    """The same, read; None for a line that says something else. Errors: ValueError."""
    if not line.startswith(_SPEEDS_HEAD):
        return None
    return {int(number): (khz, busy) for number, khz, busy in json.loads(line)["speeds"]}


def news_line(news: News) -> bytes:
    """What the scaler writes to the agent of a pod's telemetry."""
    return json.dumps([news.uid, news.prefix, news.state]).encode()


def news_of(line: bytes) -> News:
    """The same, read. Errors: ValueError."""
    uid, prefix, state = json.loads(line)
    return News(str(uid), str(prefix), str(state))


def say(line: bytes) -> None:
    """Write a line to standard output; where nobody has read for long it is dropped, since nothing may hold up the loop."""
    with contextlib.suppress(BlockingIOError):
        os.write(1, line + b"\n")


def serve(scaler: Scaler, source: int, told: Callable[[], None], log: Log) -> None:
    """Do what is told until the input ends; then, or however else this ends, every domain is left at its fall-back.

    source: the descriptor to read. told: called for each line that is in force.
    """
    gc.freeze()  # what start-up made lives as long as the process: not looked at again
    try:
        _follow(scaler, source, told, log)
    finally:
        scaler.close()


def _follow(scaler: Scaler, source: int, told: Callable[[], None], log: Log) -> None:
    rest, listened = b"", 0.0
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while True:
        due = scaler.next_us()
        now = time.monotonic()
        if due is None or now - listened >= _LISTEN:
            listened = now
            if poll.poll(None if due is None else 0):
                data = os.read(source, 1 << 20)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > _LONGEST_INPUT:
                    raise ValueError("standard input has no lines")
                _obey(scaler, lines, told, log)
                continue
        if due is not None:
            wait = due / 1e6 - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, _LISTEN))
            scaler.tick()


def _obey(scaler: Scaler, lines: Sequence[bytes], told: Callable[[], None], log: Log) -> None:
    """Do what lines say; each that names domains says all there is to say, so the last one counts."""
    orders = [line for line in lines if line != SPEEDS]
    if orders:
        _configure(scaler, orders[-1], log)
    for _ in orders:
        told()
    if len(orders) < len(lines):
        for line in speed_lines(scaler.speeds()):
            say(line)


def _configure(scaler: Scaler, line: bytes, log: Log) -> None:
    try:
        wanted = domains_of(line)
    except ValueError as failure:
        log.warning("not understood", error=one_line(failure))
        return
    scaler.configure(wanted)
    log.info("scaling", domains=len(wanted), cpus=sum(len(item.cpus) for item in wanted))
