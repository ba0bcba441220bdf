"""A scaler on a tree of files, with real telemetry sockets and a clock that a test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scaler.dpdk_server import DpdkServer
from tests.scaler.rig import UID, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Eight CPUs under acpi-cpufreq, each a domain of its own."""
    made = Rig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def dpdk(rig: Rig) -> Iterator[DpdkServer]:
    """A process of the pod with two lcores, whose numbers are not those of their CPUs 4 and 5."""
    server = DpdkServer(rig.root, UID, {0: [4], 1: [5]}).start()
    yield server
    server.stop()
