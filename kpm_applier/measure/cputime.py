"""Busy and idle time of CPUs, their effective frequency, and how long each idle state was asked
for.

Sources: proc(5), stat; kernel documentation of cpufreq-stats and cpuidle. Times are µs, frequencies
kHz.
"""

from collections.abc import Iterable

from attrs import define, field

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.sysfs.host import Host
from kpm_applier.sysfs.reader import as_number
from kpm_planner.model.machine import Machine

#: procfs counts in hundredths of a second on every architecture (USER_HZ).
_TICK_US = 10_000
_MOST = 1 << 62


def parse_stat(content: bytes) -> tuple[dict[int, int], dict[int, int]]:
    """CPU → busy µs, CPU → idle µs since boot.

    Time that a hypervisor took is neither; guests run on their host's time.

    >>> parse_stat(b"cpu  9 9 9 9\\ncpu0 10 0 5 100 20 1 1 7 3 0\\nintr 5\\n")
    ({0: 170000}, {0: 1200000})
    """
    busy: dict[int, int] = {}
    idle: dict[int, int] = {}
    for line in content.split(b"\n"):
        if not line.startswith(b"cpu"):
            break
        name, *words = line.split()
        number = name[3:]
        if (
            number.isdigit()
            and len(number) < 6
            and len(words) >= 4
            and all(word.isdigit() and len(word) < 19 for word in words[:7])
        ):
            times = [int(word) for word in words[:7]]
            cpu = int(number)
            busy[cpu] = (times[0] + times[1] + times[2] + sum(times[5:7])) * _TICK_US
            idle[cpu] = (times[3] + sum(times[4:5])) * _TICK_US
    return busy, idle


def parse_time_in_state(content: bytes) -> tuple[int, int]:
    """Time, and time x frequency, out of a policy's time_in_state; 0 for lines that are none."""
    time = product = 0
    for line in content.split(b"\n"):
        words = line.split()
        if len(words) == 2 and all(word.isdigit() and len(word) < 19 for word in words):
            time += int(words[1])
            product += int(words[0]) * int(words[1])
    return time, product


@define
class Frequencies:
    """Mean effective frequency of domains: out of their statistics where the driver keeps them,
    else the mean of two looks.
    """

    host: Host
    _before: dict[int, tuple[int, int]] = field(factory=dict)
    _looks: dict[int, int] = field(factory=dict)
    _no_statistics: set[int] = field(factory=set)

    def sample(self, machine: Machine, busy: Iterable[int]) -> dict[int, int]:
        """CPU → kHz since the last sample, for the CPUs that were busy; one that was not is not
        asked, so that it is not woken.
        """
        found: dict[int, int] = {}
        wanted = set(busy)
        for domain in machine.domains:
            cpus = wanted.intersection(domain.cpus)
            if not cpus:
                continue
            khz = self._from_statistics(domain.id) if domain.id not in self._no_statistics else None
            if khz is None:
                khz = self._from_looks(domain.id)
            if khz:
                found.update(dict.fromkeys(cpus, khz))
        return found

    def _from_statistics(self, domain: int) -> int | None:
        try:
            now = parse_time_in_state(
                self.host.read(f"{CPU_ROOT}/cpufreq/policy{domain}/stats/time_in_state")
            )
        except OSError:
            self._no_statistics.add(domain)
            return None
        before = self._before.get(domain)
        self._before[domain] = now
        if before is None or now[0] <= before[0] or now[1] <= before[1]:
            return None
        return (now[1] - before[1]) // (now[0] - before[0])

    def _from_looks(self, domain: int) -> int | None:
        try:
            now = as_number(
                self.host.read(f"{CPU_ROOT}/cpufreq/policy{domain}/scaling_cur_freq")
                .decode("ascii", "replace")
                .strip()
            )
        except OSError:
            return None
        if not now:
            return None
        before = self._looks.get(domain, now)
        self._looks[domain] = now
        return (before + now) // 2


def idle_residency(host: Host, machine: Machine, cpus: Iterable[int]) -> dict[str, int]:
    """Idle state → µs for which these CPUs together had asked for it, since boot."""
    found: dict[str, int] = {}
    for number in cpus:
        cpu = machine.by_id.get(number)
        states = () if cpu is None else cpu.idle
        contents = host.read_all(
            [f"{CPU_ROOT}/cpu{number}/cpuidle/state{state.index}/time" for state in states]
        )
        for state, content in zip(states, contents, strict=True):
            if isinstance(content, bytes) and content.strip().isdigit():
                found[state.name] = min(found.get(state.name, 0) + int(content), _MOST)
    return found
