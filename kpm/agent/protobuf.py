"""The few lines of protobuf's wire format that the kubelet's answers need (protobuf.dev, encoding).

Field numbers are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto; unknown fields are
passed over. An answer may be of many megabytes, mostly devices: it is looked at where it lies, and
what is taken out of it is bounded in number and length.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.cpuset import LARGEST_CPU

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT = 10
#: Names of Kubernetes have 253 characters at most; more containers than these no node has.
_LONGEST_TEXT, _MOST_CONTAINERS, _MOST_DEVICES = 1024, 20_000, 64


class ProtobufError(Exception):
    """Bytes that are no message of this kind."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    if at < len(data) and data[at] < 0x80:
        return data[at], at + 1
    number = 0
    for index in range(_LONGEST_VARINT):
        if at + index >= len(data):
            raise ProtobufError("a number is cut off")
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise ProtobufError("a number is too long")


def fields_of(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in order: number, and a whole number or bytes.

    Errors: ProtobufError.
    """
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(data, at - 1)
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
        if at + length > end:
            raise ProtobufError("a field is cut off")
        yield tag >> 3, data[at : at + length]
        at += length


def _bytes(value: int | memoryview, number: int) -> memoryview:
    if isinstance(value, int):
        raise ProtobufError(f"field {number} is no message")
    return value


def _messages(data: memoryview, number: int) -> Iterator[memoryview]:
    for field, value in fields_of(data):
        if field == number:
            yield _bytes(value, number)


def _text(data: memoryview, number: int) -> str:
    last: int | memoryview = memoryview(b"")
    for field, value in fields_of(data):
        if field == number:
            last = value
    return _word(last, number)


def _word(value: int | memoryview, number: int) -> str:
    data = _bytes(value, number)
    if len(data) > _LONGEST_TEXT:
        raise ProtobufError(f"field {number} is too long")
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise ProtobufError(f"field {number} is no text") from None


def _checked(cpus: Iterable[int]) -> Iterator[int]:
    """CPU ids. Errors: ProtobufError."""
    for cpu in cpus:
        if cpu > LARGEST_CPU:
            raise ProtobufError(f"{cpu} is no CPU id")
        yield cpu


def _numbers(value: int | memoryview) -> Iterator[int]:
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        item, at = _varint(value, at)
        yield item


def decode_list(data: bytes | bytearray | memoryview) -> tuple[ContainerCpus, ...]:
    """The answer of List: the CPUs of every container, and the CDI devices of its claims.

    Errors: ProtobufError.
    """
    found: list[ContainerCpus] = []
    for pod in _messages(memoryview(data), 1):
        name, namespace = _text(pod, 1), _text(pod, 2)
        for container in _messages(pod, 3):
            if len(found) == _MOST_CONTAINERS:
                raise ProtobufError(f"there are more than {_MOST_CONTAINERS} containers")
            found.append(_container(namespace, name, container))
    return tuple(found)


def _container(namespace: str, pod: str, data: memoryview) -> ContainerCpus:
    """ContainerResources, in one pass: the devices that are passed over may be thousands."""
    name, cpus, devices = "", set[int](), list[str]()
    for field, value in fields_of(data):
        if field == 1:
            name = _word(value, field)
        elif field == 3:
            cpus.update(_checked(_numbers(value)))
        elif field == 5:
            devices += islice(_devices(_bytes(value, field)), _MOST_DEVICES - len(devices))
    return ContainerCpus(namespace, pod, name, frozenset(cpus), devices=tuple(devices))


def _devices(dynamic: memoryview) -> Iterator[str]:
    """DynamicResource.claim_resources.cdi_devices.name."""
    for claim in _messages(dynamic, 4):
        for device in _messages(claim, 1):
            yield _text(device, 1)


def decode_allocatable(data: bytes | bytearray | memoryview) -> frozenset[int]:
    """The answer of GetAllocatableResources: the CPUs that can be handed out.

    Errors: ProtobufError.
    """
    found = (_numbers(value) for field, value in fields_of(memoryview(data)) if field == 2)
    return frozenset(_checked(chain.from_iterable(found)))
