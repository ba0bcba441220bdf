"""What a node's state says of measuring energy: one word, and who measures, who does not, what is
wrong.
"""

import pytest

from kpm_planner.energy.meters import Meter
from kpm_planner.model.problems import Code
from kpm_planner.report.energy import energy_condition

RAPL = Meter("package-0", "package", source="rapl")
ESTIMATE = Meter("estimate-0", "package", source="estimated")
BMC = ("bmc", "no such device")


@pytest.mark.parametrize(
    ("meters", "absent", "problems", "status", "reason", "message"),
    [
        ((), (BMC,), (), "False", "NoMeter", "no bmc: no such device"),
        ((RAPL,), (), (), "True", "Measured", "by rapl"),
        ((RAPL, RAPL), (BMC,), (), "True", "Measured", "by rapl; no bmc: no such device"),
        ((RAPL,), (("rapl", "gone"),), (), "True", "Measured", "by rapl"),
        ((ESTIMATE,), (), (), "True", "Estimated", "by estimated"),
        ((RAPL, ESTIMATE), (), (), "True", "Measured", "by estimated, rapl"),
        (
            (RAPL,),
            (BMC,),
            ((Code.ENERGY_WRAPPED, "wraps"), (Code.ENERGY_NO_METER, "none")),
            "False",
            "HasProblems",
            f"wraps [{Code.ENERGY_WRAPPED}]; by rapl; no bmc: no such device",
        ),
        ((RAPL,), (), ((Code.ENERGY_NO_METER, "none"),), "True", "Measured", "by rapl"),
        (
            (),
            (BMC,),
            ((Code.ENERGY_WRAPPED, "wraps"),),
            "False",
            "NoMeter",
            "no bmc: no such device",
        ),
    ],
)
def test_a_node_says_by_what_its_energy_is_measured(
    meters: tuple[Meter, ...],
    absent: tuple[tuple[str, str], ...],
    problems: tuple[tuple[Code, str], ...],
    status: str,
    reason: str,
    message: str,
) -> None:
    """A source that measures is not called absent; that there is no meter is no problem beside the
    word for it; an estimate alone is called one.
    """
    found = energy_condition(meters, absent, problems)
    assert (found.type, found.status, found.reason, found.message) == (
        "EnergyMeasured",
        status,
        reason,
        message,
    )
