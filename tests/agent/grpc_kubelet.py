"""The kubelet's side of PodResources: an encoder of its own, a real gRPC server, and listeners that
misbehave.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from h2.exceptions import ProtocolError

#: Namespace, pod, and its containers with their CPUs.
PodAnswer = tuple[str, str, list[tuple[str, list[int]]]]


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, data: bytes) -> bytes:
    """A field that holds bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def text(number: int, value: str) -> bytes:
    """A field that holds text."""
    return field(number, value.encode())


def packed(number: int, values: Iterable[int]) -> bytes:
    """A repeated number in one field, as proto3 writes it."""
    return field(number, b"".join(map(varint, values)))


def unpacked(number: int, values: Iterable[int]) -> bytes:
    """A repeated number in a field each, as readers must take it too."""
    return b"".join(varint(number << 3) + varint(value) for value in values)


#: Fields of a later version, one of each wire type.
UNKNOWN = (
    field(90, b"later")
    + varint(91 << 3)
    + varint(1 << 60)
    + varint(92 << 3 | 1)
    + bytes(8)
    + varint(93 << 3 | 5)
    + bytes(4)
)


def container_message(
    name: str,
    cpus: list[int],
    numbers: Callable[[int, Iterable[int]], bytes] = packed,
    more: bytes = b"",
) -> bytes:
    """ContainerResources."""
    return more + text(1, name) + (numbers(3, cpus) if cpus else b"") + more


def list_message(
    pods: Iterable[PodAnswer],
    numbers: Callable[[int, Iterable[int]], bytes] = packed,
    more: bytes = b"",
) -> bytes:
    """ListPodResourcesResponse."""
    messages = [
        text(1, pod)
        + text(2, namespace)
        + more
        + b"".join(
            field(3, container_message(name, cpus, numbers, more)) for name, cpus in containers
        )
        for namespace, pod, containers in pods
    ]
    return b"".join(field(1, message) for message in messages) + more


@contextmanager
def kubelet(
    path: Path, answer: bytes | grpc.StatusCode, allocatable: bytes = b""
) -> Iterator[None]:
    """A gRPC server that answers List with these bytes or this error status."""

    def answer_list(request: bytes, context: grpc.ServicerContext) -> bytes:
        if not isinstance(answer, bytes):
            context.abort(answer, "not now\nplease")
        return answer if request == b"" else b"\xff"

    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=bytes, response_serializer=bytes
        )
        for name, call in (
            ("List", answer_list),
            ("GetAllocatableResources", lambda _request, _context: allocatable),
        )
    }
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1.PodResourcesLister", handlers),)
    )
    server.add_insecure_port(f"unix:{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


@contextmanager
def listener(path: Path, behave: Callable[[socket.socket], object]) -> Iterator[None]:
    """A listener that treats each connection so, one after the other, and closes it."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                link, _ = gate.accept()
                with link, suppress(OSError, ProtocolError):
                    behave(link)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gate:
        gate.bind(str(path))
        gate.listen(8)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        gate.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def http2(answer: Callable[[H2Connection], None]) -> Callable[[socket.socket], None]:
    """A listener that speaks HTTP/2, takes one call, and answers it so."""

    def behave(link: socket.socket) -> None:
        http = H2Connection(
            H2Configuration(
                client_side=False, validate_outbound_headers=False, header_encoding=None
            )
        )
        http.initiate_connection()
        link.sendall(http.data_to_send())
        while data := link.recv(65536):
            asked = any(isinstance(event, StreamEnded) for event in http.receive_data(data))
            if asked:
                answer(http)
            link.sendall(http.data_to_send())

    return behave
