"""Hypothesis profiles: dev for a quick look, ci for every run (always the same examples), few of
those where every line is traced, soak for a night.

Chosen by the environment variable HYPOTHESIS_PROFILE. No test has a deadline: the machines that run
them are shared.
"""

import os

from hypothesis import HealthCheck, Phase, settings

_UNHURRIED = (HealthCheck.too_slow,)
#: Without the one that explains a failure line by line: it takes longer than all the rest.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)

settings.register_profile(
    "dev", max_examples=50, deadline=None, suppress_health_check=_UNHURRIED, phases=_PHASES
)
settings.register_profile(
    "ci",
    max_examples=60,
    deadline=None,
    suppress_health_check=_UNHURRIED,
    phases=_PHASES,
    derandomize=True,
)
settings.register_profile("few", settings.get_profile("ci"), max_examples=6)
settings.register_profile(
    "soak", max_examples=5000, deadline=None, suppress_health_check=_UNHURRIED, phases=_PHASES
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
