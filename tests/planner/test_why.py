"""Reasons read as their text, and say what they are the reason of."""

from kpm_planner.model.why import Why
from tests.planner.build import machine, on_cpu, plan, profile, workload


def test_a_reason_is_its_text_and_more() -> None:
    reason = Why("max 2 GHz", setting="max_khz", object="PowerProfile/p", field="spec.pstates.max")
    assert reason == "max 2 GHz"
    assert reason + ", clamped" == "max 2 GHz, clamped"
    later = reason + ", clamped"
    assert (later.setting, later.object, later.field) == (
        "max_khz",
        "PowerProfile/p",
        "spec.pstates.max",
    )


def test_each_setting_of_a_target_has_a_reason_that_names_setting_object_and_field() -> None:
    """The pool's object first, then the profile, then each value."""
    item = profile("shared", shared=True, max=2000, governor="powersave", names={"C6": False})
    group = on_cpu(plan(item, workload(), on=machine()), 0)
    assert [(line.setting, line.object, line.field) for line in group.because] == [
        ("", "PowerWorkload/shared-pool", "spec.powerProfile"),
        ("", "PowerProfile/shared", ""),
        ("min_khz", "PowerProfile/shared", "spec.pstates.min"),
        ("max_khz", "PowerProfile/shared", "spec.pstates.max"),
        ("governor", "PowerProfile/shared", "spec.pstates.governor"),
        ("epp", "PowerProfile/shared", "spec.pstates.epp"),
        ("idle", "PowerProfile/shared", "spec.cstates.names"),
    ]
