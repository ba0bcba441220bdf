"""A host whose files somebody else writes: read here, written by a helper behind a socket
(boundary.py).

The process that talks to the network mounts sysfs read-only and has no capability; the helper has
what writing needs, no network, and a table of what it takes. A write costs one message for a whole
batch, in order.
"""

import errno
import re
import socket
import time
from collections.abc import Sequence

from attrs import define, field

from kpm_applier.attributes import HSMP_ROOT
from kpm_applier.sysfs.boundary import (
    ANSWER,
    CALL,
    MAY_TELL,
    MOST_RECORDS,
    NO_ARGUMENT,
    NUMBERS,
    RECORD,
    RESULT,
    ROWS,
    fits,
    path_of,
)
from kpm_applier.sysfs.host import write_one_by_one
from kpm_applier.sysfs.tree import SysfsHost

#: Seconds for which a helper that has just been started again is waited for, and for which an
#: answer is.
_PATIENCE = 5.0
_PAUSE = 0.02
_DIGITS = re.compile(r"\d+")
_FIELD = re.compile(r"\{[^}]*\}")


def _shape(path: str) -> str:
    return _DIGITS.sub("#", path)


def _used(template: str) -> tuple[int, ...]:
    """Which of the runs of digits in a row's paths are its numbers."""
    marked = [found[0] for found in re.finditer(r"\{[^}]*\}|\d+", template)]
    return tuple(index for index, text in enumerate(marked) if text.startswith("{"))


_ROWS = {
    _shape(_FIELD.sub("0", template)): (row, _used(template))
    for row, (template, _) in enumerate(ROWS)
}


def place_of(path: str) -> tuple[int, tuple[int, ...]] | None:
    """Row and numbers of a path below /sys; None for a path that is in no row."""
    found = _ROWS.get(_shape(path))
    if found is None:
        return None
    row, used = found
    runs = _DIGITS.findall(path)
    numbers = tuple(int(runs[index]) for index in used)
    return (
        (row, numbers)
        if path_of(row, (*numbers, *(0,) * (NUMBERS - len(numbers)))) == path
        else None
    )


