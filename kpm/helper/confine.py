"""What the helper gives up before it listens to anybody: its network, every file but the managed
ones, most system calls.

It may have CAP_SYS_ADMIN, since the kernel asks for it when an idle state is turned off; so the
calls that make this capability as good as root (mount, setns, bpf, ptrace and their like) are
filtered, and so is everything that is not needed. The filter lists what is allowed (seccomp(2));
files are held by Landlock (landlock(7)) where the kernel has it.
"""

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from kpm_applier.sysfs.mailbox import REQUEST

_NEW_NETWORK = 0x40000000
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_UNIX = 1
_DROP_BOUND, _CAPSET_VERSION, _MOST_CAPABILITIES, _SYS_ADMIN = 24, 0x20080522, 64, 21
_EXECUTABLE = 4

#: Offsets in what a filter sees of a call (struct seccomp_data): its number, the architecture, the
#: low half of an argument.
_CALL, _MACHINE = 0, 4
_ARGUMENT = (16, 24, 32)
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
#: Calls of another ABI on the same machine.
_X32 = 0x40000000

#: Machine → audit number and the numbers of the calls that the helper makes (kernel, syscall
#: tables).
_CALLS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "read": 0,
            "write": 1,
            "close": 3,
            "fstat": 5,
            "poll": 7,
            "lseek": 8,
            "mmap": 9,
            "munmap": 11,
            "brk": 12,
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "rt_sigreturn": 15,
            "pread64": 17,
            "pwrite64": 18,
            "mremap": 25,
            "madvise": 28,
            "nanosleep": 35,
            "getpid": 39,
            "socket": 41,
            "connect": 42,
            "sendto": 44,
            "recvfrom": 45,
            "sendmsg": 46,
            "recvmsg": 47,
            "shutdown": 48,
            "getsockname": 51,
            "setsockopt": 54,
            "getsockopt": 55,
            "exit": 60,
            "fcntl": 72,
            "ftruncate": 77,
            "sigaltstack": 131,
            "gettid": 186,
            "futex": 202,
            "restart_syscall": 219,
            "clock_gettime": 228,
            "clock_nanosleep": 230,
            "exit_group": 231,
            "openat": 257,
            "newfstatat": 262,
            "ppoll": 271,
            "accept4": 288,
            "getrandom": 318,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "fcntl": 25,
            "ftruncate": 46,
            "openat": 56,
            "close": 57,
            "lseek": 62,
            "read": 63,
            "write": 64,
            "pread64": 67,
            "pwrite64": 68,
            "ppoll": 73,
            "newfstatat": 79,
            "fstat": 80,
            "exit": 93,
            "exit_group": 94,
            "futex": 98,
            "nanosleep": 101,
            "clock_gettime": 113,
            "clock_nanosleep": 115,
            "restart_syscall": 128,
            "sigaltstack": 132,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "rt_sigreturn": 139,
            "getpid": 172,
            "gettid": 178,
            "socket": 198,
            "connect": 203,
            "getsockname": 204,
            "sendto": 206,
            "recvfrom": 207,
            "setsockopt": 208,
            "getsockopt": 209,
            "shutdown": 210,
            "sendmsg": 211,
            "recvmsg": 212,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "mmap": 222,
            "madvise": 233,
            "accept4": 242,
            "getrandom": 278,
        },
    ),
}

#: landlock_create_ruleset, _add_rule, _restrict_self have these numbers on every machine.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_WRITE_FILE = 1 << 1
#: Executing, writing, and whatever makes or removes a name; reading is left alone.
_HANDLED = sum(1 << bit for bit in (0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12))
_BENEATH = 1

#: ioctl, which only the firmware's mailbox takes.
_IOCTL = {"x86_64": 16, "aarch64": 29}

_libc = ctypes.CDLL(None, use_errno=True)


def drop_capabilities() -> None:
    """Keep at most CAP_SYS_ADMIN, whatever the container was given: a
    privileged one has them all.
    """
    for number in range(_MOST_CAPABILITIES):
        if number != _SYS_ADMIN:
            _libc.prctl(_DROP_BOUND, number, 0, 0, 0)
    header, sets = struct.pack("Ii", _CAPSET_VERSION, 0), ctypes.create_string_buffer(24)
    _libc.capget(header, sets)
    effective, permitted = struct.unpack("6I", sets)[:2]
    kept = 1 << _SYS_ADMIN
    _libc.capset(header, struct.pack("6I", effective & kept, permitted & kept, 0, 0, 0, 0))


def leave_network() -> bool:
    """Go to a network namespace of one's own, which has not even a loopback; False without
    CAP_SYS_ADMIN.
    """
    return bool(_libc.unshare(_NEW_NETWORK) == 0)


def write_only(folders: Iterable[str]) -> bool:
    """Write from now on only to files below these folders, and run nothing; False where the kernel
    has no Landlock.
    """
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    handled = struct.pack("Q", _HANDLED)
    rules = _libc.syscall(_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    try:
        for folder in folders:
            with contextlib.suppress(OSError):  # a node that has no such device
                place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
                _libc.syscall(_ADD, rules, _BENEATH, struct.pack("=Qi", _WRITE_FILE, place), 0)
                os.close(place)
        return bool(_libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def filter_calls(*, mailbox: bool = False) -> bool:
    """Make only the calls of the list from now on; any other fails with EPERM.

    False where the machine is not in it, or the kernel refuses.

    mailbox: the ioctl of the firmware's mailbox too, and no other.
    """
    machine = os.uname().machine
    if machine not in _CALLS:
        return False
    code = _program(*_CALLS[machine], _IOCTL[machine] if mailbox else None)
    program = struct.pack(
        "HP", len(code) // 8, ctypes.addressof(kept := ctypes.create_string_buffer(code))
    )
    _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done = bool(_libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0)
    del kept
    return done


def _program(machine: int, calls: dict[str, int], ioctl: int | None) -> bytes:
    """The filter: sockets of AF_UNIX alone, memory that is never executable, one ioctl at most,
    else by the call's number.
    """
    guarded = {
        calls["socket"]: _allowed_if(0, _step(_EQUAL, _UNIX, 0, 1)),
        calls["mmap"]: _allowed_if(2, _step(_ANY_BIT, _EXECUTABLE, 1, 0)),
    }
    if ioctl is not None:
        guarded[ioctl] = _allowed_if(1, _step(_EQUAL, REQUEST, 0, 1))
    steps = [
        _step(_LOAD, _MACHINE), _step(_EQUAL, machine, 1, 0), _step(_RETURN, _KILL),
        _step(_LOAD, _CALL), _step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL),
    ]  # fmt: skip
    for number, answer in guarded.items():
        steps += [_step(_EQUAL, number, 0, len(answer)), *answer]
    for number in calls.values():
        if number not in guarded:
            steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    return b"".join([*steps, _step(_RETURN, _REFUSE)])


def _allowed_if(argument: int, test: bytes) -> list[bytes]:
    """What is said to a call by one of its arguments: the test goes on, or skips a step."""
    return [
        _step(_LOAD, _ARGUMENT[argument]),
        test,
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _REFUSE),
    ]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
