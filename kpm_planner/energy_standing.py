"""What a meter shows with nothing running, learned from what it showed at different loads.

Power is close to a straight line over weighted load; where it meets no load is the standing power. Without this, idle
energy would shrink to nothing as load grows (user-asks 58). Old intervals count less and less.
"""

from attrs import frozen

_US = 1_000_000
#: How much an interval still counts at the next one: half after some two hundred.
_KEEP = 0.9965
#: Fewest intervals, and least spread of the load in CPUs, that say anything.
_LEAST, _SPREAD = 12.0, 0.05


@frozen
class Standing:
    """Sums over the intervals of one meter. Units: W and CPUs. lowest_w: the least power of any interval."""

    count: float = 0.0
    load: float = 0.0
    watts: float = 0.0
    load_load: float = 0.0
    load_watts: float = 0.0
    lowest_w: float = 0.0

    def uw(self) -> int | None:
        """The standing power, µW; None while the loads were too few or too much alike to tell."""
        if self.count < _LEAST:
            return None
        mean = self.load / self.count
        variance = self.load_load / self.count - mean * mean
        if variance < max(_SPREAD, _SPREAD * mean) ** 2:
            return None
        slope = (self.load_watts / self.count - mean * self.watts / self.count) / variance
        return round(min(max(self.watts / self.count - slope * mean, 0.0), self.lowest_w) * _US)


def learn(known: Standing, uj: int, load: float, elapsed_us: int) -> Standing:
    """Add an interval: its energy, and its weighted load in CPUs."""
    watts = uj / elapsed_us
    return Standing(
        count=known.count * _KEEP + 1,
        load=known.load * _KEEP + load,
        watts=known.watts * _KEEP + watts,
        load_load=known.load_load * _KEEP + load * load,
        load_watts=known.load_watts * _KEEP + load * watts,
        lowest_w=watts if not known.count else min(known.lowest_w + (watts - known.lowest_w) * (1 - _KEEP), watts),
    )
