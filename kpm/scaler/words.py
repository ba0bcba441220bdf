"""What agent and scaler say to each other, a line each: domains that are to be scaled, their
speeds, news of telemetry.

The agent loads this much of the scaler, and no more until there is something to scale.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import asdict, frozen

from kpm_planner.scaling import PodCpus, ScaledDomain, Scaling


@frozen
class News:
    """A pod's telemetry is in another state: what is known of the peer, or why there is no
    connection.
    """

    uid: str
    prefix: str
    state: str


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
    pods = tuple(
        PodCpus(str(pod["uid"]), tuple(int(cpu) for cpu in pod["cpus"])) for pod in item["pods"]
    )
    scaling = Scaling(**{name: int(value) for name, value in item["scaling"].items()})
    return ScaledDomain(
        int(item["domain"]), pods, str(item["profile"]), scaling, bool(item["by_limits"])
    )


#: Answered for each line that was read, when it is in force, so that whoever wrote it can wait for
#: that.
IN_FORCE = b"{}"


#: Asks for the speeds of now; answered in lines that each fit in a pipe whole.
SPEEDS = b'"speeds"'
_DOMAINS_A_LINE = 100
_SPEEDS_HEAD = b'{"speeds":'


def speed_lines(speeds: Sequence[tuple[int, int | None, float | None]]) -> list[bytes]:
    """What the scaler answers: domain, kHz, busy per cent."""
    parts = [
        speeds[start : start + _DOMAINS_A_LINE] for start in range(0, len(speeds), _DOMAINS_A_LINE)
    ]
    rounded = (
        [(number, khz, None if busy is None else round(busy, 1)) for number, khz, busy in part]
        for part in parts
    )
    return [
        _SPEEDS_HEAD + json.dumps(part, separators=(",", ":")).encode() + b"}" for part in rounded
    ]


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
