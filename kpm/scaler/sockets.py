"""Telemetry sockets below the folder of a pod, found and opened without trusting anything in it.

The folder is mounted into the pod, which may put there what it likes: links are not followed, only
sockets are connected to, and what is connected to is the very file that was looked at.
"""

import contextlib
import errno
import itertools
import os
import re
import socket
import stat
import struct
from collections.abc import Collection, Iterator

#: A pod's UID as the API server makes it; nothing else becomes part of a path.
_UID = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{0,63}")
_NAME = "dpdk_telemetry.v2"
#: File prefixes of one pod that are looked at, and names among which they are looked for.
_MOST_PREFIXES, _MOST_NAMES = 16, 256
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREDENTIALS = struct.Struct("3i")


def prefixes(root: str, uid: str, kept: Collection[str] = ()) -> tuple[str, ...]:
    """File prefixes below <root>/<uid>/dpdk that have a telemetry socket: those that are kept, then
    the newest, up to a number.

    A process that begins anew makes a new socket; what others put beside it displaces no connection
    that stands.
    """
    with contextlib.suppress(OSError), _closing(_dpdk_folder(root, uid)) as folder:
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        with _closing(readable), os.scandir(readable) as entries:
            names = {entry.name for entry in itertools.islice(entries, _MOST_NAMES)}
        made = {
            name: at for name in names.union(kept) if (at := _socket_made(folder, name)) is not None
        }
        return tuple(
            sorted(made, key=lambda name: (name not in kept, -made[name], name))[:_MOST_PREFIXES]
        )
    return ()


def connect(root: str, uid: str, prefix: str) -> socket.socket:
    """A connection to a pod's telemetry, which does not block. Errors: OSError."""
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(_closing(_dpdk_folder(root, uid)))
        home = opened.enter_context(_closing(os.open(prefix, _FOLDER, dir_fd=folder)))
        file = opened.enter_context(
            _closing(os.open(_NAME, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=home))
        )
        if not stat.S_ISSOCK(os.fstat(file).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), _NAME)
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            link.connect(f"/proc/self/fd/{file}")
        except OSError:
            link.close()
            raise
        return link


def stranger(link: socket.socket, uid: str, proc: str = "/proc") -> bool:
    """Whether the process at the other end is seen to belong to another pod; one that cannot be
    seen from here is none.
    """
    pid, _, _ = _CREDENTIALS.unpack(
        link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    if pid <= 0:
        return False
    try:
        with open(f"{proc}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            groups = file.read(65536)
    except OSError:
        return False
    if "pod" not in groups:
        return False
    return uid not in groups and uid.replace("-", "_") not in groups


def _dpdk_folder(root: str, uid: str) -> int:
    """A descriptor of <root>/<uid>/dpdk. Errors: OSError."""
    if not _UID.fullmatch(uid):
        raise OSError(errno.EINVAL, "is no UID", uid[:64])
    with (
        _closing(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as top,
        _closing(os.open(uid, _FOLDER, dir_fd=top)) as pod,
    ):
        return os.open("dpdk", _FOLDER, dir_fd=pod)


def _socket_made(folder: int, prefix: str) -> int | None:
    """When the telemetry socket of a prefix was made, ns; None where there is none."""
    with contextlib.suppress(OSError), _closing(os.open(prefix, _FOLDER, dir_fd=folder)) as home:
        found = os.stat(_NAME, dir_fd=home, follow_symlinks=False)
        return found.st_mtime_ns if stat.S_ISSOCK(found.st_mode) else None
    return None


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
