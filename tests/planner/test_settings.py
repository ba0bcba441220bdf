"""What each setting of a target is called, where it is asked for, and what is known of it."""

from kpm_planner.model.target import SETTINGS, Scope


def test_each_setting_by_its_words() -> None:
    """As sentences, JSON, profiles and the kinds of files name it."""
    assert {
        item.name: (item.label, item.key, item.spec, item.group, item.unit) for item in SETTINGS
    } == {
        "min_khz": ("min", "minKHz", "spec.pstates.min", "cpufreq", "kHz"),
        "max_khz": ("max", "maxKHz", "spec.pstates.max", "cpufreq", "kHz"),
        "governor": ("governor", "governor", "spec.pstates.governor", "cpufreq", ""),
        "epp": ("epp", "epp", "spec.pstates.epp", "cpufreq", ""),
        "latency_us": ("latency", "maxLatencyUs", "spec.cstates.maxLatencyUs", "latency", "µs"),
        "epb": ("epb", "epb", "spec.pstates.epb", "epb", ""),
    }


def test_what_a_cpu_has_alone() -> None:
    """All else is its frequency domain's."""
    alone = {item.name for item in SETTINGS if item.scope is Scope.CPU}
    assert alone == {"latency_us", "epb"}
