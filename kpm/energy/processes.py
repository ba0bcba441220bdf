"""Energy of processes: a container's busy energy, or the system's, divided by the CPU time of its
processes.

A process is known by its number and its start, so that a number used again is another one. One that
began and ended between two looks is not seen; its energy stays with its container, which has its
CPU time all the same.
"""

from collections.abc import Mapping

from attrs import define, field, frozen

from kpm.energy.containers import container_of
from kpm_applier.measure.counters import CounterFiles
from kpm_planner.energy.attribution import EnergyReport

_TICK_US = 10_000
#: Most processes that are told one by one.
MOST_PROCESSES = 20_000
_LONGEST_EXE = 200


@define(eq=False)
class ProcessAccount:
    """A process. zones: zone → busy µJ since it was first seen;
    power_uw: over the last interval.
    """

    pid: int
    comm: str
    exe: str
    container_id: str
    ticks: int
    usage_us: int = 0
    zones: dict[str, int] = field(factory=dict)
    power_uw: dict[str, int] = field(factory=dict)


@frozen
class Stat:
    """What /proc/PID/stat says. ticks: CPU time in hundredths of a second."""

    comm: str
    ticks: int
    start: int


def parse_stat_line(content: bytes) -> Stat | None:
    """A process out of its stat file; None for what is none.

    The name may hold anything, brackets too.

    >>> parse_stat_line(b"7 (a) b) S 1 7 7 0 -1 4 1 0 0 0 30 12 0 0 20 0 1 0 990 1 1")
    Stat(comm='a) b', ticks=42, start=990)
    """
    start, end = content.find(b"("), content.rfind(b")")
    words = content[end + 2 :].split(b" ", 20)
    if start < 0 or end < start or len(words) < 20:
        return None
    try:
        return Stat(
            content[start + 1 : end].decode("utf-8", "replace"),
            int(words[11]) + int(words[12]),
            int(words[19]),
        )
    except ValueError:
        return None


@define(eq=False)
class Processes:
    """The processes of a machine. proc: its procfs."""

    proc: CounterFiles
    accounts: dict[tuple[int, int], ProcessAccount] = field(factory=dict)
    dropped: int = 0
    _starts: dict[str, int] = field(factory=dict)

    def sample(self) -> dict[tuple[int, int], int]:
        """Look at all processes; µs of CPU time of each since the last look, all of it for a new
        one (none at the first look).
        """
        first = not self._starts
        names = [name for name in self.proc.names("") if name.isdigit()]
        self.dropped = max(0, len(names) - MOST_PROCESSES)
        names = names[:MOST_PROCESSES]
        used: dict[tuple[int, int], int] = {}
        starts: dict[str, int] = {}
        for name, content in zip(
            names, self.proc.read_all([f"{name}/stat" for name in names], 512), strict=True
        ):
            if isinstance(content, OSError):
                # a descriptor of a process that is gone does not become that of the next one
                self.proc.drop(f"{name}/stat")
                continue
            stat = parse_stat_line(content)
            if stat is None:
                continue
            key = (int(name), stat.start)
            account = self.accounts.get(key)
            if account is None:
                account = self.accounts[key] = self._meet(name, stat, seen_from_start=not first)
            # it runs another program, as a container's first process does once it is in its cgroup
            elif stat.comm != account.comm:
                account.exe, account.container_id = self._exe(name), self._container(name)
            used[key] = max(0, stat.ticks - account.ticks) * _TICK_US
            account.ticks, account.comm = stat.ticks, stat.comm
            starts[name] = stat.start
        self._leave(starts)
        return used

    def book(self, report: EnergyReport, used: Mapping[tuple[int, int], int]) -> None:
        """Divide an interval's busy energy; no process gets more than its share of the CPU time of
        its container.
        """
        whole: dict[str, int] = {}
        for key, us in used.items():
            account = self.accounts[key]
            account.usage_us += us
            whole[account.container_id] = whole.get(account.container_id, 0) + us
        for account in self.accounts.values():
            account.power_uw = {}
        totals = {name: max(us, report.usage_us.get(name, 0)) for name, us in whole.items()}
        for part in report.meters:
            zone, busy = part.meter.zone, part.busy
            for key, us in used.items():
                if us:
                    account = self.accounts[key]
                    owner = account.container_id
                    uj = busy.get(owner, 0) if owner else part.system_uj
                    share = uj * us // totals[owner]
                    account.zones[zone] = account.zones.get(zone, 0) + share
                    account.power_uw[zone] = (
                        account.power_uw.get(zone, 0) + share * 1_000_000 // part.elapsed_us
                    )

    def _meet(self, name: str, stat: Stat, *, seen_from_start: bool) -> ProcessAccount:
        return ProcessAccount(
            int(name),
            stat.comm,
            self._exe(name),
            self._container(name),
            0 if seen_from_start else stat.ticks,
        )

    def _container(self, name: str) -> str:
        try:
            lines = self.proc.read_once(f"{name}/cgroup").decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        for line in lines:
            path = (
                line.rpartition(":")[2]
                if line.count(":") == 2
                else line.partition(":")[2].partition(":")[2]
            )
            parts = path.strip("/").split("/")
            for end in range(len(parts), 0, -1):
                found = container_of("/".join(parts[:end]))
                if found is not None:
                    return found.id
        return ""

    def _exe(self, name: str) -> str:
        return self.proc.link(f"{name}/exe")[:_LONGEST_EXE]

    def _leave(self, starts: Mapping[str, int]) -> None:
        """Forget processes that are gone."""
        for name, start in self._starts.items():
            if starts.get(name) != start:
                self.accounts.pop((int(name), start), None)
                if name not in starts:
                    self.proc.drop(f"{name}/stat")
        self._starts = dict(starts)
