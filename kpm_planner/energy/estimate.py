"""Power of a package that has no meter, estimated from load and frequency.

It is an estimate: coefficients are of a kind of processor, not of this one. What comes of it is
labelled so everywhere.
"""

from collections.abc import Iterable, Mapping

from attrs import frozen

from kpm_planner.energy.shares import UNIT, EnergyCpu, WeightPolicy, cpu_weights


@frozen
class Coefficients:
    """A kind of processor.

    Units: W. standing: of a package with nothing running; core: of a busy core at its highest
    frequency.

    error: how far off an estimate may be, per cent. model: what it is called in the data.
    """

    model: str
    standing: float
    core: float
    error: int


def estimate_uw(
    coefficients: Coefficients,
    cpus: Iterable[EnergyCpu],
    busy_us: Mapping[int, int],
    khz: Mapping[int, int],
    elapsed_us: int,
    policy: WeightPolicy,
) -> dict[int, int]:
    """Package → µW over an interval: standing power, and that of the cores that ran, by the weights
    that attribution uses.
    """
    known = tuple(cpus)
    weights = cpu_weights(known, busy_us, khz, elapsed_us, policy)
    found = {cpu.package: coefficients.standing * 1_000_000 for cpu in known}
    if elapsed_us > 0:
        for cpu in known:
            load = busy_us.get(cpu.id, 0) * weights[cpu.id] / (UNIT * elapsed_us)
            found[cpu.package] += coefficients.core * load * 1_000_000
    return {package: round(uw) for package, uw in found.items()}
