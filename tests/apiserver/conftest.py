"""One API server for each module of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.server import ApiServer
from tests.apiserver.world import World, installed


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server as `make install deploy` leaves it."""
    with installed(tmp_path_factory.mktemp("apiserver")) as found:
        yield found


@pytest.fixture
def world(server: ApiServer, tmp_path: Path) -> Iterator[World]:
    """Nodes, operator and DaemonSet controller of one test; everything is ended and deleted after
    it.
    """
    found = World(server, tmp_path)
    yield found
    found.close()
