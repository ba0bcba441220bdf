"""How the API server is reached from a pod: certificates as kubectl verifies them, tokens that are
exchanged.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kpm.kube.access import Access, _Token, from_kubeconfig, in_cluster
from kpm.kube.api import Api, ApiError, Resource
from kpm.process.errors import InputError
from tests.agent.http_server import Server, serving

ROOT = Path(__file__).parents[2]
NODES = Resource("", "v1", "nodes")
#: Asks for one node as a pod does; prints what came of it.
PROGRAM = """
import sys
sys.path[:0] = sys.argv[3:]
from kpm.kube.access import in_cluster
from kpm.kube.api import Api, ApiError, Resource
host, port = sys.argv[1].split(":")
place = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
try:
    print(Api(in_cluster(place, sys.argv[2])).get(Resource("", "v1", "nodes"), "n"))
except ApiError as failure:
    print(failure)
"""


def interpreters() -> dict[str, str]:
    """Every Python from 3.11 on that this machine has, by version, this one among them."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for minor in range(11, 16):
        places = [
            *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3"),
            *filter(None, [shutil.which(f"python3.{minor}")]),
        ]
        for place in places:
            works = (
                subprocess.run(
                    [str(place), "-c", "import ssl"], capture_output=True, check=False
                ).returncode
                == 0
            )
            if works:
                found.setdefault(f"3.{minor}", str(place))
    return found


def openssl(folder: Path, *words: str) -> None:
    if not shutil.which("openssl"):
        subprocess.run(
            "apt-get update && apt-get install -y --no-install-recommends openssl",
            shell=True,
            check=True,
        )
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path, *, usage: bool, names: str, days: str = "1") -> None:
    """A cluster's CA, with keyUsage or without as many clusters have it, and a server's certificate
    of it.
    """
    extra = ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"] if usage else []
    openssl(
        folder,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "ca.key",
        "-subj",
        "/CN=cluster",
        "-days",
        "2",
        "-out",
        "ca.crt",
        *extra,
    )
    openssl(
        folder,
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "server.key",
        "-subj",
        "/CN=kube-apiserver",
        "-out",
        "server.csr",
    )
    (folder / "names").write_text(f"subjectAltName={names}\n")
    openssl(
        folder,
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        days,
        "-extfile",
        "names",
        "-out",
        "server.crt",
    )
    (folder / "token").write_text("secret\n")