@define(eq=False)
class Helper:
    """The connection to a helper; made when it is needed, and again after it has ended.

    Of one thread.
    """

    path: str
    _link: socket.socket | None = None
    _places: dict[str, tuple[int, ...]] = field(factory=dict)
    _absent_until: float = 0.0

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        """Hand data to many files, in order; the failures by path."""
        failures: dict[str, OSError] = {}
        records: list[tuple[str, bytes]] = []
        for path, data in writes:
            record = self._record(path, data)
            if record is None:
                failures[path] = OSError(
                    errno.ENOTSUP, "is no file of the helper's table, or no value of it", path
                )
            else:
                records.append((path, record))
        for first in range(0, len(records), MOST_RECORDS):
            part = records[first : first + MOST_RECORDS]
            numbers = self._ask(b"".join(record for _, record in part), len(part))
            failures |= {
                path: OSError(number, _text(number), path)
                for (path, _), number in zip(part, numbers, strict=True)
                if number
            }
        return failures

    def call(self, message: int, number: int = 0, argument: int = NO_ARGUMENT) -> int:
        """One message for the firmware's mailbox; its answer, 0 for none.

        Errors: OSError with the errno that it got.
        """
        answer = self._exchange(CALL.pack(message, number, argument), RESULT.size)
        failed, word = (answer, 0) if isinstance(answer, int) else RESULT.unpack(answer)
        if failed:
            raise OSError(failed, _text(failed))
        return int(word)

    def reach(self) -> int:
        """The errno of connecting, 0 where somebody listens."""
        try:
            self._connected()
        except OSError as failure:
            return failure.errno or errno.ETIMEDOUT
        return 0

    def close(self) -> None:
        """Let go of the connection."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _record(self, path: str, data: bytes) -> bytes | None:
        place = self._places.get(path)
        if place is None:
            found = place_of(path)
            if found is None:
                return None
            row, numbers = found
            place = self._places[path] = (row, *numbers, *(0,) * (NUMBERS - len(numbers)))
        value = data.removesuffix(b"\n")
        return RECORD.pack(*place, value) if fits(place[0], value) else None

    def _ask(self, records: bytes, count: int) -> list[int]:
        """The errno of each record."""
        answer = self._exchange(records, count * ANSWER.size)
        return (
            [answer] * count
            if isinstance(answer, int)
            else [number for (number,) in ANSWER.iter_unpack(answer)]
        )

    def _exchange(self, message: bytes, size: int) -> bytes | int:
        """The answer to a message, of so many bytes; or the errno of having none.

        A link that ends meanwhile is made again once: what was written twice is written the same.
        """
        for last in (False, True):
            try:
                link = self._connected()
            except OSError as failure:
                return failure.errno or errno.ETIMEDOUT
            try:
                link.sendall(message)
                answer = link.recv(size)
                if len(answer) == size:
                    return answer
                raise ConnectionError(errno.ECONNRESET, "the helper has ended")
            except OSError as failure:
                self.close()
                if last:
                    return failure.errno or errno.ETIMEDOUT
        raise AssertionError("unreachable")

    def _connected(self) -> socket.socket:
        if self._link is None:
            self._link = self._connect()
        return self._link

    def _connect(self) -> socket.socket:
        """Errors: OSError where nobody listens for so long; who was not there a moment ago is not
        waited for again.
        """
        ends = time.monotonic() + (0.0 if time.monotonic() < self._absent_until else _PATIENCE)
        while True:
            link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            link.settimeout(_PATIENCE)
            try:
                link.connect(self.path)
            except OSError:
                link.close()
                if time.monotonic() >= ends:
                    self._absent_until = time.monotonic() + _PATIENCE
                    raise
                time.sleep(_PAUSE)
            else:
                return link


_MEANINGS = {
    errno.ECONNREFUSED: "the helper container does not answer",
    errno.ENOENT: "there is no such file",
    errno.ECONNRESET: "the helper container has ended",
    errno.ETIMEDOUT: "the helper container does not answer",
}


def _text(number: int) -> str:
    return _MEANINGS.get(number) or errno.errorcode.get(number, str(number))


class RemoteMailbox:
    """The firmware's mailbox (mailbox.py) behind a helper."""

    def __init__(self, path: str, helper: Helper) -> None:
        """path: of the device, for messages."""
        self.path, self._helper = path, helper

    def send(self, number: int, message: int, argument: int | None = None) -> int:
        """One message of a socket; its answer, 0 for none.

        Errors: OSError with the errno that it got.
        """
        return self._helper.call(message, number, NO_ARGUMENT if argument is None else argument)

    def refuses_writing(self) -> int:
        """The errno of opening the device for settings, 0 where it can be."""
        try:
            self._helper.call(MAY_TELL)
        except OSError as failure:
            return failure.errno or errno.EIO
        return 0

    def close(self) -> None:
        """The link is the helper's, and is closed with it."""


def _plain_mailbox(path: str) -> bool:
    """Whether a file is one of a mailbox that a copy of a tree has as plain files: no helper takes
    those, and nothing but the copy is changed by them.
    """
    return path.startswith(f"{HSMP_ROOT}/")


class RemoteHost(SysfsHost):
    """A tree that is read here and written by a helper."""

    writes = False

    def __init__(self, root: str, helper: Helper) -> None:
        super().__init__(root)
        self.helper = helper

    def write(self, path: str, data: bytes) -> None:
        """Hand data to a file through the helper."""
        if _plain_mailbox(path):
            super().write(path, data)
            return
        for failure in self.helper.write_all([(path, data)]).values():
            raise failure

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        """Hand data to many files through the helper, in order; the failures by path."""
        if any(_plain_mailbox(path) for path, _ in writes):
            return write_one_by_one(self, writes)
        return self.helper.write_all(writes)

    def refuses_writing(self, path: str) -> int:
        """Whether the helper can be asked: the errno of it, 0 where it can."""
        return super().refuses_writing(path) if _plain_mailbox(path) else self.helper.reach()

    def forget(self) -> None:
        """Close what is kept open."""
        super().forget()
        self.helper.close()
