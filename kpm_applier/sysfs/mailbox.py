"""The device of AMD's firmware mailbox (HSMP): one ioctl of 44 bytes a message (kernel,
asm/amd/hsmp.h).

Only messages of the table are sent, with an argument that they can have, whoever asks. Plain
Python, since the helper, which loads no library, sends them for an agent.
"""

import errno
import fcntl
import os
import struct
from typing import Protocol

DEVICE = "/dev/hsmp"
#: _IOWR(0xF8, 0, 44 bytes).
REQUEST = 0xC02CF800
#: msg_id, num_args, response_sz, args[8], sock_ind, padding.
_FORM = struct.Struct("<IHH8IH2x")
GET_PROTOCOL, GET_POWER, SET_LIMIT, GET_LIMIT, GET_LIMIT_MAX, SET_DF, AUTO_DF, SET_DF_RANGE = (
    0x03,
    0x04,
    0x05,
    0x06,
    0x07,
    0x0D,
    0x0E,
    0x22,
)
#: Message → the largest argument, None where it takes none, and whether it has an answer of one
#: word.
MESSAGES: dict[int, tuple[int | None, bool]] = {
    GET_PROTOCOL: (None, True),
    GET_POWER: (None, True),
    SET_LIMIT: (999_999_999, False),
    GET_LIMIT: (None, True),
    GET_LIMIT_MAX: (None, True),
    SET_DF: (0xFF, False),
    AUTO_DF: (None, False),
    SET_DF_RANGE: (0xFFFF, False),
}
MOST_SOCKETS = 8


class Mailbox(Protocol):
    """What takes messages: the device, or a helper that has it."""

    @property
    def path(self) -> str:
        """Of the device."""
        ...

    def send(self, number: int, message: int, argument: int | None = None) -> int:
        """One message of a socket; its answer, 0 for none.

        Errors: OSError with the errno that it got.
        """
        ...

    def refuses_writing(self) -> int:
        """The errno of opening the device for settings, 0 where it can be."""
        ...

    def close(self) -> None:
        """Let go of it; it is opened anew when it is next used."""
        ...


class Ioctl(Protocol):
    """fcntl.ioctl with a buffer that it changes."""

    def __call__(self, descriptor: int, request: int, buffer: bytearray, /) -> object:
        """Errors: OSError with the kernel's errno."""
        ...


class Device:
    """The device file of this machine."""

    def __init__(self, path: str = DEVICE, ioctl: Ioctl = fcntl.ioctl) -> None:
        self.path, self._ioctl = path, ioctl
        self._descriptors: dict[int, int] = {}

    def send(self, number: int, message: int, argument: int | None = None) -> int:
        """One message of a socket; its answer, 0 for none.

        Errors: OSError with the errno that it got, EINVAL for what is no message.
        """
        largest, answers = MESSAGES.get(message, (0, False))
        fits = (
            argument is None
            if largest is None
            else argument is not None and 0 <= argument <= largest
        )
        if message not in MESSAGES or not fits or not 0 <= number < MOST_SOCKETS:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.path)
        buffer = bytearray(
            _FORM.pack(message, largest is not None, answers, argument or 0, *(0,) * 7, number)
        )
        # A message with an answer is a question, and a descriptor may only ask or only tell.
        self._ioctl(self._descriptor(os.O_RDONLY if answers else os.O_WRONLY), REQUEST, buffer)
        return int(_FORM.unpack(buffer)[3]) if answers else 0

    def refuses_writing(self) -> int:
        """The errno of opening the device for settings, 0 where it can be."""
        try:
            self._descriptor(os.O_WRONLY)
        except OSError as failure:
            return failure.errno or errno.EIO
        return 0

    def open(self) -> None:
        """Open it both ways now, before the right to do so is given up; a device that is not there
        is told when it is used.
        """
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                self._descriptor(flags)
            except OSError:
                continue

    def close(self) -> None:
        """Let go of the device; it is opened anew when it is next used."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _descriptor(self, flags: int) -> int:
        if flags not in self._descriptors:
            self._descriptors[flags] = os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        return self._descriptors[flags]
