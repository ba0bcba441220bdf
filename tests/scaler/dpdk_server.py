"""A DPDK process as far as its telemetry goes: a real SEQPACKET socket that speaks version 2, with
faults on demand.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GREETING = {"version": "DPDK 24.11.4", "pid": 1, "max_output_len": 16384}
NAME = "dpdk_telemetry.v2"
Answer = Callable[[str], bytes | None]


def bind(link: socket.socket, path: Path) -> None:
    """Bind by a short name, which the path of a test is not."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        link.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


class DpdkServer:
    """One socket <root>/<uid>/dpdk/<prefix>/dpdk_telemetry.v2.

    cpusets: lcore → CPUs. counters: lcore → (total, busy), of this moment. answer: overrides
    answers; None is silence, b"" closes.
    """

    def __init__(
        self, root: Path, uid: str, cpusets: dict[int, list[int]], prefix: str = "rte"
    ) -> None:
        self.path = root / uid / "dpdk" / prefix / NAME
        self.cpusets = cpusets
        self.counters: Callable[[int], tuple[int, int]] = lambda _lcore: (0, 0)
        self.answer: Answer = self.usual
        self.greeting: bytes = json.dumps(GREETING).encode()
        self.asked: list[str] = []
        self.connections = 0
        self._links: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def start(self) -> DpdkServer:
        """Listen; a thread for each connection, as DPDK does it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bind(self._listener, self.path)
        self._listener.listen(10)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def load(self, share: int) -> None:
        """From now on every lcore is busy for a share of its time, in per cent; its counters go on
        from where they are.
        """
        started, (total, busy) = time.monotonic_ns(), self.counters(0)

        def counters(_lcore: int) -> tuple[int, int]:
            passed = time.monotonic_ns() - started
            return total + passed, busy + passed * share // 100

        self.counters = counters

    def stop(self) -> None:
        """The process ends: the file stays, as it does after a crash."""
        for link in [self._listener, *self._links]:
            if link is not None:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
                link.close()
        self._links, self._listener = [], None

    def usual(self, question: str) -> bytes:
        """What DPDK answers."""
        name, _, argument = question.partition(",")
        if name == "/eal/lcore/usage":
            values = [self.counters(lcore) for lcore in self.cpusets]
            content: Any = {
                "lcore_ids": list(self.cpusets),
                "total_cycles": [item[0] for item in values],
                "busy_cycles": [item[1] for item in values],
            }
        elif name == "/eal/lcore/info" and argument.isdigit() and int(argument) in self.cpusets:
            content = {
                "lcore_id": int(argument),
                "socket": 0,
                "role": "RTE",
                "cpuset": self.cpusets[int(argument)],
            }
        else:
            content = None
        return json.dumps({name: content}).encode()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                self.connections += 1
                self._links.append(link)
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.greeting:
                link.send(self.greeting)
            while question := link.recv(1024).decode():
                self.asked.append(question)
                answer = self.answer(question)
                if answer == b"":
                    link.close()
                    return
                if answer is not None:
                    link.send(answer)
