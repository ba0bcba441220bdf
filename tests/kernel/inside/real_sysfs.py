"""The kernel's own files, opened anew for every use: independent of the code under test."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

CPUS = "devices/system/cpu"


def read(path: str) -> bytes:
    """The content of a file below /sys."""
    descriptor = os.open(f"/sys/{path}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def write(path: str, data: bytes) -> None:
    """Hand data to a file in one write."""
    descriptor = os.open(f"/sys/{path}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def names(path: str) -> tuple[str, ...]:
    """Names in a folder, sorted."""
    return tuple(sorted(os.listdir(f"/sys/{path}")))


def attempt(call: Callable[..., object], *arguments: object) -> object:
    """What a call returns, or the name of its errno."""
    try:
        return call(*arguments)
    except OSError as failure:
        return errno.errorcode.get(failure.errno or 0, "an OSError without errno")


def text(path: str) -> str:
    """A file's text without its newline, or the name of the errno."""
    found = attempt(read, path)
    return found.decode("ascii", "replace").strip() if isinstance(found, bytes) else str(found)


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    return os.path.exists(f"/sys/{path}")
