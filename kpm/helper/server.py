"""The helper's process: listen, give up what is not needed, then write record after record until
told to end.

Whoever connects is the agent or its scaler: the socket lies in a folder that only the pod's two
containers mount. What they send is taken as hostile all the same: it is of a fixed shape, and a
table says which files and values it can mean.
"""

import contextlib
import errno
import json
import os
import resource
import select
import socket
import stat
import sys
import time
from typing import NoReturn

from kpm.helper.confine import drop_capabilities, filter_calls, leave_network, write_only
from kpm.helper.containers import Containers
from kpm.process.ending import on_signals
from kpm_applier.sysfs.boundary import (
    ANSWER,
    CALL,
    MAY_TELL,
    MOST_RECORDS,
    NO_ARGUMENT,
    RECORD,
    RESULT,
    write_of,
)
from kpm_applier.sysfs.mailbox import Device

#: The name of the socket on which the agent hears of containers, beside the one on which it writes.
CONTAINERS = "containers.sock"
_MOST_LINKS = 8
_LONGEST = MOST_RECORDS * RECORD.size
#: Descriptors left to sockets.
_SPARE = 32
#: Below the root: the only folders that have files of the table. The chip's own, not all of its
#: bus.
_FOLDERS = ("devices/system/cpu", "devices/virtual/powercap")
_CHIPS = ("devices/platform", ("amd_hsmp", "AMDI0097:"))


