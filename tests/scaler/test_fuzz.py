"""A hundred thousand answers that are nearly right: each is taken or ends its connection, and
nothing else is ever raised. The first part of them in every run, all in a soak.
"""

import random
import socket

from kpm.scaler.telemetry import Telemetry, TelemetryError
from tests.parts import in_parts

INPUTS = 100_000
#: Equal parts, each with answers of its own.
PARTS = 10
ANSWERS = (
    b'{"/eal/lcore/usage":{"lcore_ids":[0,1],"total_cycles":[13242679319,13211540992],"busy_cycles":[4139477203,4286216269],"usage_ratio":["31%","32%"]}}',
    b'{"/eal/lcore/info":{"lcore_id":1,"socket":0,"role":"RTE","cpuset":[1],"total_cycles":1}}',
    b'{"version":"DPDK 24.11.4","pid":1,"max_output_len":16384}',
    b'{"/eal/lcore/usage":null}',
)
PIECES = (
    b"1e999",
    b"-1",
    b"99999999999999999999999",
    b"true",
    b"[[]]",
    b"\\ud800",
    b"NaN",
    b"Infinity",
    b"\x00",
    b'"',
    b"{",
    b"]",
)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, lost, doubled or put in between."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(4):
            case 0:
                found[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del found[at : at + rng.randint(1, 8)]
            case 2:
                found[at:at] = found[at : at + rng.randint(1, 40)]
            case _:
                found[at:at] = rng.choice(PIECES)
    return bytes(found) or b" "


@in_parts(PARTS)
def test_answers_that_are_nearly_right(part: int) -> None:
    """Always the same ones."""
    rng, asked, taken = random.Random(f"7/{part}"), 0, 0
    while asked < INPUTS // PARTS:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        with near, far:
            telemetry = Telemetry(near)
            far.send(ANSWERS[2])
            assert telemetry.receive(0)
            try:
                for _ in range(20):
                    telemetry.ask(0)
                    far.recv(1000)
                    far.send(mutated(rng, rng.choice(ANSWERS)))
                    asked += 1
                    assert telemetry.receive(1)
                    taken += 1
            except TelemetryError:
                continue
    assert 0.05 < taken / asked < 0.9, "the answers are neither all wrong nor all right"
