"""The few lines of protobuf's wire format that the kubelet's answers need (protobuf.dev, encoding).

Field numbers are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto; unknown fields are passed over.
"""

from collections.abc import Iterator

from kpm_planner.allocation import ContainerCpus
from kpm_planner.cpuset import LARGEST_CPU

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10


class ProtobufError(Exception):
    """Bytes that are no message of this kind."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    number = 0
    for index in range(_LONGEST_VARINT):
        if at + index >= len(data):
            raise ProtobufError("a number is cut off")
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise ProtobufError("a number is too long")


def fields_of(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in order: number, and a whole number or bytes. Errors: ProtobufError."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in _WIDTH:
            length = _WIDTH[kind]
        else:
            raise ProtobufError(f"wire type {kind} is unknown")
        if at + length > len(data):
            raise ProtobufError("a field is cut off")
        yield tag >> 3, data[at : at + length]
        at += length


def _messages(data: bytes, number: int) -> Iterator[bytes]:
    for field, value in fields_of(data):
        if field == number:
            if not isinstance(value, bytes):
                raise ProtobufError(f"field {number} is no message")
            yield value


def _text(data: bytes, number: int) -> str:
    *_, last = b"", *_messages(data, number)
    try:
        return last.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtobufError(f"field {number} is no text") from None


def _cpus(data: bytes, number: int) -> frozenset[int]:
    """A repeated int64, packed or not."""
    found = set()
    for field, value in fields_of(data):
        if field != number:
            continue
        if isinstance(value, int):
            found.add(value)
            continue
        at = 0
        while at < len(value):
            item, at = _varint(value, at)
            found.add(item)
    if any(cpu > LARGEST_CPU for cpu in found):
        raise ProtobufError(f"{max(found)} is no CPU id")
    return frozenset(found)


def decode_list(data: bytes) -> tuple[ContainerCpus, ...]:
    """The answer of List: the CPUs of every container. Errors: ProtobufError."""
    found = []
    for pod in _messages(data, 1):
        name, namespace = _text(pod, 1), _text(pod, 2)
        found += [ContainerCpus(namespace, name, _text(container, 1), _cpus(container, 3)) for container in _messages(pod, 3)]
    return tuple(found)


def decode_allocatable(data: bytes) -> frozenset[int]:
    """The answer of GetAllocatableResources: the CPUs that can be handed out. Errors: ProtobufError."""
    return _cpus(data, 2)