class Writer:
    """The files of one tree, kept open once they have been written."""

    def __init__(self, root: str, most: int) -> None:
        self.root, self.most = root, most
        self._open: dict[str, int] = {}
        self._plain: set[int] = set()

    def write(self, record: bytes) -> int:
        """Carry out one record; the errno, 0 for done.

        A kept file that has died is opened anew once.
        """
        asked = write_of(record)
        if isinstance(asked, int):
            return asked
        path, data = asked
        kept = path in self._open
        number = self._put(path, data)
        return self._put(path, data) if number and kept else number

    def _put(self, path: str, data: bytes) -> int:
        try:
            file = self._open.get(path)
            if file is None:
                file = self._keep(path)
            written = os.pwrite(file, data, 0)
            if file in self._plain:
                os.ftruncate(file, len(data))
        except OSError as failure:
            self._drop(path)
            return failure.errno or errno.EIO
        return 0 if written == len(data) else errno.EIO

    def _keep(self, path: str) -> int:
        if len(self._open) >= self.most:
            for other in list(self._open):
                self._drop(other)
        file = os.open(
            f"{self.root}/{path}", os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
        self._open[path] = file
        shape = os.fstat(file)
        if not stat.S_ISREG(shape.st_mode):
            raise OSError(errno.EINVAL, "is not a plain file", path)
        if shape.st_blocks:  # files of sysfs occupy none and need no cutting
            self._plain.add(file)
        return file

    def _drop(self, path: str) -> None:
        file = self._open.pop(path, None)
        if file is not None:
            self._plain.discard(file)
            os.close(file)


def answer(message: bytes, writer: Writer, mailbox: Device | None = None) -> bytes | None:
    """What is said to a message; None where it is none. mailbox: the firmware's, where there is to
    be one.
    """
    if len(message) == CALL.size:
        return RESULT.pack(*_told(message, mailbox))
    if not message or len(message) % RECORD.size or len(message) > _LONGEST:
        return None
    records = (message[at : at + RECORD.size] for at in range(0, len(message), RECORD.size))
    return b"".join(ANSWER.pack(writer.write(record)) for record in records)


def _told(message: bytes, mailbox: Device | None) -> tuple[int, int]:
    """Errno and answer of a message for the firmware's mailbox."""
    word, number, argument = CALL.unpack(message)
    if mailbox is None:
        return errno.ENOENT, 0
    if word == MAY_TELL:
        return mailbox.refuses_writing(), 0
    try:
        return 0, mailbox.send(number, word, None if argument == NO_ARGUMENT else argument)
    except OSError as failure:
        return failure.errno or errno.EIO, 0


def listen(path: str) -> socket.socket:
    """A socket under this name. Errors: OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(path)
    os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
    server.listen(_MOST_LINKS)
    server.setblocking(False)
    return server


class Loop:
    """One poll for everything: links that write, and where the runtime is asked, what it says of
    containers.
    """

    def __init__(
        self, server: socket.socket, writer: Writer, mailbox: Device | None = None
    ) -> None:
        self.server, self.writer, self.mailbox = server, writer, mailbox
        self.poll = select.poll()
        self.poll.register(server, select.POLLIN)
        self.links: dict[int, socket.socket] = {}
        self.containers: Containers | None = None

    def run(self) -> NoReturn:
        """For ever."""
        while True:
            waits = -1 if self.containers is None else self.containers.wait_ms()
            for number, _ in self.poll.poll(waits):
                self._attend(number)
            if self.containers is not None:
                self.containers.tick()

    def _attend(self, number: int) -> None:
        if number == self.server.fileno():
            self._accept()
        elif number in self.links:
            if not _answered(self.links[number], self.writer, self.mailbox):
                self._drop(number)
        elif self.containers is not None:
            self.containers.attend(number)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            link, _ = self.server.accept()
            # the oldest is of a process that has gone, or of nobody we know
            if len(self.links) >= _MOST_LINKS:
                self._drop(next(iter(self.links)))
            self.poll.register(link, select.POLLIN)
            self.links[link.fileno()] = link

    def _drop(self, number: int) -> None:
        self.poll.unregister(number)
        self.links.pop(number).close()


def _answered(link: socket.socket, writer: Writer, mailbox: Device | None) -> bool:
    """One message of a link; whether the link stays."""
    try:
        message, _, flags, _ = link.recvmsg(_LONGEST, 0, socket.MSG_DONTWAIT)
        said = None if flags & socket.MSG_TRUNC else answer(message, writer, mailbox)
        if said is not None:
            link.send(said, socket.MSG_DONTWAIT)
    except OSError:
        return False
    return said is not None


def facts() -> dict[str, str]:
    """What the kernel says of this process's privileges."""
    wanted = {"CapEff", "NoNewPrivs", "Seccomp"}
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        pairs = (line.split(":", 1) for line in status)
        return {name: value.strip() for name, value in pairs if name in wanted}


def folders(root: str) -> list[str]:
    """The folders of a tree that have files of the table."""
    bus, names = _CHIPS
    chips: list[str] = []
    with contextlib.suppress(OSError):
        chips = [
            f"{root}/{bus}/{name}" for name in os.listdir(f"{root}/{bus}") if name.startswith(names)
        ]
    return [*(f"{root}/{folder}" for folder in _FOLDERS), *chips]


def say(event: str, **fields: object) -> None:
    """A line of log, in the shape of the agent's."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(
        json.dumps(
            {"time": moment, "level": "info", "event": event, "component": "helper", **fields}
        )
        + "\n"
    )
    sys.stderr.flush()


def run(sysfs: str, path: str, nri: str | None = None, hsmp: str | None = None) -> NoReturn:
    """Listen and serve until a signal ends the process. nri: the runtime's socket, where it is to
    be asked. hsmp: a device.

    Errors: OSError where the sockets cannot be made.
    """
    on_signals(lambda *_: sys.exit(0))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE
    root = os.path.realpath(sysfs)
    mailbox = None if hsmp is None else Device(hsmp)
    if mailbox is not None:
        mailbox.open()
    loop = Loop(listen(path), Writer(root, most), mailbox)
    if nri is not None:
        loop.containers = Containers(
            nri, listen(f"{path.rpartition('/')[0]}/{CONTAINERS}"), loop.poll, say
        )
    network = leave_network()
    drop_capabilities()
    files = write_only(folders(root))
    calls = filter_calls(mailbox=mailbox is not None)
    say(
        "helper started",
        socket=path,
        runtime=nri,
        mailbox=hsmp,
        network_left=network,
        files_held=files,
        calls_filtered=calls,
        **facts(),
    )
    loop.run()