class Answers(BaseHTTPRequestHandler):
    """Says who asked."""

    def do_GET(self) -> None:
        body = b'{"who": "%s"}' % self.headers["Authorization"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that refuses the certificate is meant to go."""


@contextmanager
def tls_server(folder: Path, **words: Any) -> Iterator[str]:
    """The address of a TLS server whose certificates are made in this folder."""
    certificates(folder, **words)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    server = Quiet(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """The address of a TLS server with these certificates, and a pod's account folder."""
    with tls_server(tmp_path, **request.param) as address:
        yield address, tmp_path


def ask(python: str, address: str, account: Path) -> str:
    """What a pod's client on this Python gets.

    The packages that it needs are pure Python and shared.
    """
    packages = [str(ROOT), str(Path(pytest.__file__).parents[1])]
    done = subprocess.run(
        [python, "-c", PROGRAM, address, str(account), *packages],
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OURS = "IP:127.0.0.1,DNS:kubernetes.default.svc"


@pytest.mark.parametrize("python", interpreters().values(), ids=interpreters().keys())
@pytest.mark.parametrize(
    "cluster",
    [{"usage": False, "names": OURS}, {"usage": True, "names": OURS}],
    indirect=True,
    ids=["no keyUsage", "keyUsage"],
)
def test_a_cluster_ca_is_trusted_with_and_without_key_usage(
    cluster: tuple[str, Path], python: str
) -> None:
    """EKS, microk8s and many others have a CA without the extension; Python 3.13's strict check
    would refuse it.
    """
    assert ask(python, *cluster) == "{'who': 'Bearer secret'}"


@pytest.mark.parametrize("python", interpreters().values(), ids=interpreters().keys())
@pytest.mark.parametrize("cluster", [{"usage": False, "names": OURS, "days": "0"}], indirect=True)
def test_an_expired_certificate_is_refused(cluster: tuple[str, Path], python: str) -> None:
    assert "expired" in ask(python, *cluster)


@pytest.mark.parametrize("python", interpreters().values(), ids=interpreters().keys())
@pytest.mark.parametrize(
    "cluster", [{"usage": False, "names": "IP:127.0.0.9,DNS:other"}], indirect=True
)
def test_a_certificate_of_another_name_is_refused(cluster: tuple[str, Path], python: str) -> None:
    assert "mismatch" in ask(python, *cluster)


@pytest.mark.parametrize("cluster", [{"usage": True, "names": OURS}], indirect=True)
def test_a_certificate_of_another_authority_is_refused(
    cluster: tuple[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    certificates(other, usage=True, names=OURS)
    assert "verify failed" in ask(sys.executable, cluster[0], other)


def kubeconfig(folder: Path, address: str, **cluster: object) -> str:
    """A file that names a cluster and a user with a token, as kubectl reads it."""
    place = {"server": f"https://{address}", **cluster}
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": place}],
        "users": [{"name": "a", "user": {"token": "secret"}}],
    }  # fmt: skip
    (folder / "config").write_text(json.dumps(document))
    return str(folder / "config")


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("cluster", [{"usage": False, "names": "DNS:other"}], indirect=True)
def test_a_kubeconfig_may_ask_for_no_verification(cluster: tuple[str, Path]) -> None:
    """insecure-skip-tls-verify takes a certificate of any name and any authority; only where it
    stands.
    """
    address, folder = cluster
    insecure = Api(
        from_kubeconfig(kubeconfig(folder, address, **{"insecure-skip-tls-verify": True}))
    )
    assert insecure.get(NODES, "n") == {"who": "Bearer secret"}
    with pytest.raises(ApiError, match="verify failed"):
        Api(from_kubeconfig(kubeconfig(folder, address))).get(NODES, "n")


@pytest.mark.parametrize(
    ("names", "answer"),
    [(OURS, "Bearer secret"), ("DNS:other", "mismatch")],
    ids=["its name", "another name"],
)
def test_a_kubeconfigs_authority_is_checked(names: str, answer: str, tmp_path: Path) -> None:
    with tls_server(tmp_path, usage=False, names=names) as address:
        api = Api(
            from_kubeconfig(
                kubeconfig(tmp_path, address, **{"certificate-authority": str(tmp_path / "ca.crt")})
            )
        )
        try:
            found = str(api.get(NODES, "n"))
        except ApiError as failure:
            found = str(failure)
    assert answer in found


@pytest.mark.parametrize("cluster", [{"usage": False, "names": "DNS:other"}], indirect=True)
def test_a_kubeconfig_may_name_the_server_otherwise(cluster: tuple[str, Path]) -> None:
    """tls-server-name: whose certificate is expected, where the address is a tunnel's."""
    address, folder = cluster
    named = kubeconfig(
        folder,
        address,
        **{"certificate-authority": str(folder / "ca.crt"), "tls-server-name": "other"},
    )
    assert Api(from_kubeconfig(named)).get(NODES, "n") == {"who": "Bearer secret"}


def test_the_current_python_is_among_those_tried() -> None:
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in interpreters()


# --- tokens ---


def test_a_token_is_read_again_after_a_minute_and_while_it_cannot_be_the_last_one_stays(
    tmp_path: Path,
) -> None:
    """By monotonic time: a wall clock that is set back changes nothing."""
    file, now = tmp_path / "token", [100.0]
    file.write_text("one\n")
    token = _Token(str(file), lambda: now[0])
    assert token.headers(True) == {"Authorization": "Bearer one"}
    file.write_text("two\n")
    now[0] += 59.0
    assert token.headers(False) == {"Authorization": "Bearer one"}
    now[0] += 1.0
    assert token.headers(False) == {"Authorization": "Bearer two"}
    for damage in (
        lambda: file.write_text(""),
        lambda: file.write_bytes(b"\xff\n"),
        lambda: file.write_text("a\nb"),
        file.unlink,
    ):
        damage()
        assert token.headers(True) == {"Authorization": "Bearer two"}


def test_without_any_token_the_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/token: .*No such file"):
        _Token(str(tmp_path / "token"), lambda: 0.0).headers(False)


def test_a_pod_without_an_account_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ca\.crt: is missing"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "127.0.0.1"}, str(tmp_path))


@pytest.mark.parametrize(("exchanged", "requests"), [(True, 2), (False, 1)])
def test_a_refused_token_is_read_anew_and_asked_with_once_more(
    exchanged: bool, requests: int
) -> None:
    """Only where it has been exchanged: the same one again would be refused again."""
    with serving() as server:
        server.say(401, {"reason": "Unauthorized", "message": "no"})
        plain = server.api()._server
        with pytest.raises(ApiError, match="401"):
            Api(
                Access(
                    plain.url,
                    plain.pool,
                    lambda anew: {"Authorization": f"Bearer {exchanged and anew}"},
                )
            ).get(NODES, "n")
        assert len(server.requests) == requests


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_a_redirect_is_not_followed(server: Server) -> None:
    """It would carry the token elsewhere."""
    server.say(302, {}, Location="http://127.0.0.1:1/")
    with pytest.raises(ApiError, match="302"):
        server.api().get(NODES, "n")
