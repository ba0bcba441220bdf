"""A TCP proxy before the API server that can be slow, or swallow what it is given while every
connection stays open.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Proxy:
    """delay: seconds before bytes go on; swallow: nothing goes on any more on connections that are
    open now.
    """

    def __init__(self, target: int) -> None:
        self.target, self.delay = target, 0.0
        self._swallowed: set[int] = set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def swallow(self) -> None:
        """From now on, every open connection is silent; new ones work."""
        self._swallowed = {id(link) for link in self._open}

    def close(self) -> None:
        for link in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if id(source) in self._swallowed:
                    continue
                time.sleep(self.delay)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
