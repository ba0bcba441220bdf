"""The mailbox of AMD's system management firmware (HSMP), shown as files, so that it has the same
diff, verify and restore as sysfs.

socketN/protocol, power_mw, power_limit_mw, power_limit_max_mw are read by message (mailbox.py).
df_pstate holds "auto", one P-state, or the slowest and the fastest that are allowed; no message
reads it back, so it shows what was last taken, by this process or, as the state file has it, by the
one before.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence

from kpm_applier.attributes import DF_PSTATE, HSMP_ROOT
from kpm_applier.sysfs.mailbox import (
    AUTO_DF,
    GET_LIMIT,
    GET_LIMIT_MAX,
    GET_POWER,
    GET_PROTOCOL,
    MOST_SOCKETS,
    SET_DF,
    SET_DF_RANGE,
    SET_LIMIT,
    Mailbox,
)
from kpm_planner.fabric import AUTOMATIC

_READS = {
    "protocol": GET_PROTOCOL,
    "power_mw": GET_POWER,
    "power_limit_mw": GET_LIMIT,
    "power_limit_max_mw": GET_LIMIT_MAX,
}
_FAULTS = {
    errno.ETIMEDOUT: "the firmware does not answer (ETIMEDOUT): HSMP is turned off in its settings",
    errno.EACCES: "may not be opened (EACCES): use the hsmp overlay of deploy/",
    errno.EPERM: "may not be opened (EPERM): use the hsmp overlay of deploy/",
    errno.ENXIO: "has no driver behind it (ENXIO): load amd_hsmp",
}
#: A helper that is not there at present says nothing of the device.
_UNREACHED = frozenset({errno.ECONNREFUSED, errno.ECONNRESET})


def _meaning(number: int) -> str:
    return _FAULTS.get(number) or f"{errno.errorcode.get(number, 'error')}: {os.strerror(number)}"


class Hsmp:
    """The files of one mailbox. known: path → what df_pstate was last set to."""

    def __init__(self, mailbox: Mailbox, known: Callable[[], Mapping[str, str]] = dict) -> None:
        self._mailbox, self._known = mailbox, known
        self._asked: dict[str, str] = {}
        self._sockets, self._fault = 0, ""

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder. Errors: OSError where there is no mailbox to be used."""
        self._look()
        if path == HSMP_ROOT and (self._sockets or self._fault):
            return (
                *(f"socket{number}" for number in range(self._sockets)),
                *(["fault"] if self._fault else []),
            )
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
        return f"{self._mailbox.send(number, _READS[name])}\n".encode()

    def write(self, path: str, data: bytes) -> None:
        """Hand a text to a file.

        Errors: OSError with the errno that the message got, EINVAL for what is no value of the
        file.
        """
        self._look()
        number, name = self._place(path)
        words = data.decode("ascii", "replace").split()
        values = [
            int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 10
        ]
        if name == "power_limit_mw" and len(values) == len(words) == 1:
            self._mailbox.send(number, SET_LIMIT, values[0])
        elif name == DF_PSTATE.file and (
            words == [AUTOMATIC] or (len(values) == len(words) in (1, 2) and max(values) <= 0xFF)
        ):
            self._set_fabric(path, number, values)
        else:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    def _set_fabric(self, path: str, number: int, values: Sequence[int]) -> None:
        """Fix a P-state, or let the firmware choose, in a range where one is given: a fixed one
        would outlast the range.
        """
        if len(values) == 1:
            self._mailbox.send(number, SET_DF, values[0])
        else:
            self._mailbox.send(number, AUTO_DF)
            self._asked[path] = AUTOMATIC
        if len(values) == 2:
            slowest, fastest = values
            self._mailbox.send(number, SET_DF_RANGE, slowest << 8 | fastest)
        self._asked[path] = " ".join(map(str, values)) or AUTOMATIC

    def refuses_writing(self) -> int:
        """The errno of opening the device for settings, 0 where it can be."""
        return self._mailbox.refuses_writing()

    def close(self) -> None:
        """Let go of the device; it is looked for anew when it is next used."""
        self._mailbox.close()
        self._sockets, self._fault = 0, ""

    def _place(self, path: str) -> tuple[int, str]:
        words = path.split("/")
        number = words[1].removeprefix("socket") if len(words) == 3 else ""
        if (
            not (number.isascii() and number.isdigit())
            or len(number) > 2
            or int(number) >= self._sockets
        ):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return int(number), words[2]

    def _look(self) -> None:
        """Count the sockets: each answers for its protocol until one does not exist.

        Only while there is no device this is done again.
        """
        if self._sockets or self._fault:
            return
        self._asked = {**self._known(), **self._asked}
        try:
            for number in range(MOST_SOCKETS):
                self._mailbox.send(number, GET_PROTOCOL)
                self._sockets = number + 1
        except OSError as failure:
            absent = failure.errno == errno.ENODEV or failure.errno in _UNREACHED
            wrong = not absent and (self._sockets or failure.errno != errno.ENOENT)
            if wrong:
                self._fault = f"{self._mailbox.path} {_meaning(failure.errno or errno.EIO)}"
