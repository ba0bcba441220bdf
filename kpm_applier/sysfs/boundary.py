"""Which files a process without privilege may have written for it: the boundary between the agent
and its helper.

What crosses is a row of this table, the numbers in its path, and a value. The helper makes the path
itself and takes no other text, so whoever speaks for the agent can ask for the values that the
agent manages and for nothing else. The rows are those of `attributes`; plain tuples, since the
helper loads no library.

A record has one size: row, three numbers, the value padded with zeros. An answer is one errno a
record, 0 for done. A message of another size is one for the firmware's mailbox (mailbox.py):
number, socket, argument; its answer is an errno and a word.
"""

import errno
import struct

CPU = "devices/system/cpu"
_POLICY, _OWN = f"{CPU}/cpufreq/policy{{}}", f"{CPU}/cpu{{}}/cpufreq"
_UNCORE = f"{CPU}/intel_uncore_frequency"
_DIE, _TPMI = f"{_UNCORE}/package_{{:02}}_die_{{:02}}", f"{_UNCORE}/uncore{{:02}}"
_ZONES = ("devices/virtual/powercap/intel-rapl/intel-rapl:{}", "class/powercap/intel-rapl:{}")
_SENSORS = (
    "devices/platform/amd_hsmp/hwmon/hwmon{}",
    "devices/platform/amd_hsmp.{}/hwmon/hwmon{}",
    "devices/platform/AMDI0097:{:02}/hwmon/hwmon{}",
)
_MOST_DIGITS = 12
_LONGEST = 32

SWITCH, NUMBER, WORD, PREFERENCE, LATENCY = "switch", "number", "word", "preference", "latency"

#: Path below /sys, and what may be written there.
ROWS: tuple[tuple[str, str], ...] = (
    (f"{CPU}/cpufreq/boost", SWITCH),
    (f"{CPU}/intel_pstate/no_turbo", SWITCH),
    (f"{_POLICY}/boost", SWITCH),
    *((f"{folder}/scaling_governor", WORD) for folder in (_POLICY, _OWN)),
    *((f"{folder}/energy_performance_preference", PREFERENCE) for folder in (_POLICY, _OWN)),
    *(
        (f"{folder}/{name}", NUMBER)
        for folder in (_POLICY, _OWN)
        for name in ("scaling_min_freq", "scaling_max_freq", "scaling_setspeed")
    ),
    (f"{CPU}/cpu{{}}/cpuidle/state{{}}/disable", SWITCH),
    (f"{CPU}/cpu{{}}/power/pm_qos_resume_latency_us", LATENCY),
    (f"{CPU}/cpu{{}}/power/energy_perf_bias", NUMBER),
    *(
        (f"{folder}/{name}", NUMBER)
        for folder in (_DIE, _TPMI)
        for name in ("min_freq_khz", "max_freq_khz")
    ),
    *((f"{zone}/constraint_{{}}_power_limit_uw", NUMBER) for zone in _ZONES),
    *((f"{zone}/enabled", SWITCH) for zone in _ZONES),
    *((f"{sensor}/power1_cap", NUMBER) for sensor in _SENSORS),
)

NUMBERS = 3
_LARGEST = 99_999
RECORD = struct.Struct(f">BIII{_LONGEST}s")
ANSWER = struct.Struct(">H")
#: Of one message, which fits a socket's buffer.
MOST_RECORDS = 1000
CALL, RESULT = struct.Struct(">BHI"), struct.Struct(">HI")
#: In place of a message's number: whether the mailbox can be told anything. As an argument: none.
MAY_TELL, NO_ARGUMENT = 0, 0xFFFFFFFF


def path_of(row: int, numbers: tuple[int, ...]) -> str | None:
    """The path of a row; None where there is no such row, or a number is out of bounds.

    Numbers that it does not use are 0.
    """
    if not 0 <= row < len(ROWS):
        return None
    template = ROWS[row][0]
    used = template.count("{")
    if any(not 0 <= number <= _LARGEST for number in numbers) or any(numbers[used:]):
        return None
    return template.format(*numbers[:used])


def fits(row: int, value: bytes) -> bool:
    """Whether a value may be written to a row's file: what it means there is for the kernel to
    judge.
    """
    kind = ROWS[row][1]
    digits = value.isdigit() and len(value) <= _MOST_DIGITS
    if kind == SWITCH:
        return value in (b"0", b"1")
    if kind == NUMBER:
        return digits
    if kind == LATENCY:
        return digits or value == b"n/a"
    word = 0 < len(value) < _LONGEST and all(97 <= char <= 122 or char in b"_-" for char in value)
    return word or (kind == PREFERENCE and digits)


def write_of(record: bytes) -> tuple[str, bytes] | int:
    """Path and data of a record that has crossed; the errno of one that is refused."""
    row, first, second, third, padded = RECORD.unpack(record)
    path, value = path_of(row, (first, second, third)), padded.rstrip(b"\0")
    if path is None or not fits(row, value):
        return errno.EINVAL
    return path, value + b"\n"
