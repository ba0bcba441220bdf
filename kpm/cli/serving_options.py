"""The options by which agent and operator are reached: ports, and TLS for the metrics."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from kpm.errors import InputError, one_line

if TYPE_CHECKING:
    from kpm.serving import Answers
    from kpm.threads import Threads


@frozen
class ServingOptions:
    """A port for health alone, and the files of TLS for /metrics."""

    health_port: int | None = None
    certificate: str = ""
    key: str = ""
    clients: str = ""

    def serve(self, port: int, threads: "Threads", health: "Answers", metrics: "Answers") -> int:
        """Answer on the ports; that of the metrics. Errors: InputError."""
        from kpm.serving import Certificates, serve_all

        if bool(self.certificate) != bool(self.key) or (self.clients and not self.certificate):
            raise InputError("--metrics-cert, --metrics-key: are needed together, and both for --metrics-client-ca")
        try:
            tls = Certificates(self.certificate, self.key, self.clients).context() if self.certificate else None
        except OSError as failure:  # also what OpenSSL says
            raise InputError(f"--metrics-cert {self.certificate}: {one_line(failure)}") from None
        try:
            return serve_all(port, self.health_port, threads, health, metrics, tls)[0]
        except OSError as failure:
            raise InputError(f"--port {port}, --health-port {self.health_port}: {failure.strerror}") from None


def serving_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--health-port, --metrics-cert, --metrics-key, --metrics-client-ca, as one argument `serving`."""

    @wraps(function)
    def gathered(health_port: int | None, metrics_cert: str, metrics_key: str, metrics_client_ca: str, **rest: Any) -> Any:
        return function(serving=ServingOptions(health_port, metrics_cert, metrics_key, metrics_client_ca), **rest)

    options: Any = gathered
    for name, text in (
        ("--metrics-client-ca", "Who signs the certificates that readers of /metrics must show."),
        ("--metrics-key", "Key of --metrics-cert."),
        ("--metrics-cert", "Certificate: /metrics is answered by TLS alone, which needs --health-port for probes."),
    ):
        options = click.option(name, metavar="FILE", default="", help=text)(options)
    text = "Port of /healthz and /readyz alone, with connections of its own."
    return click.option("--health-port", type=click.IntRange(0, 65535), help=text)(options)  # type: ignore[no-any-return]
