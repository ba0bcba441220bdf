"""The container runtime's NRI, as far as the helper speaks it: who is created with which CPUs, told
before it runs.

A runtime that has NRI (containerd from 1.7, CRI-O) asks its plugins about every container it makes,
and waits. This plugin says nothing of the container: whatever happens, its answer is success
without adjustment. It registers late (index 90), so that CPUs set by earlier plugins (claim
drivers, balloons) are seen.

On the wire (containerd/nri, pkg/net/multiplex; containerd/ttrpc; protobuf): frames of a connection
number, a length and data; in the data of a connection ttrpc messages of ten bytes of head and a
body; in the body protobuf. Header and body go into frames of their own, since the other side reads
one frame at a time. Pure: bytes in, events and bytes out.
"""

import struct
from collections.abc import Iterator

_FRAME, _HEAD = struct.Struct(">II"), struct.Struct(">IIBB")
#: Connection numbers of the trunk, kinds of ttrpc messages.
_PLUGIN, _RUNTIME = 1, 2
_REQUEST, _RESPONSE = 1, 2
_LONGEST = 8 << 20
_NAME, _INDEX = "kpm", "90"
#: Events: containers created, updated, stopped, removed (nri, api.proto, Event; bit N - 1).
_EVENTS = sum(1 << (number - 1) for number in (4, 8, 10, 11))

#: Field numbers (nri, pkg/api/api.proto).
_POD_NAME, _POD_UID, _POD_NAMESPACE = 2, 3, 4
_ID, _POD_ID, _CONTAINER_NAME, _LINUX = 1, 2, 3, 11
_SANDBOX_ID = 1
_RESOURCES, _CPU, _CPUS = 3, 2, 6

Fields = dict[int, list[int | bytes]]


class NriError(Exception):
    """What came is no NRI; the connection is of no use any more."""


class Container:
    """A container as the runtime has it. cpus: a CPU list, "" where it is not bound to any."""

    __slots__ = ("cpus", "id", "name", "namespace", "pod", "uid")

    # its name everywhere
    def __init__(self, id: str, name: str, pod: str, namespace: str, uid: str, cpus: str) -> None:  # noqa: A002
        self.id, self.name, self.pod, self.namespace, self.uid, self.cpus = (
            id,
            name,
            pod,
            namespace,
            uid,
            cpus,
        )

    def view(self) -> dict[str, str]:
        """As it is told to the agent."""
        return {name: getattr(self, name) for name in self.__slots__}


class Event:
    """What the runtime said. kind: create (it waits for the answer), update, gone, or known (of
    those that run already).
    """

    __slots__ = ("answer", "container", "kind")

    def __init__(self, kind: str, container: Container, answer: bytes = b"") -> None:
        self.kind, self.container, self.answer = kind, container, answer


