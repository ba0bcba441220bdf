"""CPU time, effective frequency and idle residency out of what the kernel shows, with nothing asked
of CPUs that sleep (A1; field report 59).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.measure.cputime import Frequencies, idle_residency, parse_stat, parse_time_in_state
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.machine import Cpu, FrequencyDomain, IdleState, Machine
from tests.applier import rig
from tests.kpm.tree_samples import CPU, put

TICK_US = 10_000
#: What follows the CPUs in /proc/stat; the first line is as long as on a machine with a thousand
#: interrupts.
REST = (
    f"intr 123456 {'0 ' * 3000}\nctxt 99\nbtime 1700000000\nprocesses 5\nprocs_running"
    " 1\nprocs_blocked 0\nsoftirq 7 1 2 3 4\n"
)


def stat(cpus: Iterable[int], fields: int = 10) -> bytes:
    """What /proc/stat shows: user 100 + id, nice 2, system 30, idle 4000, iowait 50, irq 6, softirq
    7, steal 800, guest 90, guest_nice 1.
    """
    lines = ["cpu  9 9 9 9 9 9 9 9 9 9"]
    lines += [
        f"cpu{cpu} {' '.join(map(str, (100 + cpu, 2, 30, 4000, 50, 6, 7, 800, 90, 1)[:fields]))}"
        for cpu in cpus
    ]
    return ("\n".join(lines) + f"\n{REST}").encode()


# --- /proc/stat ---


def test_a_large_machine_with_gaps() -> None:
    """96 CPUs, of which some are offline and have no line; what a hypervisor took is neither busy
    nor idle, and guests are in user time already.
    """
    online = [cpu for cpu in range(96) if cpu not in (3, 40, 41, 42, 43, 95)]
    busy, idle = parse_stat(stat(online))
    assert busy == {cpu: (100 + cpu + 2 + 30 + 6 + 7) * TICK_US for cpu in online}
    assert idle == dict.fromkeys(online, (4000 + 50) * TICK_US)


@pytest.mark.parametrize(
    ("fields", "busy", "idle"),
    [
        (4, 132, 4000),
        (5, 132, 4050),
        (6, 138, 4050),
        (7, 145, 4050),
        (8, 145, 4050),
        (9, 145, 4050),
        (10, 145, 4050),
    ],
)
def test_old_kernels_have_fewer_fields(fields: int, busy: int, idle: int) -> None:
    """Four of them before 2.5.41: what a kernel does not tell is none."""
    assert parse_stat(stat([0], fields)) == ({0: busy * TICK_US}, {0: idle * TICK_US})


def test_more_fields_than_are_known_are_left_out() -> None:
    """As of kernels to come."""
    assert parse_stat(b"cpu0 1 2 3 4 5 6 7 8 9 10 11 words\n") == (
        {0: 19 * TICK_US},
        {0: 9 * TICK_US},
    )


GARBAGE = (
    *(
        b"cpu1 1 2 3\n",
        b"cpu1\n",
        b"cpu1 1 2 words 4\n",
        b"cpu1 1 2 -3 4\n",
        b"cpu1 1 2 3.5 4\n",
        b"cpu1 1 2 3 4 words\n",
        b"cpu1 1 2 3 " + b"9" * 19 + b"\n",
    ),
    *(
        b"cpux 1 2 3 4\n",
        b"cpu-1 1 2 3 4\n",
        b"cpu123456 1 2 3 4\n",
        b"cpu1x 1 2 3 4\n",
        b"cpufreq 1 2 3 4\n",
        b"cpu\xb2 1 2 3 4\n",
        b"cpu 1 1 2 3 4\n",
    ),
)


@pytest.mark.parametrize("line", GARBAGE)
def test_a_line_that_is_none_costs_itself_only(line: bytes) -> None:
    """The CPUs before and behind it are counted."""
    assert parse_stat(b"cpu 9 9 9 9\ncpu0 1 2 3 4\n" + line + b"cpu2 5 6 7 8\nintr 1\n") == (
        {0: 6 * TICK_US, 2: 18 * TICK_US},
        {0: 4 * TICK_US, 2: 8 * TICK_US},
    )


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"intr 5\ncpu0 1 2 3 4\n", b"words", b"\x00\xff", b"cpu"]
)
def test_what_is_no_statistics_says_nothing(content: bytes) -> None:
    """No CPU is better than a wrong one."""
    assert parse_stat(content) == ({}, {})


@given(
    st.lists(
        st.sampled_from(
            (
                b"cpu",
                b"cpu0",
                b"cpu17",
                b"1",
                b"-1",
                b"9" * 18,
                b"9" * 5000,
                b" ",
                b"\n",
                b"\x00\xff",
                b"intr",
            )
        )
        | st.binary(max_size=5)
    ).map(b"".join)
)
def test_times_are_never_negative(content: bytes) -> None:
    """Whatever is in it: nothing is raised, and each CPU has both times."""
    busy, idle = parse_stat(content)
    assert busy.keys() == idle.keys()
    assert all(us >= 0 for us in (*busy.values(), *idle.values()))


# --- time_in_state ---


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"3700000 10\n2000000 20\n800000 70\n",
            (100, 3_700_000 * 10 + 2_000_000 * 20 + 800_000 * 70),
        ),
        (b"3700000 0\n800000 0\n", (0, 0)),
        (
            b"3700000 10\nwords\n800000\n1 2 3\n-5 7\n5 -7\n800000 5\n",
            (15, 3_700_000 * 10 + 800_000 * 5),
        ),
        (b"3700000 10", (10, 37_000_000)),
        (b"9999999999999999999 1\n5 1\n", (1, 5)),
        (b"", (0, 0)),
        (b"\x00\xff\n", (0, 0)),
    ],
)
def test_time_in_state(content: bytes, expected: tuple[int, int]) -> None:
    """Time, and time by frequency; lines that are none add nothing."""
    assert parse_time_in_state(content) == expected


# --- frequencies ---

MACHINE = Machine(
    cpus=tuple(
        Cpu(
            cpu,
            domain=cpu // 2 * 2,
            idle=(IdleState(0, "POLL", 0), IdleState(1, "C1", 2), IdleState(2, "C6", 133)),
        )
        for cpu in range(4)
    ),
    domains=(FrequencyDomain(0, (0, 1)), FrequencyDomain(2, (2, 3))),
)
EVERY = (0, 1, 2, 3)


def speed(root: Path, domain: int, khz: object) -> None:
    put(root, f"{CPU}/cpufreq/policy{domain}/scaling_cur_freq", khz)


def statistics(root: Path, domain: int, **times: int) -> None:
    """Hundredths of a second at each frequency, in MHz, as in mhz3700=10."""
    put(
        root,
        f"{CPU}/cpufreq/policy{domain}/stats/time_in_state",
        "\n".join(f"{name.removeprefix('mhz')}000 {time}" for name, time in times.items()),
    )


def probe(root: Path) -> rig.Probe:
    return rig.Probe(SysfsHost(str(root)))


def test_without_statistics_it_is_the_mean_of_two_looks(tmp_path: Path) -> None:
    """The first look alone says what it sees; all busy CPUs of a domain run at one frequency."""
    frequencies = Frequencies(probe(tmp_path))
    speed(tmp_path, 0, 1_000_000)
    speed(tmp_path, 2, 3_000_000)
    assert frequencies.sample(MACHINE, EVERY) == {
        0: 1_000_000,
        1: 1_000_000,
        2: 3_000_000,
        3: 3_000_000,
    }
    speed(tmp_path, 0, 2_000_000)
    assert frequencies.sample(MACHINE, EVERY) == {
        0: 1_500_000,
        1: 1_500_000,
        2: 3_000_000,
        3: 3_000_000,
    }
    assert frequencies.sample(MACHINE, (1,)) == {1: 2_000_000}


def test_statistics_are_preferred(tmp_path: Path) -> None:
    """From the second look on they tell the mean over the whole interval, and the frequency of the
    moment is not read any more.
    """
    host = probe(tmp_path)
    frequencies = Frequencies(host)
    speed(tmp_path, 0, 3_700_000)
    statistics(tmp_path, 0, mhz3700=1_000, mhz800=5_000)
    assert frequencies.sample(MACHINE, (0, 1)) == {0: 3_700_000, 1: 3_700_000}
    host.reads.clear()
    statistics(tmp_path, 0, mhz3700=1_025, mhz800=5_075)
    assert frequencies.sample(MACHINE, (0,)) == {0: (3_700_000 * 25 + 800_000 * 75) // 100}
    assert dict(host.reads) == {f"{CPU}/cpufreq/policy0/stats/time_in_state": 1}


def test_statistics_that_stand_still_or_begin_anew_are_not_used(tmp_path: Path) -> None:
    """As after stats/reset, or a driver that was loaded anew: the look tells it, and the next
    interval is out of statistics again.
    """
    frequencies = Frequencies(probe(tmp_path))
    speed(tmp_path, 0, 2_000_000)
    statistics(tmp_path, 0, mhz1000=500)
    frequencies.sample(MACHINE, (0,))
    assert frequencies.sample(MACHINE, (0,)) == {0: 2_000_000}
    statistics(tmp_path, 0, mhz1000=5)
    assert frequencies.sample(MACHINE, (0,)) == {0: 2_000_000}
    statistics(tmp_path, 0, mhz1000=25)
    assert frequencies.sample(MACHINE, (0,)) == {0: 1_000_000}


def test_cpus_that_were_not_busy_are_never_asked(tmp_path: Path) -> None:
    """A1: reading the frequency of a sleeping CPU wakes it, so that the measuring would be what it
    measures.
    """
    host = probe(tmp_path)
    frequencies = Frequencies(host)
    for domain in (0, 2):
        speed(tmp_path, domain, 1_000_000)
        statistics(tmp_path, domain, mhz1000=5)
    for busy in ((), (3,), (2, 3), (7,)):
        frequencies.sample(MACHINE, busy)
    assert not [path for path in host.reads if "policy0" in path]
    assert [path for path in host.reads if "policy2" in path]
    assert not host.listed


def test_statistics_that_are_not_there_are_not_asked_for_again(tmp_path: Path) -> None:
    """Field report 59: no failing open for each domain in each look."""
    host = probe(tmp_path)
    frequencies = Frequencies(host)
    speed(tmp_path, 0, 1_000_000)
    for _ in range(5):
        frequencies.sample(MACHINE, (0,))
    assert host.reads[f"{CPU}/cpufreq/policy0/stats/time_in_state"] == 1
    assert host.reads[f"{CPU}/cpufreq/policy0/scaling_cur_freq"] == 5


@pytest.mark.parametrize(
    "content", ["", "0", "words", "<unsupported>", "-5", "1.5", "2²", "9" * 30]
)
def test_a_frequency_that_is_no_number_is_not_known(tmp_path: Path, content: str) -> None:
    """It costs its own domain only, and a look that said nothing is no part of a mean."""
    frequencies = Frequencies(probe(tmp_path))
    speed(tmp_path, 0, content)
    speed(tmp_path, 2, 2_000_000)
    assert frequencies.sample(MACHINE, EVERY) == {2: 2_000_000, 3: 2_000_000}
    speed(tmp_path, 0, 1_000_000)
    assert frequencies.sample(MACHINE, (0,)) == {0: 1_000_000}


def test_frequencies_that_cannot_be_read_are_not_known(tmp_path: Path) -> None:
    """A machine without cpufreq, a domain that went offline, folders in place of files: the others
    are told.
    """
    assert Frequencies(probe(tmp_path)).sample(MACHINE, EVERY) == {}
    for name in ("scaling_cur_freq", "stats/time_in_state"):
        (tmp_path / CPU / "cpufreq/policy0" / name).mkdir(parents=True)
    speed(tmp_path, 2, 2_000_000)
    frequencies = Frequencies(probe(tmp_path))
    assert frequencies.sample(MACHINE, EVERY) == {2: 2_000_000, 3: 2_000_000}
    (tmp_path / CPU / "cpufreq/policy2/scaling_cur_freq").unlink()
    assert frequencies.sample(MACHINE, EVERY) == {}


@pytest.mark.parametrize("content", ["", "words", "5", "a b"])
def test_statistics_that_say_nothing_are_not_used(tmp_path: Path, content: str) -> None:
    """The look is."""
    frequencies = Frequencies(probe(tmp_path))
    speed(tmp_path, 0, 2_000_000)
    put(tmp_path, f"{CPU}/cpufreq/policy0/stats/time_in_state", content)
    assert [frequencies.sample(MACHINE, (0,)) for _ in range(2)] == [{0: 2_000_000}] * 2


def test_a_machine_without_domains_has_no_frequencies(tmp_path: Path) -> None:
    """As in a virtual machine."""
    assert Frequencies(probe(tmp_path)).sample(Machine(), EVERY) == {}


# --- idle states ---


def residency(root: Path, cpu: int, *times: object) -> None:
    for number, time in enumerate(times):
        put(root, f"{CPU}/cpu{cpu}/cpuidle/state{number}/time", time)


def test_idle_states_are_added_over_cpus(tmp_path: Path) -> None:
    """By name; only the CPUs that are asked for, and one that nobody knows has none."""
    residency(tmp_path, 0, 1, 20, 300)
    residency(tmp_path, 1, 4, 50, 600)
    residency(tmp_path, 2, 7, 80, 900)
    host = probe(tmp_path)
    assert idle_residency(host, MACHINE, (0, 1, 99)) == {"POLL": 5, "C1": 70, "C6": 900}
    assert not [path for path in host.reads if "/cpu2/" in path]
    assert idle_residency(host, MACHINE, ()) == {}


@pytest.mark.parametrize("content", ["", "words", "-5", "1.5"])
def test_an_idle_state_that_says_no_number_costs_itself_only(tmp_path: Path, content: str) -> None:
    """As does one that cannot be read."""
    residency(tmp_path, 0, 1, content, 300)
    residency(tmp_path, 1, 4, 50)
    (tmp_path / CPU / "cpu1/cpuidle/state2/time").mkdir(parents=True)
    assert idle_residency(probe(tmp_path), MACHINE, (0, 1)) == {"POLL": 5, "C1": 50, "C6": 300}


def test_an_absurd_idle_time_stays_a_number_of_64_bits(tmp_path: Path) -> None:
    """Thirty digits, in each of two CPUs."""
    for cpu in (0, 1):
        residency(tmp_path, cpu, "9" * 30)
    assert 0 < idle_residency(probe(tmp_path), MACHINE, (0, 1))["POLL"] < 1 << 63
