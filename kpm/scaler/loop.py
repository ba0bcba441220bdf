"""The scaler's loop: at each tick it asks the telemetry of the pods that are due, steps their
domains, and writes what changed.

One thread and one clock. All questions are sent first, and a fraction of the period is waited for
the answers.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from attrs import define, field

from kpm.process.errors import one_line
from kpm.process.logs import Log
from kpm.scaler.peers import Peers
from kpm.scaler.telemetry import Telemetry
from kpm_applier.speed import SpeedWriter
from kpm_planner.scaling import Cycles, ScaledDomain, Speed, next_target, usage

#: Share of a period, and most µs, that a tick waits for answers.
_WAIT_SHARE, _WAIT_US = 4, 5_000
#: A sample older than so many periods is none.
_STALE = 2
_REOPEN_US = 1_000_000


@define(eq=False)
class _Domain:
    """A domain that is scaled. seen: counters at its last sample, by pod, file prefix and lcore."""

    wanted: ScaledDomain
    due_us: int
    speed: Speed = Speed()
    seen: dict[tuple[str, str, int], Cycles] = field(factory=dict)
    sampled_us: int | None = None
    busy: float | None = None
    failed: str = ""


def monotonic_us() -> int:
    """The clock of the loop."""
    return time.monotonic_ns() // 1000


@define(eq=False)
class Scaler:
    """All domains of a node."""

    peers: Peers
    writer: SpeedWriter
    log: Log
    now_us: Callable[[], int] = monotonic_us
    domains: dict[int, _Domain] = field(factory=dict)
    _reopen_us: int | None = None

    def configure(self, wanted: Iterable[ScaledDomain]) -> None:
        """From now on scale these domains: connections and speeds that go on are kept; what is left
        out is the plan's again, and not touched.
        """
        now = self.now_us()
        entries = {item.domain: item for item in wanted}
        for number in self.domains.keys() - entries.keys():
            del self.domains[number]
        self._open(entries.values())
        for number, item in entries.items():
            known = self.domains.setdefault(number, _Domain(item, now))
            if known.wanted != item:
                known.wanted, known.due_us = item, min(known.due_us, now + item.scaling.sample_us)
        self.peers.only({pod.uid for item in entries.values() for pod in item.pods})

    def next_us(self) -> int | None:
        """When the next domain is due; None where there is none."""
        return min((domain.due_us for domain in self.domains.values()), default=None)

    def tick(self) -> None:
        """Look at the load of every domain that is due, and set its speed."""
        now = self.now_us()
        due = [domain for domain in self.domains.values() if domain.due_us <= now]
        if not due:
            return
        if self._reopen_us is not None and now >= self._reopen_us:
            self._open(domain.wanted for domain in self.domains.values())
        uids = {pod.uid for domain in due for pod in domain.wanted.pods if pod.uid}
        shortest = min(domain.wanted.scaling.sample_us for domain in due)
        self.peers.ask(uids, min(shortest // _WAIT_SHARE, _WAIT_US))
        now = self.now_us()
        for domain in due:
            period = domain.wanted.scaling.sample_us
            # Stepped by the clock of the ticks: a cool-down of one period must not last two because
            # a tick was a little early.
            at = domain.due_us + period * max(0, (now - domain.due_us) // period)
            self._step(domain, at)
            domain.due_us = at + period

    def speeds(self) -> list[tuple[int, int | None, float | None]]:
        """Domain, its last target in kHz, and the busy share of its last sample in per cent."""
        return [
            (number, domain.speed.khz, domain.busy)
            for number, domain in sorted(self.domains.items())
        ]

    def close(self) -> None:
        """Nobody scales any more: leave every domain at its fall-back, and every connection."""
        for domain in self.domains.values():
            self._set(domain, domain.wanted.scaling.fallback_khz)
        self.configure(())

    def _step(self, domain: _Domain, at: int) -> None:
        """One step of one domain; a write that fails costs this step only."""
        scaling = domain.wanted.scaling
        busy, new = self._sample(domain)
        if (
            not new
            and domain.sampled_us is not None
            and at - domain.sampled_us <= _STALE * scaling.sample_us
            and domain.speed.khz is not None
        ):
            return  # the answer is late: nothing new to go by, and not yet too old
        domain.busy = busy
        target = next_target(scaling, domain.speed, busy, at)
        if target is None and domain.failed:
            # a write was refused: what the kernel holds now, of a CPU that came back say, is not
            # known
            target = domain.speed.khz
        if target is not None and self._set(domain, target):
            domain.speed = domain.speed.taken(target, at)

    def _sample(self, domain: _Domain) -> tuple[float | None, bool]:
        """Usage of the busiest lcore on the domain's CPUs since its last sample, and whether there
        is a new one at all.
        """
        best: float | None = None
        # only of peers that are there now: names are the pods' to choose
        seen: dict[tuple[str, str, int], Cycles] = {}
        newest = domain.sampled_us
        for pod in domain.wanted.pods:
            began = self.peers.used_us()
            for peer in self.peers.of(pod.uid):
                telemetry = peer.telemetry
                if telemetry is None or telemetry.answered_us is None:
                    continue
                fresh = domain.sampled_us is None or telemetry.answered_us > domain.sampled_us
                for key, cycles in _lcores_on(telemetry, pod.cpus, (pod.uid, peer.prefix)):
                    before = domain.seen.get(key)
                    if not fresh:
                        seen[key] = before or cycles
                        continue
                    seen[key], busy = cycles, usage(before, cycles)
                    newest = max(newest or 0, telemetry.answered_us)
                    if busy is not None and (best is None or busy > best):
                        best = busy
            self.peers.charge(pod.uid, self.peers.used_us() - began)
        new = newest != domain.sampled_us
        domain.seen, domain.sampled_us = seen, newest
        return best, new

    def _set(self, domain: _Domain, khz: int) -> bool:
        number = domain.wanted.domain
        try:
            self.writer.set(number, khz, by_limits=domain.wanted.by_limits)
        except (OSError, ValueError) as failure:
            why = one_line(failure)
            if why != domain.failed:
                self.log.warning("speed not set", domain=number, khz=khz, error=why)
            domain.failed = why
            self._reopen_us = self._reopen_us or self.now_us() + _REOPEN_US
            return False
        if domain.failed:
            self.log.info("speed set again", domain=number, khz=khz)
            domain.failed = ""
        return True

    def _open(self, wanted: Iterable[ScaledDomain]) -> None:
        """Open the files anew: those of a CPU that came back are others."""
        self._reopen_us = None
        self.writer.keep({item.domain: item.by_limits for item in wanted})


def _lcores_on(
    telemetry: Telemetry, cpus: Iterable[int], place: tuple[str, str]
) -> Iterator[tuple[tuple[str, str, int], Cycles]]:
    """The lcores that run on these CPUs, each with its counters."""
    for cpu in cpus:
        for lcore in telemetry.lcores.get(cpu, ()):
            cycles = telemetry.cycles.get(lcore)
            if cycles is not None:
                yield (*place, lcore), cycles