class Plugin:
    """One connection to a runtime. synchronized: it has told everything that runs."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._channels: dict[int, bytearray] = {_PLUGIN: bytearray(), _RUNTIME: bytearray()}
        self._pods: dict[str, Fields] = {}
        self.registered = self.synchronized = False

    def begin(self) -> bytes:
        """The first bytes to send."""
        who = _field(1, _NAME) + _field(2, _INDEX)
        return _message(
            _RUNTIME,
            1,
            _REQUEST,
            _field(1, "nri.pkg.api.v1alpha1.Runtime")
            + _field(2, "RegisterPlugin")
            + _field(3, who),
        )

    def take(self, data: bytes) -> Iterator[Event | bytes]:
        """What came, in order: events, and bytes to send at once. Errors: NriError."""
        self._data += data
        for connection, stream, kind, body in self._messages():
            if connection == _RUNTIME and kind == _RESPONSE:
                self._registered(body)
            elif connection == _PLUGIN and kind == _REQUEST:
                yield from self._asked(stream, body)

    def _messages(self) -> Iterator[tuple[int, int, int, bytes]]:
        while len(self._data) >= _FRAME.size:
            connection, size = _FRAME.unpack_from(self._data)
            if size > _LONGEST:
                raise NriError("a frame is too long")
            if len(self._data) < _FRAME.size + size:
                return
            channel = self._channels.get(connection)
            if channel is not None:
                channel += self._data[_FRAME.size : _FRAME.size + size]
            del self._data[: _FRAME.size + size]
            if channel is not None:
                yield from _whole(connection, channel)

    def _registered(self, body: bytes) -> None:
        refusal = _one(parse(body), 1)
        if refusal:
            raise NriError(f"the runtime refuses: {_text(parse(refusal), 2)[:200]}")
        self.registered = True

    def _asked(self, stream: int, body: bytes) -> Iterator[Event | bytes]:
        request = parse(body)
        method, content = _text(request, 2), parse(_one(request, 3))
        if method == "Synchronize":
            for box in content.get(1, []):
                self._note_pod(box)
            for box in content.get(2, []):
                yield Event("known", self._container(box))
            more = bool(content.get(3, [0])[0])
            self.synchronized = not more
            yield _answer(stream, _field(2, 1) if more else b"")
            return
        if method not in ("CreateContainer", "UpdateContainer", "StopContainer", "RemoveContainer"):
            yield _answer(stream, _field(2, _EVENTS) if method == "Configure" else b"")
            return
        self._note_pod(_one(content, 1))
        container = self._container(_one(content, 2))
        if method == "CreateContainer":
            yield Event("create", container, _answer(stream, b""))
            return
        if method == "UpdateContainer":
            changed = _cpus(parse(_one(content, 3)))
            container.cpus = changed or container.cpus
        yield Event("update" if method == "UpdateContainer" else "gone", container)
        yield _answer(stream, b"")

    def _note_pod(self, box: "int | bytes") -> None:
        pod = parse(box if isinstance(box, bytes) else b"")
        self._pods[_text(pod, _SANDBOX_ID)] = {
            number: pod[number] for number in (_POD_NAME, _POD_UID, _POD_NAMESPACE) if number in pod
        }
        while len(self._pods) > _MOST_PODS:
            del self._pods[next(iter(self._pods))]

    def _container(self, box: "int | bytes") -> Container:
        content = parse(box if isinstance(box, bytes) else b"")
        pod = self._pods.get(_text(content, _POD_ID), {})
        cpus = _cpus(parse(_one(parse(_one(content, _LINUX)), _RESOURCES)))
        return Container(
            _text(content, _ID),
            _text(content, _CONTAINER_NAME),
            _text(pod, _POD_NAME),
            namespace=_text(pod, _POD_NAMESPACE),
            uid=_text(pod, _POD_UID),
            cpus=cpus,
        )


_MOST_PODS = 2000


def _whole(connection: int, channel: bytearray) -> Iterator[tuple[int, int, int, bytes]]:
    """The whole messages of a connection's data, which are taken out of it."""
    while len(channel) >= _HEAD.size:
        size, stream, kind, _ = _HEAD.unpack_from(channel)
        if size > _LONGEST:
            raise NriError("a message is too long")
        if len(channel) < _HEAD.size + size:
            return
        body = bytes(channel[_HEAD.size : _HEAD.size + size])
        del channel[: _HEAD.size + size]
        yield connection, stream, kind, body


def _answer(stream: int, result: bytes) -> bytes:
    return _message(_PLUGIN, stream, _RESPONSE, _field(1, b"") + _field(2, result))


def _message(connection: int, stream: int, kind: int, body: bytes) -> bytes:
    head = _FRAME.pack(connection, _HEAD.size) + _HEAD.pack(len(body), stream, kind, 0)
    return head + (_FRAME.pack(connection, len(body)) + body if body else b"")


def _cpus(resources: Fields) -> str:
    """LinuxResources.cpu.cpus."""
    return _text(parse(_one(resources, _CPU)), _CPUS)


def _one(message: Fields, number: int) -> bytes:
    found = message.get(number, [b""])[-1]
    return found if isinstance(found, bytes) else b""


def _text(message: Fields, number: int) -> str:
    return _one(message, number).decode("utf-8", "replace")[:512]


def parse(data: bytes) -> Fields:
    """The fields of a protobuf message by number. Errors: NriError."""
    found: Fields = {}
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        kind = key & 7
        value: int | bytes
        if kind == 0:
            value, at = _number(data, at)
        elif kind in (1, 2, 5):
            size, at = _number(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise NriError("a field is cut off")
        else:
            raise NriError(f"wire type {kind} is unknown")
        found.setdefault(key >> 3, []).append(value)
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
    raise NriError("a number is cut off or too long")


def _field(number: int, value: "int | str | bytes") -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
