"""The kubelet's side of PodResources v1, over real gRPC on a real unix socket, with an encoder of
its own for the messages.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        byte, number = number & 0x7F, number >> 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def message(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def text(number: int, value: str) -> bytes:
    return message(number, value.encode())


def packed(number: int, values: Any) -> bytes:
    return message(number, b"".join(varint(value) for value in values)) if values else b""


def encode_list(cpus: Mapping[tuple[str, str, str], Any]) -> bytes:
    """ListPodResourcesResponse for (namespace, pod, container) → CPU ids."""
    pods: dict[tuple[str, str], bytes] = {}
    for (namespace, pod, container), ids in cpus.items():
        device = message(2, text(1, "example.com/nic") + text(2, "0"))
        memory = message(4, text(1, "memory") + varint(2 << 3) + varint(1 << 30))
        pods[namespace, pod] = pods.get((namespace, pod), b"") + message(
            3, text(1, container) + device + packed(3, sorted(ids)) + memory
        )
    return b"".join(
        message(1, text(1, pod) + text(2, namespace) + containers)
        for (namespace, pod), containers in pods.items()
    )


class Kubelet:
    """One node's kubelet, as far as PodResources goes. cpus: what it would answer; refuse: answers
    an error instead; port: it listens there too.
    """

    def __init__(self, socket: Path, allocatable: Any) -> None:
        self.socket, self.allocatable = socket, set(allocatable)
        self.cpus: dict[tuple[str, str, str], Any] = {}
        self.refuse = False
        self.calls = 0
        self.asked: dict[tuple[str, str, str], float] = {}
        self._server: grpc.Server | None = None

    def start(self) -> None:
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(2))
        identity = lambda data: data  # noqa: E731
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                call, request_deserializer=identity, response_serializer=identity
            )
            for name, call in (("List", self._list), ("GetAllocatableResources", self._allocatable))
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1.PodResourcesLister", handlers),)
        )
        server.add_insecure_port(f"unix:{self.socket}")
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None
        self.socket.unlink(missing_ok=True)

    def _list(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        del request
        self._maybe_refuse(context)
        self.calls += 1
        for key in self.cpus:
            self.asked.setdefault(key, time.monotonic())
        return encode_list(dict(self.cpus))

    def _allocatable(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        del request
        self._maybe_refuse(context)
        return packed(2, sorted(self.allocatable))

    def _maybe_refuse(self, context: grpc.ServicerContext) -> None:
        if self.refuse:
            context.abort(grpc.StatusCode.INTERNAL, "not now")
