"""Small files that survive a crash: written whole, with rename, private; only plain files are
read. And which boot this is, since what some of them say ends with it.
"""

import contextlib
import errno
import os
import stat

LARGEST = 64 << 20


def read_plain(path: str, most: int = LARGEST) -> bytes:
    """The content of a plain file, no link and no pipe.

    Errors: OSError; one that is larger than `most` bytes is EFBIG.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        file = os.fdopen(descriptor, "rb")
    except OSError:  # no file can be made of a folder, and then nobody else closes it
        os.close(descriptor)
        raise
    with file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is not a plain file")
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, "is too large")
    return data


def write_durably(path: str, data: bytes) -> None:
    """Write a file so that a crash leaves the old or the new one; its folder is made where there
    is none.

    Errors: OSError, nothing changed then.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    write_whole(path, data, sync=True)
    sync_folder(folder)


def write_whole(path: str, data: bytes, *, sync: bool = False) -> None:
    """Write a file so that whoever looks finds the old or the new one. sync: on the disk before it
    gets its name.

    Errors: OSError, nothing changed then.
    """
    temporary = f"{path}.new"
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def remove_durably(path: str) -> None:
    """Remove a file; nothing where there is none. Errors: OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_folder(os.path.dirname(path))


def sync_folder(folder: str) -> None:
    """Make what was renamed or removed in a folder last. Errors: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def boot_id(proc: str = "/proc") -> str:
    """Which boot this is; "" where nobody says."""
    try:
        with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii", errors="replace") as file:
            return file.read(64).strip()
    except OSError:
        return ""
