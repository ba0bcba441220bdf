"""Runs in a container as whoever has taken it over: what of all that is seen can be changed?

Every regular file is opened for writing (and not written), in every folder a folder is made.
What is below a name that belongs to the process itself is told apart by who reads the report.
The last line is the report.
"""

import ctypes
import errno
import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator

_REMOUNT, _BIND = 32, 4096
_MARK = "kpm-proof"


def walk(top: str) -> Iterator[tuple[str, bool]]:
    """Paths of all folders and regular files, other mounts included; no link is followed."""
    todo = [top]
    while todo:
        folder = todo.pop()
        yield folder, True
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            try:
                mode = entry.stat(follow_symlinks=False).st_mode
            except OSError:
                continue
            if stat.S_ISDIR(mode):
                todo.append(entry.path)
            elif stat.S_ISREG(mode):
                yield entry.path, False


def named(number: int | None) -> str:
    return errno.errorcode.get(number or 0, str(number))


def opens(path: str) -> str:
    """The errno's name, nothing where it opens."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as failure:
        return named(failure.errno)
    return ""


def makes(folder: str) -> str:
    try:
        os.mkdir(f"{folder}/{_MARK}")
        os.rmdir(f"{folder}/{_MARK}")
    except OSError as failure:
        return named(failure.errno)
    return ""


def remounts(folder: str) -> str:
    """Whether a mount can be made writable."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(None, folder.encode(), None, _REMOUNT | _BIND, None)
    return "" if done == 0 else named(ctypes.get_errno())


def main() -> None:
    counted = {"files": 0, "folders": 0}
    changed: dict[str, list[str]] = {"opened": [], "made": []}
    refused: Counter[str] = Counter()
    for top in sys.argv[1:]:
        for path, is_folder in walk(top):
            said = makes(path) if is_folder else opens(path)
            counted["folders" if is_folder else "files"] += 1
            if not said:
                changed["made" if is_folder else "opened"].append(path)
            else:
                refused[said] += 1
    mounts = ("/sys", "/proc/sys", "/host/sys/devices/system/cpu")
    with open("/proc/self/status") as file:
        shown = dict(line.split(":", 1) for line in file)
    status = {name: shown[name].strip() for name in ("CapEff", "NoNewPrivs", "Seccomp")}
    more = {"remount": {folder: remounts(folder) for folder in mounts}, "status": status}
    print(json.dumps({**counted, **changed, "refused": refused, **more}))


main()
