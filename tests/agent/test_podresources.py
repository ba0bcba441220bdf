"""The question to the kubelet over a real socket, against real gRPC and against listeners that are
no kubelet.
"""

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from h2.connection import H2Connection
from hypothesis import given
from hypothesis import strategies as st

from kpm.agent import podresources
from kpm.agent.podresources import KubeletError, allocatable_cpus, list_cpus
from kpm.agent.protobuf import ProtobufError, decode_allocatable, decode_list
from kpm_planner.model.allocation import ContainerCpus
from kpm_planner.model.cpuset import LARGEST_CPU
from tests.agent.grpc_kubelet import (
    UNKNOWN,
    PodAnswer,
    field,
    http2,
    kubelet,
    list_message,
    listener,
    packed,
    text,
    unpacked,
    varint,
)

PODS: list[PodAnswer] = [
    ("default", "web", [("app", [2, 3]), ("log", [])]),
    ("kube-system", "dns", [("dns", [0, 127, 128, 65535])]),
]


def values_of(pods: list[PodAnswer]) -> tuple[ContainerCpus, ...]:
    """What the agent must make of an answer."""
    return tuple(
        ContainerCpus(namespace, pod, name, frozenset(cpus))
        for namespace, pod, containers in pods
        for name, cpus in containers
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the kubelet answers."""
    return tmp_path / "kubelet.sock"


# --- a kubelet that answers ---


@pytest.mark.parametrize("numbers", [packed, unpacked])
@pytest.mark.parametrize("more", [b"", UNKNOWN], ids=["known fields", "fields of a later version"])
def test_every_container_is_listed_with_its_cpus(
    path: Path, numbers: Callable[..., bytes], more: bytes
) -> None:
    """Packed or not, and whatever a later version adds, at every level of the message."""
    with kubelet(path, list_message(PODS, numbers, more), numbers(2, [1, 2, 3]) + more):
        assert list_cpus(str(path)) == values_of(PODS)
        assert allocatable_cpus(str(path)) == {1, 2, 3}


def test_an_empty_answer_is_an_answer(path: Path) -> None:
    """A node without pods; and a kubelet that names no allocatable CPUs."""
    with kubelet(path, b""):
        assert list_cpus(str(path)) == ()
        assert allocatable_cpus(str(path)) == frozenset()


def test_a_full_node_is_listed(path: Path) -> None:
    """110 pods of three containers, asked ten times over."""
    pods: list[PodAnswer] = [
        (
            f"ns-{number % 7}",
            f"pod-{number}",
            [(f"c{index}", [number * 3 + index]) for index in range(3)],
        )
        for number in range(110)
    ]
    with kubelet(path, list_message(pods)):
        assert {list_cpus(str(path)) for _ in range(10)} == {values_of(pods)}


def test_an_answer_of_megabytes_arrives_whole(path: Path) -> None:
    """Many frames, and many times the window that HTTP/2 begins with."""
    pods: list[PodAnswer] = [
        ("default", f"pod-{number}", [("app", list(range(1000)))]) for number in range(100)
    ]
    with kubelet(path, list_message(pods) + field(90, bytes(2 << 20))):
        assert list_cpus(str(path)) == values_of(pods)


#: Of a process that asks once: containers listed, and how far its memory rose above what it had
#: with all modules, MiB.
_ASK = """
import sys
from kpm.agent.podresources import list_cpus
def most():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
before = most()
print(len(list_cpus(sys.argv[1])), most() - before)
"""


def test_an_answer_of_14_mb_costs_less_than_50_mib(path: Path) -> None:
    """A node whose device plugins offer 2,000 devices to each container: what is not used is not
    kept.
    """
    devices = b"".join(
        field(2, text(1, "vendor.com/dev") + text(2, f"device-{number:016d}"))
        for number in range(2000)
    )
    answer = b"".join(
        field(
            1,
            text(1, f"pod-{number}")
            + text(2, "ns")
            + field(3, text(1, "app") + packed(3, [number]) + devices),
        )
        for number in range(164)
    )
    assert len(answer) > 14_000_000
    with kubelet(path, answer):
        ran = subprocess.run(
            [sys.executable, "-c", _ASK, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    count, more = ran.stdout.split()
    assert int(count) == 164
    assert float(more) < 50, f"{more} MiB"


def claim_message(*names: str) -> bytes:
    """DynamicResource, as ContainerResources has it: a claim whose CDI devices have these names."""
    return field(
        5,
        text(2, "cpus")
        + text(3, "default")
        + field(4, b"".join(field(1, text(1, name)) for name in names) + text(2, "dra.cpu")),
    )


def test_a_containers_claims_are_listed_by_their_cdi_devices(path: Path) -> None:
    container = (
        text(1, "app")
        + claim_message("dra.k8s.io/cpu=claim-1")
        + claim_message("a.b/c=d", "a.b/c=e")
    )
    with kubelet(path, field(1, text(1, "pinned") + text(2, "default") + field(3, container))):
        (found,) = list_cpus(str(path))
    assert (found.cpus, found.devices) == (
        frozenset(),
        ("dra.k8s.io/cpu=claim-1", "a.b/c=d", "a.b/c=e"),
    )


@pytest.mark.parametrize(
    "answer",
    [
        field(1, text(1, "n" * 2000)),
        field(
            1,
            text(1, "pod")
            + text(2, "ns")
            + b"".join(field(3, text(1, f"c{number}")) for number in range(20_001)),
        ),
        field(1, text(1, "pod") + field(3, packed(3, [LARGEST_CPU + 1]))),
    ],
    ids=["a name too long", "too many containers", "no CPU"],
)
def test_what_no_kubelet_says_is_an_error(answer: bytes) -> None:
    """The answer is bounded in what is taken out of it, not in its bytes alone."""
    with pytest.raises(ProtobufError):
        decode_list(answer)


# --- a kubelet that does not, and what is no kubelet ---


@pytest.mark.parametrize(
    "status",
    [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED],
)
def test_an_error_status_is_said_in_one_line(path: Path, status: grpc.StatusCode) -> None:
    """With the socket, the method and the number of the status."""
    with (
        kubelet(path, status),
        pytest.raises(
            KubeletError,
            match=(
                f"^[^\n]*kubelet.sock: List: [^\n]*gRPC status {status.value[0]} [^\n]*not"
                " now[^\n]*$"
            ),
        ),
    ):
        list_cpus(str(path))


def test_a_kubelet_without_the_method_is_an_error(path: Path) -> None:
    """A server of something else on the same socket."""
    with kubelet(path, b""), pytest.raises(KubeletError, match="gRPC status 12"):
        podresources._ask(str(path), "Absent")


@pytest.mark.parametrize(
    "message",
    [
        b"\x08\x01",
        field(1, text(1, "web") + b"\x80"),
        field(1, field(3, packed(3, [LARGEST_CPU + 1]))),
    ],
)
def test_an_answer_that_is_no_such_message_is_an_error(path: Path, message: bytes) -> None:
    """A wrong type, a field that is cut off, a number that is no CPU."""
    with kubelet(path, message, packed(2, [1 << 40])):
        for ask in (list_cpus, allocatable_cpus):
            with pytest.raises(
                KubeletError, match=r"kubelet\.sock: (List|GetAllocatableResources): "
            ):
                ask(str(path))


def test_an_answer_that_is_too_large_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded whatever the other side sends."""
    monkeypatch.setattr(podresources, "_LARGEST_ANSWER", 1000)
    with kubelet(path, list_message(PODS)):
        assert list_cpus(str(path)) == values_of(PODS)
    with kubelet(path, field(90, bytes(1000))), pytest.raises(KubeletError, match="too large"):
        list_cpus(str(path))


def test_without_a_socket_the_error_names_it(path: Path) -> None:
    """Nothing there, or a file that nobody listens to."""
    with pytest.raises(KubeletError, match=r"kubelet\.sock: List: No such file"):
        list_cpus(str(path))
    path.touch()
    with pytest.raises(KubeletError, match="Connection refused"):
        list_cpus(str(path))


def headers(http: H2Connection, *more: tuple[str, str], end: bool = False) -> None:
    """Begin an answer."""
    http.send_headers(
        1, [(":status", "200"), ("content-type", "application/grpc"), *more], end_stream=end
    )


def a_whole_answer(http: H2Connection, body: bytes) -> None:
    """An answer with this body that claims to be good."""
    headers(http)
    http.send_data(1, body)
    http.send_headers(1, [("grpc-status", "0")], end_stream=True)


WRONG: dict[str, Callable[[socket.socket], object]] = {
    "closes at once": lambda link: None,
    "closes after the question": lambda link: link.recv(10),
    "sends garbage": lambda link: link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "sends zeros": lambda link: link.sendall(bytes(100)),
    "no status": http2(lambda http: headers(http, end=True)),
    "no message": http2(lambda http: headers(http, ("grpc-status", "0"), end=True)),
    "half a prefix": http2(lambda http: a_whole_answer(http, b"\0\0")),
    "a compressed message": http2(lambda http: a_whole_answer(http, b"\1\0\0\0\0")),
    "half a message": http2(lambda http: a_whole_answer(http, b"\0\0\0\0\5abc")),
    "two messages": http2(lambda http: a_whole_answer(http, bytes(10))),
    "resets the stream": http2(lambda http: http.reset_stream(1)),
    "goes away": http2(lambda http: http.close_connection(2)),
}


@pytest.mark.parametrize("behave", WRONG.values(), ids=list(WRONG))
def test_a_listener_that_is_no_kubelet_costs_one_error(
    path: Path, behave: Callable[[socket.socket], object]
) -> None:
    """Each ends in one line, well before the time-out; the next question is a new one."""
    started = time.monotonic()
    with listener(path, behave):
        for _ in range(2):
            with pytest.raises(KubeletError, match=r"^[^\n]*kubelet\.sock: List: [^\n]+$"):
                list_cpus(str(path))
    assert time.monotonic() - started < 4


def silent(link: socket.socket) -> None:
    """Reads and says nothing."""
    while link.recv(65536):
        continue


def settings_for_ever(link: socket.socket) -> None:
    """Valid frames that answer nothing, one each 20 ms."""
    while True:
        link.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        time.sleep(0.02)


@pytest.mark.parametrize("behave", [silent, settings_for_ever], ids=["silent", "busy with nothing"])
def test_a_listener_that_never_answers_is_left(
    path: Path, behave: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time-out is for the whole question, not for each byte of it."""
    monkeypatch.setattr(podresources, "_SECONDS", 0.2)
    started = time.monotonic()
    with listener(path, behave):
        with pytest.raises(KubeletError, match="timed out"):
            list_cpus(str(path))
        assert 0.1 < time.monotonic() - started < 3


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10), st.integers(0, 255), st.integers(0, 3), st.binary(max_size=40)
        ),
        max_size=4,
    )
)
def test_whatever_frames_arrive_the_error_is_a_kubelet_error(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[int, int, int, bytes]]
) -> None:
    """Well-formed frames of every type with any flags, stream and payload."""
    path = tmp_path_factory.mktemp("fuzz") / "kubelet.sock"
    data = b"".join(
        struct.pack(">I", len(payload))[1:] + bytes([kind, flags, 0, 0, 0, stream]) + payload
        for kind, flags, stream, payload in frames
    )
    with listener(path, lambda link: link.sendall(data)), pytest.raises(KubeletError):
        list_cpus(str(path))


# --- the messages by themselves ---

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ANSWERS = st.lists(
    st.tuples(
        NAMES,
        NAMES,
        st.lists(st.tuples(NAMES, st.lists(st.integers(0, LARGEST_CPU), max_size=8)), max_size=4),
    ),
    max_size=6,
)


@given(ANSWERS, st.sampled_from([packed, unpacked]), st.sampled_from([b"", UNKNOWN]))
def test_what_is_encoded_is_decoded(
    pods: list[PodAnswer], numbers: Callable[..., bytes], more: bytes
) -> None:
    """Any names and CPUs, by an encoder that shares nothing with the decoder."""
    assert decode_list(list_message(pods, numbers, more)) == values_of(pods)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protobuf_error(data: bytes) -> None:
    """Never another error, and never a number that is no CPU."""
    for decode in (decode_list, decode_allocatable):
        try:
            found = decode(data)
        except ProtobufError:
            continue
        assert all(
            0 <= cpu <= LARGEST_CPU
            for item in found
            for cpu in (item.cpus if isinstance(item, ContainerCpus) else [item])
        )


@given(ANSWERS, st.data())
def test_a_damaged_message_is_a_message_or_a_protobuf_error(
    pods: list[PodAnswer], data: st.DataObject
) -> None:
    """Good messages with bytes changed, cut off or repeated, which reach further into the decoder
    than any bytes do.
    """
    good = bytearray(list_message(pods, more=UNKNOWN))
    for place in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=4)):
        good[place] = data.draw(st.integers(0, 255))
    cut = bytes(good[: data.draw(st.integers(0, len(good)))])
    for damaged in (cut, bytes(good), cut + bytes(good)):
        with suppress(ProtobufError):
            decode_list(damaged)


def test_numbers_are_read_to_their_limits() -> None:
    """Ten bytes are a number, eleven are none; a CPU id may be written long."""
    assert decode_allocatable(varint(2 << 3) + b"\x87" + b"\x80" * 8 + b"\x00") == {7}
    for wrong in (b"\x80" * 10 + b"\x00", b"\x80", varint((1 << 64) - 1)):
        with pytest.raises(ProtobufError):
            decode_allocatable(varint(2 << 3) + wrong)
