"""Asking the kubelet which container has which CPUs: PodResources v1, gRPC over a unix socket.

One connection a question. Answers are bounded in size and time.
"""

import socket
import struct
import time

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from kpm.agent.protobuf import ProtobufError, decode_allocatable, decode_list
from kpm.process.errors import one_line
from kpm_planner.model.allocation import ContainerCpus

KUBELET_SOCKET = "/var/lib/kubelet/pod-resources/kubelet.sock"
_SERVICE = "/v1.PodResourcesLister"
_SECONDS = 5.0
_LARGEST_ANSWER = 16 << 20
#: Bytes that the kubelet may send unasked: an answer of many megabytes is not to wait for leave.
_WINDOW = 1 << 20
_PREFIX = struct.Struct(">BI")


class KubeletError(Exception):
    """The kubelet cannot be asked, or answered an error. The text is one line."""


def list_cpus(path: str) -> tuple[ContainerCpus, ...]:
    """The CPUs of every container on the node. Errors: KubeletError."""
    try:
        return decode_list(_ask(path, "List"))
    except ProtobufError as failure:
        raise KubeletError(f"{path}: List: {failure}") from None


def allocatable_cpus(path: str) -> frozenset[int]:
    """The CPUs that the kubelet can hand out. Errors: KubeletError."""
    try:
        return decode_allocatable(_ask(path, "GetAllocatableResources"))
    except ProtobufError as failure:
        raise KubeletError(f"{path}: GetAllocatableResources: {failure}") from None


def _ask(path: str, method: str) -> memoryview:
    """Call a method without arguments; its answer's message."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(_SECONDS)
            link.connect(path)
            return _Call(link, f"{_SERVICE}/{method}").answer()
    # h2 decodes headers when they are looked at
    except (OSError, ProtocolError, ValueError) as failure:
        reason = (
            failure.strerror
            if isinstance(failure, OSError) and failure.strerror
            else one_line(failure, 120) or type(failure).__name__
        )
        raise KubeletError(f"{path}: {method}: {reason}") from None


class _Call:
    """One unary gRPC call on a fresh connection."""

    def __init__(self, link: socket.socket, target: str) -> None:
        self.link, self.target = link, target
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.local_settings = Settings(
            initial_values={SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW}
        )
        self.body = bytearray()
        self.headers: dict[str, str] = {}
        self.ended = False
        self.deadline = time.monotonic() + _SECONDS

    def answer(self) -> memoryview:
        self.http.initiate_connection()
        self.http.increment_flow_control_window(_WINDOW)
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", self.target),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]
        self.http.send_headers(1, headers)
        self.http.send_data(1, _PREFIX.pack(0, 0), end_stream=True)
        self.link.sendall(self.http.data_to_send())
        while not self.ended:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self.link.settimeout(left)
            data = self.link.recv(65536)
            if not data:
                raise ConnectionError("the connection was closed")
            for event in self.http.receive_data(data):
                self._take(event)
            self.link.sendall(self.http.data_to_send())
        return self._message()

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self.headers |= {str(key): str(value) for key, value in event.headers or ()}
            case DataReceived():
                self.body += event.data or b""
                if len(self.body) > _LARGEST_ANSWER:
                    raise ConnectionError("the answer is too large")
                self.http.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            case StreamEnded():
                self.ended = True
            case StreamReset() | ConnectionTerminated():
                raise ConnectionError("the call was ended by the kubelet")

    def _message(self) -> memoryview:
        status = self.headers.get("grpc-status", "")
        if status != "0":
            raise KubeletRefusal(
                f"gRPC status {status or 'missing'} {self.headers.get('grpc-message', '')}"
            )
        if len(self.body) < _PREFIX.size:
            raise KubeletRefusal("the answer has no message")
        compressed, length = _PREFIX.unpack_from(self.body)
        if compressed or len(self.body) != _PREFIX.size + length:
            raise KubeletRefusal("the answer is not one plain message")
        return memoryview(self.body)[_PREFIX.size :]


class KubeletRefusal(OSError):
    """An answer that says no; taken by `_ask` as any failure of the call."""
