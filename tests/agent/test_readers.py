"""Who may read /metrics: what is asked of the API server about a token, and how seldom."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from prometheus_client import CollectorRegistry

from kpm.cli.serving_options import ServingOptions
from kpm.kube.api import Api, ApiError, Object, Resource
from kpm.kube.readers import CANNOT_ASK, MAY_NOT, OK, TOO_MANY, WHO, Readers
from kpm.process.errors import InputError
from kpm.process.serving import metric_answers
from kpm.process.threads import Threads
from kpm_planner.model.agent_settings import MetricsAccess
from tests.agent.memory_api import DOWN, Clock
from tests.agent.test_serving import HEALTH, _certificates
from tests.captured import CapturingLog

ALICE = {"username": "alice", "uid": "1", "groups": ["readers"], "extra": {"k": ["v"]}}


@define
class Reviews(Api):
    """An API server that knows two tokens; only alice may read."""

    asked: list[tuple[str, Any]] = field(factory=list)
    failure: ApiError | None = None

    def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        """A review."""
        self.asked.append((resource.plural, body["spec"]))
        if self.failure is not None:
            raise self.failure
        if resource.plural == "tokenreviews":
            user = {"good": ALICE, "weak": {"username": "bob"}}.get(body["spec"]["token"])
            return {
                **body,
                "status": {"authenticated": user is not None, **({"user": user} if user else {})},
            }
        return {**body, "status": {"allowed": body["spec"]["user"] == "alice"}}


@pytest.fixture
def server() -> Reviews:
    return Reviews()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def readers(server: Reviews, clock: Clock) -> Readers:
    return Readers(server, monotonic=clock)


def test_who_may_get_the_path_may_read(readers: Readers, server: Reviews) -> None:
    """With all that the server said of him, and the path that is asked for."""
    assert readers.status("Bearer good") == OK
    wanted = {
        "user": "alice",
        "uid": "1",
        "groups": ["readers"],
        "extra": {"k": ["v"]},
        "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
    }
    assert server.asked == [("tokenreviews", {"token": "good"}), ("subjectaccessreviews", wanted)]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("", WHO),
        ("Bearer", WHO),
        ("Bearer  ", WHO),
        ("Basic good", WHO),
        ("good", WHO),
        ("Bearer " + "x" * 20_000, WHO),
        ("Bearer stranger", WHO),
        ("Bearer weak", MAY_NOT),
        ("bearer good", OK),
    ],
)
def test_nobody_else_may(readers: Readers, header: str, status: int) -> None:
    assert readers.status(header) == status


def test_what_cannot_be_a_token_is_not_asked_about(readers: Readers, server: Reviews) -> None:
    for header in ("", "Basic good", "Bearer ", "Bearer " + "x" * 20_000):
        readers.status(header)
    assert server.asked == []


def test_an_answer_holds_for_a_minute_a_refusal_for_less(
    readers: Readers, server: Reviews, clock: Clock
) -> None:
    """A reader who comes each half minute costs one question a minute; a right that was given
    counts soon.
    """
    for _ in range(3):
        readers.status("Bearer good")
        readers.status("Bearer weak")
    assert len(server.asked) == 4
    clock.now += 11
    readers.status("Bearer good")
    readers.status("Bearer weak")
    assert len(server.asked) == 6
    clock.now += 60
    readers.status("Bearer good")
    assert len(server.asked) == 8


def test_a_server_that_does_not_answer_is_asked_again(readers: Readers, server: Reviews) -> None:
    """Nobody reads meanwhile, and nothing is kept of it."""
    server.failure = DOWN
    assert readers.status("Bearer good") == CANNOT_ASK
    server.failure = None
    assert readers.status("Bearer good") == OK


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"status": None},
        {"status": {"authenticated": "yes", "user": ALICE}},
        {"status": {"authenticated": True}},
    ],
    ids=range(4),
)
def test_an_odd_answer_is_no(
    readers: Readers, server: Reviews, monkeypatch: pytest.MonkeyPatch, answer: Object
) -> None:
    monkeypatch.setattr(server.__class__, "create", lambda *_args: answer)
    assert readers.status("Bearer good") == WHO


def test_strangers_cost_a_bounded_number_of_questions(
    readers: Readers, server: Reviews, clock: Clock
) -> None:
    """A flood of tokens is cut off; who is known reads on, and is not forgotten for it."""
    assert readers.status("Bearer good") == OK
    found = [readers.status(f"Bearer {number}") for number in range(1000)]
    assert found.count(TOO_MANY) > 985
    assert readers.status("Bearer good") == OK
    before = len(server.asked)
    for second in range(1, 400):
        clock.now += 1
        readers.status(f"Bearer again-{second}")
        if second % 50 == 0:
            readers.status("Bearer good")
    assert len(server.asked) - before <= 2 * 400
    assert len(readers._known) <= 256


# --- with TLS ---


def _status(port: int, context: ssl.SSLContext, header: str = "") -> int:
    import socket

    with (
        socket.create_connection(("localhost", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as found,
    ):
        more = f"Authorization: {header}\r\n" if header else ""
        found.sendall(f"GET /metrics HTTP/1.0\r\n{more}\r\n".encode())
        return int(found.recv(4096).split()[1])


def test_metrics_are_told_to_tokens_over_tls(tmp_path: Path, server: Reviews) -> None:
    files = _certificates(tmp_path)
    options = ServingOptions(0, str(files["crt"]), str(files["key"]), access=MetricsAccess.TOKEN)
    port = options.serve(
        0, Threads(CapturingLog()), HEALTH, metric_answers(CollectorRegistry), server
    )
    known = ssl.create_default_context(cafile=str(files["ca.crt"]))
    assert [
        _status(port, known, header)
        for header in ("", "Bearer stranger", "Bearer weak", "Bearer good")
    ] == [401, 401, 403, 200]


def test_a_certificate_that_is_not_there_yet_is_waited_for(tmp_path: Path, server: Reviews) -> None:
    """The Secret comes later, or is renewed: the agent tunes meanwhile, and says once what is
    missing.
    """
    log = CapturingLog()
    folder = tmp_path / "mounted"
    folder.mkdir()
    options = ServingOptions(
        0, str(folder / "crt"), str(folder / "key"), access=MetricsAccess.TOKEN
    )
    port = options.serve(0, Threads(log), HEALTH, metric_answers(CollectorRegistry), server)
    nobody = ssl.create_default_context()
    for _ in range(3):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _status(port, nobody)
    for round_ in ("first", "second"):
        made = tmp_path / round_
        made.mkdir()
        files = _certificates(made)
        for name in ("crt", "key"):
            (folder / name).write_bytes(files[name].read_bytes())
        known = ssl.create_default_context(cafile=str(files["ca.crt"]))
        assert _status(port, known, "Bearer good") == 200


@pytest.mark.parametrize("options", [
    ServingOptions(0, access=MetricsAccess.TOKEN),
    ServingOptions(0, "crt", "key", access=MetricsAccess.CERTIFICATE),
    ServingOptions(0, "crt", "key", access=MetricsAccess.TOKEN),
], ids=["no certificate", "no authority", "nobody to ask"])  # fmt: skip
def test_an_access_that_cannot_be_kept_is_refused(options: ServingOptions) -> None:
    with pytest.raises(InputError, match="--metrics-access"):
        options.serve(0, Threads(CapturingLog()), HEALTH, metric_answers(CollectorRegistry))
