"""How an API server is reached: its address, connections to it, and who asks.

In a pod the four facts stand in the environment and in two mounted files, so nothing is loaded but
the HTTP library: an agent starts in half the time. A kubeconfig has many more ways (client
certificates, exec plugins, proxies), which the kubernetes package reads.

Certificates are verified as kubectl does. Python 3.13 asks more: a cluster CA without the keyUsage
extension, which many clusters have, fails its X509_STRICT. That flag alone is cleared; chain, dates
and name are checked as ever.
"""

import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import urllib3
from attrs import define, frozen

from kpm.process.errors import InputError, one_line

if TYPE_CHECKING:
    from kubernetes.client import Configuration

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
#: A mounted token is exchanged long before it ends; it is read again after so many seconds.
_TOKEN_SECONDS = 60.0
_LONGEST_TOKEN = 64 << 10
#: One connection for every informer, the lease and the loops.
_CONNECTIONS = 24
#: The kernel notices a peer that is gone: idle seconds, seconds between probes, probes.
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


@frozen
class Access:
    """One API server. headers: those of every request; given True after a refusal, when what they
    hold may be old. socket: the path of one through which it is reached.
    """

    url: str
    pool: urllib3.PoolManager
    headers: Callable[[bool], Mapping[str, str]]
    socket: str = ""


def tls_context(*, verify: bool = True) -> ssl.SSLContext:
    """Verification as kubectl does it. verify: False where a kubeconfig asks for none
    (insecure-skip-tls-verify).
    """
    context = urllib3.util.ssl_.create_urllib3_context(
        cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    )
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def access(kubeconfig: str | None = None, context: str | None = None) -> Access:
    """The API server of the pod that this runs in, else of a kubeconfig file.

    Errors: InputError.
    """
    if kubeconfig is None and context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(os.environ)
    return from_kubeconfig(kubeconfig, context)


def in_cluster(environment: Mapping[str, str], account: str = _ACCOUNT) -> Access:
    """The API server of a pod, by what every pod is given. Errors: InputError."""
    host, port = (
        environment["KUBERNETES_SERVICE_HOST"],
        environment.get("KUBERNETES_SERVICE_PORT") or "443",
    )
    authority = f"{account}/ca.crt"
    if not os.path.isfile(authority):
        raise InputError(f"{authority}: is missing; the pod has no service account mounted")
    pool = urllib3.PoolManager(
        ssl_context=tls_context(), ca_certs=authority, cert_reqs=ssl.CERT_REQUIRED,
        maxsize=_CONNECTIONS, socket_options=_socket_options(),
    )  # fmt: skip
    token = _Token(f"{account}/token", time.monotonic)
    token.headers(True)
    return Access(f"https://{f'[{host}]' if ':' in host else host}:{port}", pool, token.headers)


def from_kubeconfig(path: str | None, context: str | None = None) -> Access:
    """The API server of a context of a kubeconfig file, by default its current one.

    Errors: InputError.
    """
    try:
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException, load_kube_config
    except ImportError:
        return _through_kubectl(path, context)

    configuration = Configuration()
    try:
        load_kube_config(  # type: ignore[no-untyped-call]
            config_file=path, context=context, client_configuration=configuration,
            persist_config=False,
        )  # fmt: skip
    except (ConfigException, OSError, TypeError, KeyError) as failure:
        name = path or os.environ.get("KUBECONFIG", "~/.kube/config")
        raise InputError(f"--kubeconfig {name}: {one_line(failure)}") from None
    return from_configuration(configuration)


def _through_kubectl(path: str | None, context: str | None) -> Access:
    """The same without the kubernetes package. Errors: InputError."""
    from kpm.kube.through_kubectl import proxied

    found = proxied(path, context)
    if found is None:
        raise InputError(
            "kubeconfig: needs kubectl, or the Kubernetes client, and neither is installed: pip"
            " install 'kubernetes-power-manager[cluster]'"
        )
    pool = urllib3.PoolManager(maxsize=_CONNECTIONS)
    return Access("http://localhost", pool, lambda _anew: {}, found)


def from_configuration(configuration: "Configuration") -> Access:
    """The API server of a configuration of the kubernetes package."""
    from kubernetes.client.rest import RESTClientObject

    configuration.connection_pool_maxsize = _CONNECTIONS
    configuration.socket_options = _socket_options()
    pool = RESTClientObject(configuration).pool_manager
    if configuration.host.startswith("https:"):
        pool.connection_pool_kw["ssl_context"] = tls_context(verify=configuration.verify_ssl)

    def headers(_anew: bool) -> Mapping[str, str]:
        settings: Any = configuration.auth_settings().values()
        return {
            item["key"]: item["value"]
            for item in settings
            if item["in"] == "header" and item["value"]
        }

    return Access(configuration.host.rstrip("/"), pool, headers)


def _socket_options() -> list[tuple[int, int, int]]:
    pairs = [(socket.IPPROTO_TCP, name, value) for name, value in _KEEP_ALIVE]
    return [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *pairs,
    ]


@define(eq=False)
class _Token:
    """A token in a file that is exchanged from time to time.

    While it cannot be read the last one is used.
    """

    path: str
    monotonic: Callable[[], float]
    _text: str = ""
    _read_at: float = float("-inf")

    def headers(self, anew: bool) -> Mapping[str, str]:
        """The header. Errors: InputError where there has never been a token."""
        if anew or self.monotonic() - self._read_at >= _TOKEN_SECONDS:
            self._read()
        return {"Authorization": f"Bearer {self._text}"}

    def _read(self) -> None:
        try:
            with open(self.path, encoding="ascii") as file:
                text = file.read(_LONGEST_TOKEN).strip()
            if not text or not text.isprintable():
                raise ValueError("holds no token")
        except (OSError, ValueError) as failure:
            if not self._text:
                raise InputError(f"{self.path}: {one_line(failure)}") from None
        else:
            self._text = text
        self._read_at = self.monotonic()
