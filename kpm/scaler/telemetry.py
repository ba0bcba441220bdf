"""One connection to a DPDK process' telemetry (protocol version 2): what it answers, as values.

On connect the process says who it is; then each request is one packet and each answer another. Only
one question is open at a time. Counters come from /eal/lcore/usage; which CPUs an lcore runs on
from /eal/lcore/info. Everything that comes is hostile and bounded.
"""

import errno
import json
import socket
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from attrs import define, field

from kpm_planner.scaling import Cycles

_USAGE = "/eal/lcore/usage"
_INFO = "/eal/lcore/info"
#: DPDK answers at most what it announces, 16 KiB so far.
_LONGEST = 1 << 15
_MOST_LCORES, _HIGHEST_CPU = 1024, 65535
#: Lcores of one process on one CPU, and CPUs of one lcore, that are looked at.
_MOST_ON_CPU, _MOST_CPUS = 16, 1024
_MOST_CYCLES = 1 << 63


class PeerStatus(StrEnum):
    """What is known of a peer."""

    CONNECTED = "connected"
    #: It answers, and no lcore reports its cycles: the program has not registered the callback for
    #: it.
    NO_CALLBACK = "no-usage-callback"
    #: It does not know the question: DPDK before 23.03.
    TOO_OLD = "too-old"


class TelemetryError(Exception):
    """The peer went away or says what is no telemetry; the connection is of no more use."""


@define(eq=False)
class Telemetry:
    """What one peer has said. cycles: by lcore, of its last answer; answered_us: when that came;
    lcores: that run on a CPU.

    since_us: when the connection was made or the open question asked.
    """

    link: socket.socket
    status: PeerStatus = PeerStatus.CONNECTED
    cycles: dict[int, Cycles] = field(factory=dict)
    lcores: dict[int, tuple[int, ...]] = field(factory=dict)
    answered_us: int | None = None
    since_us: int = 0
    _greeted: bool = False
    _waits_for: str | None = None
    _placed: set[int] = field(factory=set)

    @property
    def unplaced(self) -> int | None:
        """An lcore whose CPUs are not known yet."""
        return (
            next((lcore for lcore in self.cycles if lcore not in self._placed), None)
            if len(self._placed) < len(self.cycles)
            else None
        )

    @property
    def idle(self) -> bool:
        """Whether it can be asked something now."""
        return self._greeted and self._waits_for is None

    def ask(self, now_us: int) -> None:
        """Ask the next question: for an lcore whose CPUs are not known yet, else for the counters.

        Errors: TelemetryError.
        """
        unknown = self.unplaced
        question = _USAGE if unknown is None else f"{_INFO},{unknown}"
        try:
            self.link.send(question.encode())
        except OSError as failure:
            raise TelemetryError(str(failure)) from None
        self._waits_for, self.since_us = question, now_us

    def receive(self, now_us: int) -> bool:
        """Take one packet if there is one; whether there was. Errors: TelemetryError."""
        try:
            data, _, flags, _ = self.link.recvmsg(_LONGEST)
        except OSError as failure:
            if failure.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                return False
            raise TelemetryError(str(failure)) from None
        if not data:
            raise TelemetryError("closed")
        if flags & socket.MSG_TRUNC:
            raise TelemetryError(f"an answer of more than {_LONGEST} bytes")
        try:
            self._take(json.loads(data), now_us)
        except (ValueError, RecursionError) as failure:
            raise TelemetryError(f"no telemetry: {str(failure)[:100]}") from None
        return True

    def _take(self, content: Any, now_us: int) -> None:
        if not isinstance(content, Mapping):
            raise ValueError("no object")  # noqa: TRY004  # of what came, not of the caller
        if not self._greeted:
            if "max_output_len" not in content:
                raise ValueError("no greeting")
            self._greeted = True
            return
        question, self._waits_for = self._waits_for, None
        if question is None:
            raise ValueError("an answer to nothing")
        if question == _USAGE:
            self._take_usage(content.get(_USAGE), now_us)
        else:
            self._take_info(int(question.rpartition(",")[2]), content.get(_INFO))

    def _take_usage(self, answer: Any, now_us: int) -> None:
        if answer is None:
            self.status, self.cycles, self.answered_us = PeerStatus.TOO_OLD, {}, now_us
            return
        if not isinstance(answer, Mapping):
            raise ValueError("usage is no object")  # noqa: TRY004
        ids, totals, busy = (
            _numbers(answer.get(key)) for key in ("lcore_ids", "total_cycles", "busy_cycles")
        )
        if not len(ids) == len(totals) == len(busy):
            raise ValueError("lists of unequal length")
        self.status = PeerStatus.CONNECTED if ids else PeerStatus.NO_CALLBACK
        self.cycles = {
            lcore: Cycles(total, worked)
            for lcore, total, worked in zip(ids, totals, busy, strict=True)
        }
        # an lcore is gone: its number may come again elsewhere
        if not self._placed <= self.cycles.keys():
            self._placed.clear()
            self.lcores.clear()
        self.answered_us = now_us

    def _take_info(self, lcore: int, answer: Any) -> None:
        """An lcore that it does not know has no CPUs."""
        listed = answer.get("cpuset") if isinstance(answer, Mapping) else []
        self._placed.add(lcore)
        for cpu in _numbers(listed)[:_MOST_CPUS]:
            there = self.lcores.get(cpu, ())
            if cpu <= _HIGHEST_CPU and len(there) < _MOST_ON_CPU:
                self.lcores[cpu] = (*there, lcore)


def _numbers(items: Any) -> list[int]:
    """A list of whole numbers that are not negative. Errors: ValueError."""
    if items is None:
        return []
    if not isinstance(items, list) or len(items) > _MOST_LCORES:
        raise ValueError("no list, or one that is too long")
    if not all(type(item) is int and 0 <= item < _MOST_CYCLES for item in items):
        raise ValueError("not a whole number")
    return items
