"""The mailbox of AMD's system management firmware (HSMP), shown as files, so that it has the same diff, verify and restore as sysfs.

One ioctl of 44 bytes a message (kernel, asm/amd/hsmp.h). socketN/protocol, power_mw, power_limit_mw, power_limit_max_mw are
read by message. df_pstate holds "auto", one P-state, or the slowest and the fastest that are allowed; no message reads it back,
so it shows what was last taken, by this process or, as the state file has it, by the one before. No other module opens the device.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kpm_applier.attributes import DF_PSTATE, HSMP_ROOT
from kpm_planner.fabric import AUTOMATIC

#: _IOWR(0xF8, 0, 44 bytes).
REQUEST = 0xC02CF800
#: msg_id, num_args, response_sz, args[8], sock_ind, padding.
MESSAGE = struct.Struct("<IHH8IH2x")
GET_PROTOCOL, GET_POWER, SET_LIMIT, GET_LIMIT, GET_LIMIT_MAX, SET_DF, AUTO_DF, SET_DF_RANGE = 0x03, 0x04, 0x05, 0x06, 0x07, 0x0D, 0x0E, 0x22
_MOST_SOCKETS = 8
_READS = {"protocol": GET_PROTOCOL, "power_mw": GET_POWER, "power_limit_mw": GET_LIMIT, "power_limit_max_mw": GET_LIMIT_MAX}
_FAULTS = {
    errno.ETIMEDOUT: "the firmware does not answer (ETIMEDOUT): HSMP is turned off in its settings",
    errno.EACCES: "may not be opened (EACCES): use the hsmp overlay of deploy/",
    errno.EPERM: "may not be opened (EPERM): use the hsmp overlay of deploy/",
    errno.ENXIO: "has no driver behind it (ENXIO): load amd_hsmp",
}


class Ioctl(Protocol):
    """fcntl.ioctl with a buffer that it changes."""

    def __call__(self, descriptor: int, request: int, buffer: bytearray, /) -> object:
        """Errors: OSError with the kernel's errno."""
        ...


class Hsmp:
    """The mailbox behind one device file. known: path → what df_pstate was last set to."""

    def __init__(self, device: str, known: Callable[[], Mapping[str, str]] = dict, ioctl: Ioctl = fcntl.ioctl) -> None:
        self._device, self._known, self._ioctl = device, known, ioctl
        self._asked: dict[str, str] = {}
        self._descriptors: dict[int, int] = {}
        self._sockets, self._fault = 0, ""

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder. Errors: OSError where there is no mailbox to be used."""
        self._look()
        if path == HSMP_ROOT and (self._sockets or self._fault):
            return (*(f"socket{number}" for number in range(self._sockets)), *(["fault"] if self._fault else []))
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def read(self, path: str) -> bytes:
        """The content of a file. Errors: OSError with the errno that the message got."""
        self._look()
        if path == f"{HSMP_ROOT}/fault" and self._fault:
            return f"{self._fault}\n".encode()
        number, name = self._place(path)
        if name == DF_PSTATE.file:
            return f"{self._asked.get(path, AUTOMATIC)}\n".encode()
        if name not in _READS:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return f"{self._send(number, _READS[name], (), 1)[0]}\n".encode()

    def write(self, path: str, data: bytes) -> None:
        """Hand a text to a file. Errors: OSError with the errno that the message got, EINVAL for what is no value of the file."""
        self._look()
        number, name = self._place(path)
        words = data.decode("ascii", "replace").split()
        values = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 10]
        if name == "power_limit_mw" and len(values) == len(words) == 1:
            self._send(number, SET_LIMIT, values, 0)
        elif name == DF_PSTATE.file and (words == [AUTOMATIC] or (len(values) == len(words) in (1, 2) and max(values) <= 0xFF)):
            self._set_fabric(path, number, values)
        else:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    def _set_fabric(self, path: str, number: int, values: Sequence[int]) -> None:
        """Fix a P-state, or let the firmware choose, in a range where one is given: a fixed one would outlast the range."""
        if len(values) == 1:
            self._send(number, SET_DF, values, 0)
        else:
            self._send(number, AUTO_DF, (), 0)
            self._asked[path] = AUTOMATIC
        if len(values) == 2:
            slowest, fastest = values
            self._send(number, SET_DF_RANGE, (slowest << 8 | fastest,), 0)
        self._asked[path] = " ".join(map(str, values)) or AUTOMATIC

    def refuses_writing(self) -> int:
        """The errno of opening the device for settings, 0 where it can be."""
        try:
            self._descriptor(os.O_WRONLY)
        except OSError as failure:
            return failure.errno or errno.EIO
        return 0

    def close(self) -> None:
        """Let go of the device; it is looked for anew when it is next used."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._sockets, self._fault = 0, ""

    def _place(self, path: str) -> tuple[int, str]:
        words = path.split("/")
        number = words[1].removeprefix("socket") if len(words) == 3 else ""
        if not (number.isascii() and number.isdigit()) or len(number) > 2 or int(number) >= self._sockets:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return int(number), words[2]

    def _look(self) -> None:
        """Count the sockets: each answers for its protocol until one does not exist. Only while there is no device this is done again."""
        if self._sockets or self._fault:
            return
        self._asked = {**self._known(), **self._asked}
        try:
            for number in range(_MOST_SOCKETS):
                self._send(number, GET_PROTOCOL, (), 1)
                self._sockets = number + 1
        except OSError as failure:
            wrong = failure.errno != errno.ENODEV and (self._sockets or failure.errno != errno.ENOENT)
            self._fault = _FAULTS.get(failure.errno or 0, f"{errno.errorcode.get(failure.errno or 0, 'error')}: {failure.strerror}") if wrong else ""
            if wrong:
                self._fault = f"{self._device} {self._fault}"

    def _send(self, number: int, message: int, args: Sequence[int], answers: int) -> tuple[int, ...]:
        """One message: it is a question where it has an answer, and a descriptor may only ask or only tell."""
        buffer = bytearray(MESSAGE.pack(message, len(args), answers, *args, *(0,) * (8 - len(args)), number))
        self._ioctl(self._descriptor(os.O_RDONLY if answers else os.O_WRONLY), REQUEST, buffer)
        return MESSAGE.unpack(buffer)[3 : 3 + answers]

    def _descriptor(self, flags: int) -> int:
        if flags not in self._descriptors:
            self._descriptors[flags] = os.open(self._device, flags | os.O_CLOEXEC | os.O_NOFOLLOW)
        return self._descriptors[flags]
