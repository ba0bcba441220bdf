"""The mailbox of AMD's firmware as files: every message byte for byte, every error, and what an
applier makes of it (A3, A6, A7).

The device is a plain file; what would be the driver behind it checks each message as the kernel and
the firmware do.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.discovery.discover import discover
from kpm_applier.session import Applier, Report
from kpm_applier.state.baseline import asked_fabrics
from kpm_applier.state.record import IN_DOUBT, GroupState, State
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs import mailbox as firmware
from kpm_applier.sysfs.composite import Composite
from kpm_applier.sysfs.hsmp import Hsmp
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.changes import Status
from kpm_planner.model.cluster import Meta, Node
from kpm_planner.model.machine import Machine, PowerLimit, PowerZone
from kpm_planner.model.objects import AmdFabric, Intent, Uncore
from kpm_planner.model.problems import Code
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.applier import rig
from tests.applier.power import all_capped, bare, fabrics, nothing

pytestmark = pytest.mark.usefixtures("impatient")

REQUEST = 0xC02CF800
#: message id → how many arguments it takes, how many words it answers, and how it may be sent
#: (kernel documentation, amd_hsmp).
MESSAGES = {
    0x03: (0, 1, os.O_RDONLY),
    0x05: (1, 0, os.O_WRONLY),
    0x06: (0, 1, os.O_RDONLY),
    0x07: (0, 1, os.O_RDONLY),
    0x0D: (1, 0, os.O_WRONLY),
    0x0E: (0, 0, os.O_WRONLY),
    0x22: (1, 0, os.O_WRONLY),
}
SETTINGS = frozenset({0x05, 0x0D, 0x0E, 0x22})
DF = "hsmp/socket{}/df_pstate"
LIMIT = "hsmp/socket{}/power_limit_mw"


@define
class Device:
    """Driver and firmware behind a file. sent: message, socket and argument of each that was right;
    refuse: (message, socket) → errno of it.

    fabric: what each socket's data fabric does: "auto", a P-state, or a range, slowest first.
    crash_after: so many settings are taken, and then the process ends.
    """

    path: str
    sockets: int = 1
    protocol: int = 5
    sent: list[tuple[int, int, int | None]] = field(factory=list)
    raw: list[bytes] = field(factory=list)
    refuse: dict[tuple[int, int], int] = field(factory=dict)
    limits: dict[int, int] = field(factory=dict)
    fabric: dict[int, str] = field(factory=dict)
    crash_after: int | None = None

    def ioctl(self, descriptor: int, request: int, buffer: bytearray, /) -> int:
        """As the kernel: what a message is not is EINVAL or ENOMSG, the wrong way to open is EPERM;
        an OSError that a test expects nowhere.
        """
        assert request == REQUEST
        assert len(buffer) == 44
        assert os.fstat(descriptor).st_ino == Path(self.path).stat().st_ino
        message, count, answers, *args, number, padding = struct.unpack("<IHH8IHH", buffer)
        assert message in MESSAGES, f"{message:02x} is none of ours"
        assert (count, answers, fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE) == MESSAGES[
            message
        ], f"{message:02x}"
        assert (args[count:], padding) == ([0] * (8 - count), 0)
        self.raw.append(bytes(buffer))
        if number >= self.sockets:
            raise OSError(errno.ENODEV, "no such socket")
        if (
            message in SETTINGS
            and self.crash_after is not None
            and len(self.settings) >= self.crash_after
        ):
            raise rig.Crash
        if (message, number) in self.refuse:
            raise OSError(self.refuse[message, number], os.strerror(self.refuse[message, number]))
        answer = self._obey(message, number, args[0])
        self.sent.append((message, number, args[0] if count else None))
        if answer is not None:
            struct.pack_into("<I", buffer, 8, answer)
        return 0

    def _obey(self, message: int, number: int, arg: int) -> int | None:
        match message:
            case 0x03:
                return self.protocol
            case 0x05:
                self.limits[number] = min(arg, 400_000)
            case 0x06:
                return self.limits.get(number, 280_000)
            case 0x07:
                return 400_000
            case 0x0D:
                self._fix(number, arg)
            case 0x0E:
                self.fabric[number] = "auto"
            case 0x22:
                self._limit(number, arg >> 8, arg & 0xFF)
        return None

    def _fix(self, number: int, pstate: int) -> None:
        if pstate > 2:
            raise OSError(errno.EINVAL, "no such P-state")
        self.fabric[number] = str(pstate)

    def _limit(self, number: int, slowest: int, fastest: int) -> None:
        """A range is for the firmware to choose from: while a P-state is
        fixed, it has no effect.
        """
        if self.protocol not in (5, 7):
            raise OSError(errno.ENOMSG, "unsupported")
        if not 2 >= slowest >= fastest:
            raise OSError(errno.EINVAL, "the ends are the wrong way round")
        if self.fabric.get(number, "auto") == "auto" or " " in self.fabric[number]:
            self.fabric[number] = f"{slowest} {fastest}"

    @property
    def settings(self) -> list[tuple[int, int, int | None]]:
        """The messages that changed something."""
        return [item for item in self.sent if item[0] in SETTINGS]

    def forget(self) -> None:
        """Only what comes from now on counts."""
        self.sent.clear()
        self.raw.clear()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """One socket."""
    return made(tmp_path)


def made(folder: Path, **more: int) -> Device:
    path = folder / "hsmp"
    path.write_bytes(b"")
    return Device(str(path), **more)  # type: ignore[arg-type]


def mailbox(device: Device, known: Callable[[], Mapping[str, str]] = dict) -> Hsmp:
    return Hsmp(firmware.Device(device.path, device.ioctl), known)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def refused(number: int) -> Iterator[None]:
    """The block must end in an OSError of this errno."""
    with pytest.raises(OSError) as failure:  # noqa: PT011 — the errno is what matters
        yield
    assert failure.value.errno == number


# --- messages, byte for byte ---


def words(message: int, count: int, answers: int, arg: int = 0, number: int = 0) -> bytes:
    """Message as a person writes it down: u32 id, u16 arguments, u16 answers, u32[8], u16 socket,
    two bytes of nothing.
    """
    head = (
        message.to_bytes(4, "little") + count.to_bytes(2, "little") + answers.to_bytes(2, "little")
    )
    return head + arg.to_bytes(4, "little") + bytes(28) + number.to_bytes(2, "little") + bytes(2)


Use = Callable[[Hsmp], object]
USES: dict[str, tuple[Use, list[bytes]]] = {
    "protocol": (lambda hsmp: hsmp.read("hsmp/socket1/protocol"), [words(0x03, 0, 1, number=1)]),
    "limit": (lambda hsmp: hsmp.read("hsmp/socket1/power_limit_mw"), [words(0x06, 0, 1, number=1)]),
    "largest limit": (
        lambda hsmp: hsmp.read("hsmp/socket0/power_limit_max_mw"),
        [words(0x07, 0, 1)],
    ),
    "set limit": (
        lambda hsmp: hsmp.write("hsmp/socket1/power_limit_mw", b"225000\n"),
        [words(0x05, 1, 0, 225_000, 1)],
    ),
    "fix": (lambda hsmp: hsmp.write("hsmp/socket0/df_pstate", b"2\n"), [words(0x0D, 1, 0, 2)]),
    "fix the fastest": (
        lambda hsmp: hsmp.write("hsmp/socket1/df_pstate", b"0\n"),
        [words(0x0D, 1, 0, 0, 1)],
    ),
    "automatic": (
        lambda hsmp: hsmp.write("hsmp/socket1/df_pstate", b"auto\n"),
        [words(0x0E, 0, 0, number=1)],
    ),
    "range": (
        lambda hsmp: hsmp.write("hsmp/socket0/df_pstate", b"2 0\n"),
        [words(0x0E, 0, 0), words(0x22, 1, 0, 0x0200)],
    ),
    "range of the middle": (
        lambda hsmp: hsmp.write("hsmp/socket1/df_pstate", b"2 1\n"),
        [words(0x0E, 0, 0, number=1), words(0x22, 1, 0, 0x0201, 1)],
    ),
}


@pytest.mark.parametrize("name", USES)
def test_a_message_is_these_bytes(tmp_path: Path, name: str) -> None:
    """44 of them in the order of the kernel's structure, of which 40 and 41 are the socket; a range
    has its slowest end in the upper byte.
    """
    device = made(tmp_path, sockets=2)
    hsmp = mailbox(device)
    hsmp.list("hsmp")
    device.forget()
    use, expected = USES[name]
    use(hsmp)
    assert device.raw == expected
    assert {len(message) for message in expected} == {44}
    hsmp.close()


def test_the_sockets_are_counted_by_asking_each(tmp_path: Path) -> None:
    """For its protocol, until one does not exist; once."""
    device = made(tmp_path, sockets=3)
    hsmp = mailbox(device)
    for _ in range(2):
        assert hsmp.list("hsmp") == ("socket0", "socket1", "socket2")
    assert device.raw == [words(0x03, 0, 1, number=number) for number in range(4)]
    hsmp.close()


def test_there_are_eight_sockets_at_most(tmp_path: Path) -> None:
    """A driver that says yes to every number is not asked for ever."""
    assert len(mailbox(made(tmp_path, sockets=60_000)).list("hsmp")) == 8


def test_answers_are_numbers_in_files(tmp_path: Path) -> None:
    """With a newline, as files of the kernel have it; limits are mW."""
    device = made(tmp_path, sockets=2, protocol=7)
    device.limits = {0: 225_000}
    hsmp = mailbox(device)
    names = ("protocol", "power_limit_mw", "power_limit_max_mw", "df_pstate")
    assert [
        [hsmp.read(f"hsmp/socket{number}/{name}") for name in names] for number in range(2)
    ] == [
        [b"7\n", b"225000\n", b"400000\n", b"auto\n"],
        [b"7\n", b"280000\n", b"400000\n", b"auto\n"],
    ]


@given(
    st.text(max_size=12)
    | st.sampled_from(
        (
            "3 x",
            "0 0 0",
            "-1",
            "256",
            "0 256",
            "1.5",
            "٢",
            "auto 1",
            "AUTO",
            "1e3",
            "0x2",
            "4294967296",
            "99999999999",
            "1\n2\n3",
        )
    )
)
def test_a_text_that_is_no_value_is_no_message(text: str) -> None:
    """EINVAL, and the firmware hears nothing of it; what is heard is one of the values."""
    with rig.state_folder() as folder:
        device = made(Path(folder))
        hsmp = mailbox(device)
        hsmp.list("hsmp")
        for name in ("df_pstate", "power_limit_mw", "power_limit_max_mw", "protocol", "", "other"):
            device.forget()
            try:
                hsmp.write(f"hsmp/socket0/{name}", text.encode("utf-8", "surrogatepass"))
            except OSError as failure:
                assert failure.errno == errno.EINVAL  # noqa: PT017
            told = {message for message, _, _ in device.settings}
            assert told <= {"df_pstate": {0x0D, 0x0E, 0x22}, "power_limit_mw": {0x05}}.get(
                name, set()
            )
            assert not told or all(word == "auto" or word.isdigit() for word in text.split())
        hsmp.close()


@pytest.mark.parametrize(
    "path",
    [
        "hsmp/socket1/df_pstate",
        "hsmp/socket0/other",
        "hsmp/socket0",
        "hsmp/socket-1/df_pstate",
        "hsmp/socket٠/df_pstate",
        "hsmp/fault",
        "hsmp/socket999/protocol",
    ],
)
def test_a_file_that_is_not_there(device: Device, path: str) -> None:
    """ENOENT, as of any folder; no message but those that count the sockets."""
    hsmp = mailbox(device)
    with refused(errno.ENOENT):
        hsmp.read(path)
    assert {message for message, _, _ in device.sent} == {0x03}
    with refused(errno.ENOENT):
        hsmp.list("hsmp/socket0")


def test_descriptors_are_let_go(device: Device) -> None:
    """One for questions and one for settings, opened when they are needed; after a close it is
    found anew.
    """
    before = descriptors()
    hsmp = mailbox(device)
    hsmp.read("hsmp/socket0/protocol")
    assert descriptors() == before + 1
    for _ in range(3):
        hsmp.write("hsmp/socket0/df_pstate", b"1\n")
    assert descriptors() == before + 2
    hsmp.close()
    assert descriptors() == before
    assert hsmp.read("hsmp/socket0/protocol") == b"5\n"
    hsmp.close()


# --- the data fabric ---


def test_a_range_after_a_fixed_one_is_in_force(device: Device) -> None:
    """The firmware chooses again first: a P-state that is fixed would outlast the range."""
    hsmp = mailbox(device)
    for text, expected in (
        ("1", "1"),
        ("2 0", "2 0"),
        ("2", "2"),
        ("2 1", "2 1"),
        ("auto", "auto"),
        ("0", "0"),
        ("auto", "auto"),
    ):
        hsmp.write(DF.format(0), f"{text}\n".encode())
        assert (device.fabric[0], hsmp.read(DF.format(0))) == (expected, f"{text}\n".encode())


def test_what_was_set_is_shown_though_nothing_reads_it_back(tmp_path: Path) -> None:
    """Each socket by itself; also after the device was closed."""
    device = made(tmp_path, sockets=2)
    hsmp = mailbox(device)
    hsmp.write(DF.format(1), b"2 0\n")
    hsmp.close()
    assert [hsmp.read(DF.format(number)) for number in range(2)] == [b"auto\n", b"2 0\n"]


def test_what_the_process_before_has_set_is_known(tmp_path: Path) -> None:
    """By the state file; what this one sets goes before it."""
    device = made(tmp_path, sockets=3)
    hsmp = mailbox(device, lambda: {DF.format(0): "2", DF.format(1): "1"})
    hsmp.write(DF.format(1), b"0\n")
    assert [hsmp.read(DF.format(number)) for number in range(3)] == [b"2\n", b"0\n", b"auto\n"]
    hsmp.close()
    assert [hsmp.read(DF.format(number)) for number in range(3)] == [b"2\n", b"0\n", b"auto\n"]


@pytest.mark.parametrize(
    "number", [errno.ETIMEDOUT, errno.ENOMSG, errno.EINVAL, errno.EREMOTEIO, errno.EBUSY]
)
def test_a_setting_that_fails_is_not_shown(device: Device, number: int) -> None:
    """A4: what is shown is what the firmware has taken last; of a range whose end fails, that it
    chooses again.
    """
    hsmp = mailbox(device)
    hsmp.write(DF.format(0), b"2\n")
    device.refuse = {(0x0D, 0): number}
    with refused(number):
        hsmp.write(DF.format(0), b"1\n")
    assert hsmp.read(DF.format(0)) == b"2\n"
    device.refuse = {(0x0E, 0): number}
    for text in (b"auto\n", b"2 0\n"):
        with refused(number):
            hsmp.write(DF.format(0), text)
        assert (hsmp.read(DF.format(0)), device.fabric[0]) == (b"2\n", "2")
    device.refuse = {(0x22, 0): number}
    with refused(number):
        hsmp.write(DF.format(0), b"2 0\n")
    assert (hsmp.read(DF.format(0)), device.fabric[0]) == (b"auto\n", "auto")


# --- no mailbox, and one of no use ---


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ETIMEDOUT, "turned off in its settings"),
        (errno.ENOMSG, "ENOMSG"),
        (errno.EINVAL, "EINVAL"),
        (errno.EREMOTEIO, "EREMOTEIO"),
        (errno.EBUSY, "EBUSY"),
        (errno.EPERM, "overlay"),
    ],
    ids=errno.errorcode.get,
)
def test_a_mailbox_that_does_not_answer_is_told(device: Device, number: int, expected: str) -> None:
    """Once, with the device and what to do; there are no sockets then."""
    device.refuse = {(0x03, 0): number}
    hsmp = mailbox(device)
    assert hsmp.list("hsmp") == ("fault",)
    fault = hsmp.read("hsmp/fault").decode()
    assert fault.startswith(f"{device.path} ")
    assert expected in fault
    with refused(errno.ENOENT):
        hsmp.read(DF.format(0))
    with refused(errno.ENOENT):
        hsmp.write(DF.format(0), b"1\n")
    assert device.raw == [words(0x03, 0, 1)]


def test_a_driver_without_sockets_is_no_mailbox(tmp_path: Path) -> None:
    """ENODEV of the first: nothing to tell of."""
    with refused(errno.ENOENT):
        mailbox(made(tmp_path, sockets=0)).list("hsmp")


def test_no_device_is_no_mailbox(tmp_path: Path) -> None:
    """On every machine that is not of AMD; it is looked for again, for the driver may be loaded
    later.
    """
    device = Device(str(tmp_path / "hsmp"))
    hsmp = mailbox(device)
    with refused(errno.ENOENT):
        hsmp.list("hsmp")
    made(tmp_path)
    assert hsmp.list("hsmp") == ("socket0",)


def test_a_device_without_a_driver_is_told(tmp_path: Path) -> None:
    """ENXIO: the module is not loaded; opening a socket's name gives just that."""
    path = tmp_path / "hsmp"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        hsmp = mailbox(Device(str(path)))
        assert hsmp.list("hsmp") == ("fault",)
        assert b"load amd_hsmp" in hsmp.read("hsmp/fault")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_device_that_may_not_be_opened_is_told(
    device: Device, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A pod without the overlay."""
    real = os.open

    def deny(path: str, flags: int, *more: int) -> int:
        if path == device.path:
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", deny)
    hsmp = mailbox(device)
    assert hsmp.list("hsmp") == ("fault",)
    assert b"overlay" in hsmp.read("hsmp/fault")


def test_a_device_that_may_only_be_read_fails_when_something_is_set(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A4: questions are answered all the same."""
    real = os.open
    monkeypatch.setattr(
        os,
        "open",
        lambda path, flags, *more: real(
            "/nonexistent" if flags & os.O_WRONLY and path == device.path else path, flags, *more
        ),
    )
    hsmp = mailbox(device)
    with refused(errno.ENOENT):
        hsmp.write(DF.format(0), b"1\n")
    assert (hsmp.read(DF.format(0)), device.settings) == (b"auto\n", [])


def test_a_link_in_place_of_the_device_is_not_followed(tmp_path: Path, device: Device) -> None:
    """Nobody is to choose what is opened as root."""
    (tmp_path / "link").symlink_to(device.path)
    hsmp = mailbox(Device(str(tmp_path / "link")))
    assert hsmp.list("hsmp") == ("fault",)


def test_a_plain_file_in_place_of_the_device_is_told(device: Device) -> None:
    """ENOTTY, by the kernel's own ioctl."""
    hsmp = Hsmp(firmware.Device(device.path))
    assert hsmp.list("hsmp") == ("fault",)
    assert b"ENOTTY" in hsmp.read("hsmp/fault")


# --- behind an applier ---


@contextmanager
def process(device: Device, folder: Path) -> Iterator[Applier]:
    """An agent's applier on a tree of one CPU and this mailbox, as kpm makes it; at the end the
    process is gone.
    """
    root = bare(folder / "sys")
    store = StateStore(str(folder / "state"), "/model", live=False)
    known = mailbox(device, lambda: asked_fabrics(store.load()))
    handle = Applier(Composite(SysfsHost(str(root)), known), store)
    try:
        handle.open()
        yield handle
    finally:
        handle.close()


def test_sockets_are_zones_and_fabrics(tmp_path: Path) -> None:
    """Where no sensor caps, messages do: mW there, µW here; finding them only asks."""
    device = made(tmp_path, sockets=2)
    device.limits = {1: 225_000}
    with process(device, tmp_path) as handle:
        machine = handle.machine
    limits = [
        PowerLimit("power_cap", "power_limit_mw", uw, 400_000_000)
        for uw in (280_000_000, 225_000_000)
    ]
    assert machine.power_zones == tuple(
        PowerZone(
            f"hsmp/socket{number}", f"socket-{number}", "hsmp", number, limits=(limits[number],)
        )
        for number in range(2)
    )
    assert [(fabric.package, fabric.protocol, fabric.pstates) for fabric in machine.fabrics] == [
        (0, 5, "auto"),
        (1, 5, "auto"),
    ]
    assert device.settings == []


def test_a_fabric_is_set_once(tmp_path: Path) -> None:
    """R3: neither the second pass, nor the next process, nor looking at the whole machine anew
    sends a setting; leaving sends 0Eh.
    """
    device = made(tmp_path, sockets=2)
    with process(device, tmp_path) as handle:
        plan = fabrics(handle.machine, socket0="1", socket1="2 0")
        report = handle.apply(plan)
        assert (report.settled, report.outcomes) == (True, ())
        assert device.settings == [(0x0D, 0, 1), (0x0E, 1, None), (0x22, 1, 0x0200)]
        device.forget()
        assert handle.apply(plan) == Report()
        handle.discover()
        assert handle.apply(plan) == Report()
        assert {fabric.pstates for fabric in handle.machine.fabrics} == {"auto"}
        assert [fabric.pstates for fabric in handle.shown.fabrics] == ["1", "2 0"]
    with process(device, tmp_path) as handle:
        assert handle.apply(plan) == Report()
        assert {fabric.pstates for fabric in handle.machine.fabrics} == {"auto"}
    assert device.settings == []
    with process(device, tmp_path) as handle:
        assert handle.restore().settled
        assert handle.restore() == Report()
    assert device.settings == [(0x0E, 0, None), (0x0E, 1, None)]
    assert device.fabric == {0: "auto", 1: "auto"}


def test_a_fabric_that_is_not_asked_for_is_never_told(tmp_path: Path) -> None:
    """R2: the other socket hears questions only."""
    device = made(tmp_path, sockets=2)
    with process(device, tmp_path) as handle:
        handle.apply(fabrics(handle.machine, socket1="0"))
        handle.apply(nothing(handle.machine))
    assert device.settings == [(0x0D, 1, 0), (0x0E, 1, None)]


def test_a_limit_is_set_by_message(tmp_path: Path) -> None:
    """05h in mW, read back by 06h; somebody else's is drift; leaving gives back what it was."""
    device = made(tmp_path, sockets=2)
    device.limits = {1: 225_000}
    with process(device, tmp_path) as handle:
        plan = all_capped(handle.machine, power_cap=200)
        assert handle.apply(plan).outcomes == ()
        assert device.settings == [(0x05, 0, 200_000), (0x05, 1, 200_000)]
        device.forget()
        assert handle.apply(plan) == Report()
    with process(device, tmp_path) as handle:
        assert handle.apply(plan) == Report()
        assert device.settings == []
        device.limits[0] = 300_000
        assert [(write.path, write.old, write.value) for write in handle.apply(plan).drift] == [
            (LIMIT.format(0), "300000", "200000")
        ]
        handle.restore()
    assert device.limits == {0: 280_000, 1: 225_000}


def test_firmware_that_limits_lower_is_seen(tmp_path: Path) -> None:
    """A3: said once, as limited."""
    device = made(tmp_path)
    with process(device, tmp_path) as handle:
        plan = all_capped(handle.machine, power_cap=500)
        assert [
            (outcome.status, outcome.wanted, outcome.shows)
            for outcome in handle.apply(plan).outcomes
        ] == [(Status.LIMITED, "500000", "400000")]
        assert handle.apply(plan) == Report()


@pytest.mark.parametrize(
    "number",
    [errno.ETIMEDOUT, errno.ENOMSG, errno.EINVAL, errno.EREMOTEIO, errno.EBUSY, errno.EPERM],
)
def test_a_setting_that_fails_costs_its_socket(tmp_path: Path, number: int) -> None:
    """A4: errno and what is in force are told, the other socket is set; when it works again it is
    set too, and then everything is given back.
    """
    device = made(tmp_path, sockets=2)
    device.refuse = {(0x0D, 0): number, (0x05, 0): number}
    with process(device, tmp_path) as handle:
        both = NodePlan(
            "node",
            (),
            fabrics=fabrics(handle.machine, socket0="1", socket1="1").fabrics,
            caps=all_capped(handle.machine, power_cap=200).caps,
        )
        report = handle.apply(both)
        assert {
            (outcome.path, outcome.status, outcome.shows, outcome.errno)
            for outcome in report.outcomes
        } == {
            (DF.format(0), Status.FAILED, "auto", number),
            (LIMIT.format(0), Status.FAILED, "280000", number),
        }
        assert (device.fabric, device.limits) == ({1: "1"}, {1: 200_000})
        device.refuse = {}
        handle.host.wait(0)
        assert handle.apply(both).settled
        assert (device.fabric, device.limits) == ({0: "1", 1: "1"}, {0: 200_000, 1: 200_000})
        handle.restore()
    assert (device.fabric, device.limits) == ({0: "auto", 1: "auto"}, {0: 280_000, 1: 280_000})


def test_a_fabric_that_cannot_be_given_back_keeps_its_entry(tmp_path: Path) -> None:
    """A7: until it can."""
    device = made(tmp_path)
    with process(device, tmp_path) as handle:
        handle.apply(fabrics(handle.machine, socket0="1"))
    device.refuse = {(0x0E, 0): errno.EBUSY}
    with process(device, tmp_path) as handle:
        assert [(outcome.status, outcome.errno) for outcome in handle.restore().outcomes] == [
            (Status.FAILED, errno.EBUSY)
        ]
    device.refuse = {}
    with process(device, tmp_path) as handle:
        assert set(handle.state.groups) == {"fabric:0"}
        assert handle.restore().settled
        assert handle.state.groups == {}
    assert device.fabric == {0: "auto"}


def test_a_device_that_is_away_for_a_while(tmp_path: Path) -> None:
    """Its driver is loaded again: the entries stay meanwhile, and what is still in force is not set
    again.
    """
    device = made(tmp_path)
    with process(device, tmp_path) as handle:
        plan = fabrics(handle.machine, socket0="1")
        handle.apply(plan)
    Path(device.path).unlink()
    with process(device, tmp_path) as handle:
        assert (handle.machine.fabrics, handle.machine.fabric_fault) == ((), "")
        handle.apply(nothing(handle.machine))
        assert [outcome.status for outcome in handle.restore().outcomes] == [Status.OFFLINE]
    made(tmp_path)
    device.forget()
    with process(device, tmp_path) as handle:
        assert handle.apply(plan) == Report()
        assert device.settings == []
        assert handle.restore().settled
    assert device.fabric == {0: "auto"}


def test_a_lock_between_two_processes_is_no_matter_of_the_device(tmp_path: Path) -> None:
    """Looking alone opens it to ask, never to tell."""
    device = made(tmp_path)
    store = StateStore(str(tmp_path / "state"), "/model", live=False)
    with process(device, tmp_path) as handle:
        handle.apply(fabrics(handle.machine, socket0="1"))
        device.forget()
        known = mailbox(device, lambda: asked_fabrics(store.load()))
        other = Applier(Composite(SysfsHost(str(tmp_path / "sys")), known), store)
        other.open(writing=False)
        assert [fabric.pstates for fabric in other.shown.fabrics] == ["1"]
        other.close()
    assert device.settings == []


@pytest.mark.parametrize("crash_after", range(4))
@pytest.mark.parametrize("text", ["1", "2 0"])
def test_a_kill_between_two_messages_is_harmless(
    tmp_path: Path, text: str, crash_after: int
) -> None:
    """A6: before, between and after those of a range, in setting it and in giving it back; what the
    state file doubts is sent again.
    """
    device = made(tmp_path)
    device.crash_after = crash_after
    with suppress(rig.Crash), process(device, tmp_path) as handle:
        handle.apply(fabrics(handle.machine, socket0=text))
        handle.restore()
    device.crash_after = None
    with process(device, tmp_path) as handle:
        assert handle.apply(fabrics(handle.machine, socket0=text)).settled
        assert device.fabric == {0: text}
    device.forget()
    device.crash_after = 0
    with suppress(rig.Crash), process(device, tmp_path) as handle:
        handle.restore()
    assert device.fabric == {0: text}
    device.crash_after = None
    with process(device, tmp_path) as handle:
        assert handle.restore().settled
    assert device.fabric == {0: "auto"}


TEXTS = st.sampled_from((None, "0", "1", "2", "1 0", "2 0", "2 1"))


@given(
    st.lists(
        st.tuples(st.tuples(TEXTS, TEXTS), st.booleans(), st.none() | st.integers(0, 5)),
        min_size=1,
        max_size=6,
    )
)
def test_the_last_plan_is_in_force_whatever_was_before(
    steps: list[tuple[tuple[str | None, str | None], bool, int | None]],
) -> None:
    """R1, A6: over restarts, and processes that end between two messages; what nobody asks for is
    automatic.
    """
    with rig.state_folder() as name:
        folder = Path(name)
        device = made(folder, sockets=2)
        for asked, looks, crash_after in steps:
            wanted = {
                f"socket{number}": text for number, text in enumerate(asked) if text is not None
            }
            if crash_after is not None:
                device.forget()
                device.crash_after = crash_after
                with suppress(rig.Crash), process(device, folder) as handle:
                    handle.apply(fabrics(handle.machine, **wanted))
                device.crash_after = None
            with process(device, folder) as handle:
                assert handle.apply(fabrics(handle.machine, **wanted)).settled
                assert [device.fabric.get(number, "auto") for number in range(2)] == [
                    text or "auto" for text in asked
                ]
                device.forget()
                if looks:
                    handle.discover()
                assert handle.apply(fabrics(handle.machine, **wanted)).writes == ()
                assert device.settings == []
        with process(device, folder) as handle:
            assert handle.restore().settled
            assert handle.state.groups == {}
        assert set(device.fabric.values()) <= {"auto"}


# --- from object to message ---


def planned(machine: Machine, fastest: int, slowest: int, package: int | None = None) -> NodePlan:
    """What the planner makes of an Uncore object; dfPstateMin is the end with the larger number,
    which is slower.
    """
    uncore = Uncore(Meta("node"), amd=AmdFabric(slowest, fastest, package))
    return plan_node(Intent(uncores=(uncore,)), NodeInput(Node("node"), machine))


@pytest.mark.parametrize(
    ("fastest", "slowest", "expected"),
    [
        (1, 1, [(0x0D, 1)]),
        (0, 2, [(0x0E, None), (0x22, 0x0200)]),
        (1, 2, [(0x0E, None), (0x22, 0x0201)]),
        (0, 0, [(0x0D, 0)]),
    ],
)
def test_an_object_becomes_these_messages(
    tmp_path: Path, fastest: int, slowest: int, expected: list[tuple[int, int | None]]
) -> None:
    """0 is the fastest: equal ends are fixed, different ones are a range whose slower end is the
    upper byte; the earlier system had them the wrong way round.
    """
    device = made(tmp_path, sockets=2)
    with process(device, tmp_path) as handle:
        plan = planned(handle.machine, fastest, slowest, package=1)
        assert handle.apply(plan).settled
    assert device.settings == [(message, 1, arg) for message, arg in expected]


def test_ends_the_wrong_way_round_set_nothing(tmp_path: Path) -> None:
    """An object with errors has no effect; neither has a range where the protocol has no message
    for it.
    """
    device = made(tmp_path, protocol=6)
    with process(device, tmp_path) as handle:
        for fastest, slowest in ((2, 0), (0, 2)):
            plan = planned(handle.machine, fastest, slowest)
            assert [
                problem.severity.value
                for problem in plan.problems
                if problem.field.startswith("spec.amd")
            ] == ["error"]
            handle.apply(plan)
        assert planned(handle.machine, 1, 1).problems == ()
    assert device.settings == []


def test_firmware_that_is_off_is_a_problem_of_the_object(tmp_path: Path) -> None:
    """It says what to change; nothing else of the node suffers."""
    device = made(tmp_path)
    device.refuse = {(0x03, 0): errno.ETIMEDOUT}
    with process(device, tmp_path) as handle:
        (problem,) = planned(handle.machine, 1, 1).problems
        assert problem.code is Code.FABRIC_UNSUPPORTED
        assert "turned off in its settings" in problem.message
        assert handle.apply(planned(handle.machine, 1, 1)).settled
    assert device.settings == []


def test_the_state_names_the_files_that_it_knows() -> None:
    """Where the last request settled; while that is in doubt, what was asked; nothing of other
    groups.
    """
    with rig.state_folder() as name:
        device = made(Path(name), sockets=2)
        with process(device, Path(name)) as handle:
            handle.apply(
                NodePlan(
                    "node",
                    (),
                    fabrics=fabrics(handle.machine, socket1="2 0").fabrics,
                    caps=all_capped(handle.machine, power_cap=200).caps,
                )
            )
            assert asked_fabrics(handle.state) == {DF.format(1): "2 0"}
            assert discover(handle.host).machine.fabrics[1].pstates == "2 0"
    doubted = GroupState("hsmp", ("df_pstate",), ("auto",), ("1",), (IN_DOUBT,))
    assert asked_fabrics(State({"fabric:3": doubted, "cap:socket-3": doubted})) == {
        DF.format(3): "1"
    }
    assert asked_fabrics(State()) == {}
