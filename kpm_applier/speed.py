"""The speed of frequency domains, set many times a second: governor userspace's file, or both
limits where there is none.
"""

from attrs import define, field

from kpm_applier.attributes import CPU_ROOT, MAX_FREQ, MIN_FREQ, SETSPEED
from kpm_applier.sysfs.host import Host


@define
class SpeedWriter:
    """Sets speeds on one machine; its files stay open."""

    host: Host
    _last: dict[int, int] = field(factory=dict)

    def keep(self, domains: dict[int, bool]) -> None:
        """Open the files of these domains, each with whether it is set by its limits."""
        self.host.forget()
        self.host.keep(
            path
            for domain, by_limits in domains.items()
            for path in _paths(domain, by_limits=by_limits)
        )
        self._last = {domain: khz for domain, khz in self._last.items() if domain in domains}

    def set(self, domain: int, khz: int, *, by_limits: bool) -> None:
        """Ask for a speed in kHz.

        Errors: OSError with the kernel's errno; then nothing is known of the speed.
        """
        data = b"%d\n" % khz
        low, *high = _paths(domain, by_limits=by_limits)
        if not high:
            self.host.write(low, data)
            return
        before = self._last.pop(domain, None) or int(self.host.read(high[0]))
        for path in (low, *high) if khz < before else (*high, low):  # the limits must not cross
            self.host.write(path, data)
        self._last[domain] = khz


def _paths(domain: int, *, by_limits: bool) -> tuple[str, ...]:
    folder = f"{CPU_ROOT}/cpufreq/policy{int(domain)}"
    return (
        (f"{folder}/{MIN_FREQ.file}", f"{folder}/{MAX_FREQ.file}")
        if by_limits
        else (f"{folder}/{SETSPEED.file}",)
    )
