"""A container runtime's side of NRI, played: it takes a plugin, tells what runs, and asks about
what it creates.

Written from the protocol's definitions (containerd/nri, api.proto; containerd/ttrpc), not from the
helper's code; the tier of the real node holds the helper to containerd itself.
"""

import socket
import struct
import time
from pathlib import Path
from typing import Any

PLUGIN, RUNTIME = 1, 2
SERVICE = "nri.pkg.api.v1alpha1.Plugin"


def varint(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes([number % 128 + 128])
        number //= 128
    return data + bytes([number])


def box(number: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(number * 8 + 2) + varint(len(data)) + data


def pod(uid: str, name: str = "web", namespace: str = "shop") -> bytes:
    return box(1, f"sandbox-{uid}") + box(2, name) + box(3, uid) + box(4, namespace)


def container(uid: str, name: str, cpus: str = "", id_: str = "c1") -> bytes:
    linux = box(3, box(2, box(6, cpus)))
    return box(1, id_) + box(2, f"sandbox-{uid}") + box(3, name) + box(11, linux)


class PlayedRuntime:
    """One plugin's connection."""

    def __init__(self, path: Path) -> None:
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen(1)
        self.server.settimeout(15)
        self.link: socket.socket | None = None
        self.stream = 1
        self.channels = {PLUGIN: b"", RUNTIME: b""}

    def take_plugin(self) -> bytes:
        """Accept one, let it register and configure it; what it registered as."""
        self.link, _ = self.server.accept()
        self.link.settimeout(5)
        connection, stream, _, body = self.receive()
        assert connection == RUNTIME
        self.send(RUNTIME, stream, 2, box(1, b"") + box(2, b""))
        self.ask("Configure", box(2, "played") + box(3, "1"))
        return body

    def synchronize(self, pods: bytes = b"", containers: bytes = b"") -> bytes:
        return self.ask("Synchronize", pods + containers)

    def create(self, uid: str, name: str, cpus: str = "", id_: str = "c1") -> float:
        """Ask about a container; seconds until the answer, which must change nothing."""
        started = time.perf_counter()
        answer = self.ask(
            "CreateContainer", box(1, pod(uid)) + box(2, container(uid, name, cpus, id_))
        )
        seconds = time.perf_counter() - started
        assert answer == box(1, b"") + box(2, b""), "success without adjustment"
        return seconds

    def ask(self, method: str, content: bytes) -> bytes:
        self.stream += 2
        self.send(PLUGIN, self.stream, 1, box(1, SERVICE) + box(2, method) + box(3, content))
        connection, stream, kind, body = self.receive()
        assert (connection, stream, kind) == (PLUGIN, self.stream, 2)
        return body

    def send(self, connection: int, stream: int, kind: int, body: bytes) -> None:
        assert self.link is not None
        message = struct.pack(">IIBB", len(body), stream, kind, 0) + body
        for at in range(0, len(message), 7):  # in pieces, as a stream may come
            piece = message[at : at + 7]
            self.link.sendall(struct.pack(">II", connection, len(piece)) + piece)

    def receive(self) -> tuple[int, int, int, bytes]:
        while True:
            for connection, data in self.channels.items():
                if len(data) >= 10:
                    size, stream, kind, _ = struct.unpack(">IIBB", data[:10])
                    if len(data) >= 10 + size:
                        self.channels[connection] = data[10 + size :]
                        return connection, stream, kind, data[10 : 10 + size]
            connection, size = struct.unpack(">II", self._exactly(8))
            self.channels[connection] += self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        assert self.link is not None
        data = b""
        while len(data) < size:
            part = self.link.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def close(self, *_: Any) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def end(self) -> None:
        self.close()
        self.server.close()
