"""How many examples a property sees, and how a soak spends its time.

The environment variable HYPOTHESIS_PROFILE chooses: dev is a quick look, ci is every run (always
the same examples), few is where every line is traced, soak looks for other examples each time. In a
soak KPM_SOAK_SECONDS is how long all of it may take: every test runs once, and what is left is
shared among the properties. No test has a deadline: the machines that run them are shared.
"""

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers

_UNHURRIED = (HealthCheck.too_slow,)
#: Without the one that explains a failure line by line: it takes longer than all the rest.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)

settings.register_profile(
    "dev", max_examples=20, deadline=None, suppress_health_check=_UNHURRIED, phases=_PHASES
)
settings.register_profile(
    "ci",
    max_examples=20,
    deadline=None,
    suppress_health_check=_UNHURRIED,
    phases=_PHASES,
    derandomize=True,
)
settings.register_profile("few", settings.get_profile("ci"), max_examples=6)
settings.register_profile(
    "soak", max_examples=30, deadline=None, suppress_health_check=_UNHURRIED, phases=_PHASES
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
settings.load_profile(PROFILE)
if PROFILE != "soak" or os.environ.get("SOAK_SEED"):
    # else examples are also made of the constants of whichever modules a process has loaded so
    # far, which hang on the order of tests among processes
    vars(providers)["is_local_module_file"] = lambda _path: False


class Soak:
    """Runs every property again, with other examples, for its share of the time.

    The time that is left is divided anew at each property, among those that are behind it.
    """

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        self.left: dict[str, int] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """What is not repeated comes first: how long it takes is known before anything is
        shared.
        """
        items.sort(key=_is_property)
        properties = [item.nodeid for item in items if _is_property(item)]
        self.left = {name: len(properties) - at for at, name in enumerate(properties)}

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Again and again; a failure ends it, as in any run."""
        yield
        now = time.monotonic()
        if item.nodeid not in self.left:
            return
        share = (self.ends - now) * self.processes / self.left[item.nodeid]
        until = min(now + share, self.ends)
        while time.monotonic() < until:
            item.runtest()


def _is_property(item: pytest.Item) -> bool:
    return item.get_closest_marker("hypothesis") is not None


def pytest_configure(config: pytest.Config) -> None:
    """A soak is what has a time to spend."""
    seconds = os.environ.get("KPM_SOAK_SECONDS")
    if seconds:
        config.pluginmanager.register(Soak(float(seconds)), "soak")
