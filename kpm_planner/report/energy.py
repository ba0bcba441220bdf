"""What a node's state says of measuring energy."""

from collections.abc import Iterable

from kpm_planner.energy.meters import Meter
from kpm_planner.model.problems import Code
from kpm_planner.report.room import cut
from kpm_planner.report.types import Condition


def energy_condition(
    meters: Iterable[Meter], absent: Iterable[tuple[str, str]], problems: Iterable[tuple[str, str]]
) -> Condition:
    """Whether energy is measured, by what, which sources are absent and why, and what is wrong now.

    absent: source → why there is none. problems: code and text.
    """
    sources = sorted({meter.source for meter in meters})
    missing = "; ".join(f"no {source}: {why}" for source, why in absent if source not in sources)
    wrong = "; ".join(
        f"{text} [{code}]" for code, text in sorted(problems) if code != Code.ENERGY_NO_METER
    )
    if not sources:
        return Condition("EnergyMeasured", "False", "NoMeter", cut(missing))
    text = "; ".join(filter(None, (wrong, f"by {', '.join(sources)}", missing)))
    if wrong:
        return Condition("EnergyMeasured", "False", "HasProblems", cut(text))
    return Condition(
        "EnergyMeasured", "True", "Estimated" if sources == ["estimated"] else "Measured", cut(text)
    )
