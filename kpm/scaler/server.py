"""The scaler's process: what it is told on standard input, a line of JSON each, and its loop; it
ends with its input.
"""

import contextlib
import gc
import os
import select
import time
from collections.abc import Callable, Sequence

from kpm.process.errors import one_line
from kpm.process.logs import Log
from kpm.scaler.loop import Scaler
from kpm.scaler.words import SPEEDS, domains_of, speed_lines

#: Seconds between looks at standard input while domains are scaled.
_LISTEN = 0.05
_LONGEST_INPUT = 16 << 20


def say(line: bytes) -> None:
    """Write a line to standard output; where nobody has read for long it is dropped, since nothing
    may hold up the loop.
    """
    with contextlib.suppress(BlockingIOError):
        os.write(1, line + b"\n")


def serve(scaler: Scaler, source: int, told: Callable[[], None], log: Log) -> None:
    """Do what is told until the input ends; then, or however else this ends, every domain is left
    at its fall-back.

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
    """Do what lines say; each that names domains says all there is to
    say, so the last one counts.
    """
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
