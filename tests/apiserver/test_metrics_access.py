"""Metrics for tokens: who the real API server says they are, and what their accounts may do."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpm.kube.api import connect
from kpm.kube.readers import CANNOT_ASK, MAY_NOT, OK, WHO, Readers
from tests.apiserver.server import ApiServer, wait_for

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
NAMESPACE = "power-manager"


def readers(server: ApiServer) -> Readers:
    """What an agent knows, with its own account's token; nothing is known yet."""
    path = server.kubeconfig("agent", server.token("power-manager-node-agent", NAMESPACE))
    return Readers(connect(str(path)))


def bearer(server: ApiServer, account: str) -> str:
    return f"Bearer {server.token(account, 'monitoring')}"


def test_a_scraper_reads_when_it_is_allowed_to_and_nobody_else(server: ApiServer) -> None:
    """Agents may ask only where deploy/metrics-token is applied; until then nobody reads."""
    server.kubectl("create", "namespace", "monitoring")
    for account in ("prometheus", "stranger"):
        server.kubectl("create", "serviceaccount", account, "-n", "monitoring")
    assert readers(server).status(bearer(server, "prometheus")) == CANNOT_ASK
    server.kubectl("apply", "-k", str(REPO / "deploy/metrics-token"))
    words = ("--clusterrole=power-manager-metrics-reader", "--serviceaccount=monitoring:prometheus")
    server.kubectl("create", "clusterrolebinding", "prometheus-power", *words)
    wait_for("it may read", lambda: readers(server).status(bearer(server, "prometheus")) == OK)
    assert readers(server).status(bearer(server, "stranger")) == MAY_NOT
    assert readers(server).status("Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln") == WHO
    server.kubectl("delete", "serviceaccount", "prometheus", "-n", "monitoring", "--wait=true")
    token = bearer(server, "stranger")
    server.kubectl("delete", "serviceaccount", "stranger", "-n", "monitoring", "--wait=true")
    wait_for("its token is none any more", lambda: readers(server).status(token) == WHO)
