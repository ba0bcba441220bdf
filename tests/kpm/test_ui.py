"""kubectl power ui: one person's page on the loopback, read only, whatever the cluster holds."""

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kpm.kube.api import ApiError
from kpm.ui import server as serving
from kpm.ui.server import Server
from kpm.ui.views import Views
from tests.kpm.test_cluster_plan import cluster, profile_of
from tests.kpm.test_cluster_verbs import (
    CONFIGS,
    GROUP,
    LEASES,
    NOW,
    PLACE,
    STATES,
    config,
    lease,
    state,
)

HOSTILE = "<script>alert(1)</script>"


def hostile_cluster() -> Any:
    """Nodes, problems and conditions that say what a script would."""
    api: Any = cluster(("n1", "n2"))
    for item in list(api.objects):
        if item[0] == STATES.plural:
            api.objects[item]["status"]["conditions"] = state("n1")["status"]["conditions"]
    api.put(LEASES, lease(2))
    api.put(CONFIGS, config(nodes=["n1", "n2", HOSTILE], errors=[HOSTILE]))
    odd: Any = state(HOSTILE, "False", HOSTILE, HOSTILE)
    drift = {"type": "Drifted", "status": "True", "message": HOSTILE}
    odd["status"]["conditions"].append(drift)
    problem = dict.fromkeys(("severity", "code", "object", "field", "message"), HOSTILE)
    odd["status"]["problems"] = [problem]
    api.put(STATES, {**odd, "metadata": {"name": "odd-power-state"}})
    return api


@pytest.fixture
def served() -> Iterator[Server]:
    """The pages of such a cluster."""
    api = hostile_cluster()
    made = Server(lambda root: Views(api, GROUP, PLACE, root, lambda: NOW))
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(
    served: Server, path: str = "", method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, str, http.client.HTTPResponse]:
    """An answer below the token."""
    link = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=10)
    at = path if path.startswith("/") else served.root + path
    link.request(method, at, body, {key.replace("_", "-"): text for key, text in headers.items()})
    answer = link.getresponse()
    text = answer.read().decode()
    link.close()
    return answer.status, text, answer


def test_the_first_page_shows_the_cluster_and_escapes_it(served: Server) -> None:
    status, text, answer = ask(served)
    assert status == 200
    assert "Something is not as asked." in text
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)" in text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 404),
        ("/wrong-token/", {}, 404),
        ("", {"Host": "evil.example"}, 421),
        ("", {"Host": "127.0.0.1"}, 421),
        ("", {"Origin": "http://evil.example"}, 403),
        ("nothing", {}, 404),
        ("node/", {}, 404),
        ("../../etc/passwd", {}, 404),
        ("base.html", {}, 404),
        ("node/n9", {}, 502),
    ],
)
def test_who_does_not_know_the_address_gets_nothing(
    path: str, headers: dict[str, str], status: int, served: Server
) -> None:
    found, text, _ = ask(served, path, **headers)
    assert found == status
    assert "operator" not in text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_nothing_but_looking_is_answered(method: str, served: Server) -> None:
    assert ask(served, "", method)[0] in (400, 405, 501)


def test_a_node_is_shown_with_what_is_not_known(served: Server) -> None:
    status, text, _ = ask(served, "node/n1")
    assert status == 200
    assert "Ready (Settled)" in text
    assert "nothing live" in text


def test_objects_are_planned_and_nothing_is_written(served: Server) -> None:
    slower = profile_of("slow", shared=True, pstates={"max": "10%"})
    before = json.dumps(str(served.views.api.objects))  # type: ignore[attr-defined]
    status, text, _ = ask(served, "plan", "POST", f"objects={json.dumps(slower)}\r\n")
    assert status == 200
    assert "26 writes on 2 of 2 nodes" in text
    assert json.dumps(str(served.views.api.objects)) == before  # type: ignore[attr-defined]
    assert "<form" in ask(served, "plan")[1]


@pytest.mark.parametrize("body", ["", "objects=", "objects=a: [", f"objects={HOSTILE}", "\x00"])
def test_objects_that_cannot_be_read_are_one_line_and_come_back(body: str, served: Server) -> None:
    status, text, _ = ask(served, "plan", "POST", body)
    assert status == 200
    assert "error: the objects" in text
    assert HOSTILE not in text


def test_a_body_that_is_too_large_is_not_read(served: Server) -> None:
    link = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=10)
    link.putrequest("POST", f"{served.root}plan")
    link.putheader("Content-Length", str(1 << 30))
    link.endheaders()
    assert link.getresponse().status == 413
    link.close()
    assert ask(served, "plan", "POST", "a", Content_Length="x")[0] in (400, 404)


def test_changes_are_sent_as_they_come(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_LOOK_EVERY", 0.05)
    link = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=10)
    link.request("GET", f"{served.root}events")
    answer = link.getresponse()
    first = json.loads(answer.readline().decode().removeprefix("data: "))
    assert HOSTILE not in first
    served.views.api.put(CONFIGS, config(nodes=["n1"]))  # type: ignore[attr-defined]
    lines = [answer.readline().decode() for _ in range(12)]
    assert any(line.startswith("data: ") for line in lines)
    link.close()


def test_listeners_are_bounded(served: Server) -> None:
    for _ in range(8):
        assert served.listeners.acquire(blocking=False)
    assert ask(served, "events")[0] == 503


def test_connections_are_bounded(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "connections", threading.BoundedSemaphore(1))
    served.connections.acquire()
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(served)
    served.connections.release()


def test_all_is_not_well_while_an_object_has_errors() -> None:
    """Nodes that are as asked do not hide a mistake."""
    api = hostile_cluster()
    own = [item for key, item in api.objects.items() if key[0] == STATES.plural]
    for item in own:
        item["status"] = {"conditions": state("n1")["status"]["conditions"]}
    api.put(CONFIGS, config(nodes=["n1", "n2"]))
    views = Views(api, GROUP, PLACE, "/t/", lambda: NOW)
    assert "All is well." in views.cluster()
    odd = {"severity": "error", "code": "odd", "object": "PowerProfile/x", "message": "no"}
    own[0]["status"]["problems"] = [odd]
    assert "All is well." not in views.cluster()
    assert "kubectl power doctor" in views.cluster()


def test_a_server_that_does_not_answer_is_told_on_the_page(served: Server) -> None:
    served.views.api.failure = ApiError(0, "Refused", HOSTILE)  # type: ignore[attr-defined]
    status, text, _ = ask(served)
    assert status == 200
    assert "error: no answer Refused" in text
    assert HOSTILE not in text
    assert ask(served, "plan", "POST", 'objects={"apiVersion": "v1", "kind": "Node"}')[0] < 503
