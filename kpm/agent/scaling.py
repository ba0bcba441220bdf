"""The scaler as the agent's child: started when there is something to scale, told what has changed,
started again when it ends.
"""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Sequence

from attrs import define, field

from kpm.process.logs import Log
from kpm.scaler.words import IN_FORCE, SPEEDS, News, line_of, news_of, speeds_of
from kpm_planner.scaling import ScaledDomain

#: Seconds before a scaler that ended is started again, at first and at most.
_RETRY, _LONGEST_RETRY = 1.0, 60.0
_PATIENCE = 5.0


@define(eq=False)
class ScalerProcess:
    """At most one process. command: what starts it."""

    command: Sequence[str]
    log: Log
    monotonic: Callable[[], float] = time.monotonic
    _child: "subprocess.Popen[bytes] | None" = None
    _told: tuple[ScaledDomain, ...] = ()
    _retry_at: float = 0.0
    _pause: float = _RETRY
    _open: int = 0
    _rest: bytes = b""
    _news: list[News] = field(factory=list)
    _speeds: dict[int, tuple[int | None, float | None]] = field(factory=dict)
    _asked: bool = False

    def scale(self, wanted: tuple[ScaledDomain, ...]) -> None:
        """From now on scale these; none ends the process, which leaves every domain at its
        fall-back.
        """
        if self._child is not None and self._child.poll() is not None:
            self._ended()
        if not wanted:
            self.stop()
        elif self._child is None:
            self._start(wanted)
        elif wanted != self._told:
            self._tell(wanted)

    def leave(self, wanted: tuple[ScaledDomain, ...]) -> None:
        """Let go of every domain that is not among these."""
        stays = {item.domain for item in wanted}
        kept = tuple(item for item in self._told if item.domain in stays)
        if kept != self._told:
            self.scale(kept)

    def retry_at(self) -> float | None:
        """When a scaler that ended is to be started again."""
        return self._retry_at if self._child is None and self._told else None

    def news(self) -> list[News]:
        """What it has said of telemetry since this was asked last."""
        if self._child is not None:
            self._listen(0.0)
        found, self._news = self._news, []
        return found

    def speeds(self) -> dict[int, tuple[int | None, float | None]]:
        """Domain → the target, kHz, and the busy share, per cent, that it said last; asks for those
        of now, which come later.
        """
        if self._child is None:
            return {}
        self._listen(0.0)
        assert self._child.stdin is not None
        if not self._asked:  # one that does not answer is not asked again, for its pipe would fill
            self._asked = True
            with contextlib.suppress(OSError):  # it has ended, which the next pass finds
                self._child.stdin.write(SPEEDS + b"\n")
                self._child.stdin.flush()
        told = {item.domain for item in self._told}
        return {number: speed for number, speed in self._speeds.items() if number in told}

    def stop(self) -> None:
        """End it and wait until it has ended."""
        child, self._child, self._told = self._child, None, ()
        if child is None:
            return
        _close(child)
        try:
            child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.log.warning("scaler killed", after=_PATIENCE)
            child.kill()
            child.wait()

    def _start(self, wanted: tuple[ScaledDomain, ...]) -> None:
        self._told = wanted
        if self.monotonic() < self._retry_at:
            return
        # our own program, no word of it from outside
        self._child = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        self._open, self._rest = 0, b""
        self._speeds.clear()
        self._asked = False
        self.log.info("scaler started", pid=self._child.pid)
        self._tell(wanted)

    def _tell(self, wanted: tuple[ScaledDomain, ...]) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        leaves = {item.domain for item in self._told} - {item.domain for item in wanted}
        self._told = wanted
        try:
            self._child.stdin.write(line_of(wanted))
            self._child.stdin.flush()
        except OSError:
            self._ended()
            return
        self._open += 1
        if leaves:
            self._wait_until_in_force()

    def _wait_until_in_force(self) -> None:
        """The scaler says when it has left what it is to leave: until then it might write there
        once more.
        """
        ends = self.monotonic() + _PATIENCE
        while self._open:
            left = ends - self.monotonic()
            if left <= 0 or not self._listen(left):
                self.log.warning("scaler does not answer", after=_PATIENCE)
                return

    def _listen(self, seconds: float) -> bool:
        """Take what it has said, waiting for it at most so long; whether there was anything."""
        assert self._child is not None
        assert self._child.stdout is not None
        descriptor = self._child.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        data = os.read(descriptor, 1 << 16) if poll.poll(seconds * 1000) else b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line == IN_FORCE:
                self._open -= 1
            elif (speeds := speeds_of(line)) is not None:
                self._speeds.update(speeds)
                self._asked = False
            else:
                self._news.append(news_of(line))
        return bool(data)

    def _ended(self) -> None:
        assert self._child is not None
        _close(self._child)
        self.log.warning("scaler ended", status=self._child.wait(), again_in=self._pause)
        self._child = None
        self._retry_at, self._pause = (
            self.monotonic() + self._pause,
            min(self._pause * 2, _LONGEST_RETRY),
        )


def _close(child: "subprocess.Popen[bytes]") -> None:
    """Close the pipes to a child."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # what it was not told any more
                pipe.close()
