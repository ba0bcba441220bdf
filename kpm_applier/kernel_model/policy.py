"""A cpufreq policy as the kernel model holds it: registered requests apart from what is shown."""

import errno

from attrs import define

from kpm_applier.kernel_model.texts import fail, parse_speed
from kpm_planner.model.machine import EPP_FOLLOWS, FrequencyDomain

EPP_WORDS = ("default", "performance", "balance_performance", "balance_power", "power")


@define
class Policy:
    """A cpufreq policy: its fixed description, the registered requests, and what it shows."""

    spec: FrequencyDomain
    min_request: int
    max_request: int
    governor: str
    epp: str | None
    hardware_max: int
    shown: tuple[int, int] = (0, 0)
    foreign_max: int | None = None
    speed_request: int | None = None
    speed_held: int | None = None
    generation: int = 0
    due: float | None = None
    saved_epp: str | None = None
    default_epp: str = "balance_performance"
    boost: bool = False

    def aggregate(self) -> tuple[int, int]:
        """What the kernel shows: both requests clamped to the hardware, the minimum never above the
        maximum (K1, K4).

        With a frequency table the maximum is rounded down to an entry and the minimum up (K3).
        """
        low, high = self.spec.hardware_min_khz or 0, self.hardware_max
        top = (
            self.max_request
            if self.foreign_max is None
            else min(self.max_request, self.foreign_max)
        )
        bottom, top = min(max(self.min_request, low), high), min(max(top, low), high)
        table = self.spec.available_khz
        if table:
            top = max((khz for khz in table if khz <= top), default=min(table))
            bottom = min((khz for khz in table if khz >= bottom), default=max(table))
        return min(bottom, top), top

    def update(self) -> None:
        """Show what the requests come to; a change of a request, of boost, and every governor write
        lead to it.
        """
        self.shown, self.speed_held = self.aggregate(), None

    def speed(self) -> int:
        """What governor userspace runs at: the request inside the limits, rounded up to an entry of
        the table.
        """
        if self.speed_held is not None:
            return self.speed_held
        low, high = self.shown
        wanted = min(max(high if self.speed_request is None else self.speed_request, low), high)
        return min((khz for khz in self.spec.available_khz if khz >= wanted), default=wanted)

    def set_governor(self, word: str, path: str) -> None:
        """Governor performance takes the EPP along; going back, intel_pstate restores it and
        amd-pstate-epp does not (K10).
        """
        if word not in self.spec.governors:
            raise fail(errno.EINVAL, path)
        if word == self.governor:
            return
        if self.epp is not None and self.spec.driver in EPP_FOLLOWS:
            if word == "performance":
                self.saved_epp, self.epp = self.epp, "performance"
            elif self.spec.driver == "intel_pstate" and self.saved_epp is not None:
                self.epp = self.saved_epp
        self.speed_request = self.speed_held = None
        if word == "userspace":
            self.speed_request = {"powersave": self.shown[0], "performance": self.shown[1]}.get(
                self.governor
            )
        self.governor = word

    def set_epp(self, word: str, path: str) -> None:
        """Words of the driver; "default" is what it found when it bound (K11)."""
        if word not in EPP_WORDS:
            number = int(word) if word.isdigit() and self.spec.driver == "intel_pstate" else -1
            if not 0 <= number <= 255:
                raise fail(errno.EINVAL, path)
        meant = self.default_epp if word == "default" else word
        if (
            self.governor == "performance"
            and self.spec.driver in EPP_FOLLOWS
            and meant != "performance"
        ):
            raise fail(errno.EBUSY, path)
        self.epp = meant

    def set_speed(self, text: str, path: str) -> None:
        """A target frequency, which stays requested whatever the limits (K13)."""
        if self.governor != "userspace":
            raise fail(errno.EINVAL, path)
        self.speed_request, self.speed_held = parse_speed(text, path), None
