"""What each setting of a target is called, where it is asked for, and what is known of it."""

from kpm_planner.model.target import SETTINGS, Scope


def test_each_setting_by_its_words() -> None:
    """As sentences, JSON, profiles and the kinds of files name it."""
    assert {
        item.name: (item.label, item.key, item.spec, item.group, item.said(900))
        for item in SETTINGS
    } == {
        "min_khz": ("min", "minKHz", "spec.pstates.min", "cpufreq", "0.0009 GHz"),
        "max_khz": ("max", "maxKHz", "spec.pstates.max", "cpufreq", "0.0009 GHz"),
        "governor": ("governor", "governor", "spec.pstates.governor", "cpufreq", "900"),
        "epp": ("epp", "epp", "spec.pstates.epp", "cpufreq", "900"),
        "latency_us": ("latency", "maxLatencyUs", "spec.cstates.maxLatencyUs", "latency", "900 µs"),
        "epb": ("epb", "epb", "spec.pstates.epb", "epb", "900"),
    }


def test_what_a_cpu_has_alone() -> None:
    """All else is its frequency domain's."""
    alone = {item.name for item in SETTINGS if item.scope is Scope.CPU}
    assert alone == {"latency_us", "epb"}
