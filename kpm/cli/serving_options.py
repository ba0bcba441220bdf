"""The options by which agent and operator are reached: ports, TLS for the metrics, and who may read
them.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from kpm.process.errors import InputError, one_line
from kpm_planner.model.agent_settings import MetricsAccess

if TYPE_CHECKING:
    from kpm.kube.api import Api
    from kpm.process.serving import Answers, Guarded
    from kpm.process.threads import Threads


@frozen
class ServingOptions:
    """A port for health alone, the files of TLS for /metrics, and who may read it."""

    health_port: int | None = None
    certificate: str = ""
    key: str = ""
    clients: str = ""
    access: MetricsAccess | None = None

    def serve(
        self,
        port: int,
        threads: "Threads",
        health: "Answers",
        metrics: "Answers",
        api: "Api | None" = None,
        address: str = "",
    ) -> int:
        """Answer on the ports; that of the metrics. api: whom to ask about tokens. address: one of
        the machine's.

        Errors: InputError.
        """
        from kpm.process.serving import serve_all

        guarded = self._guarded(api)
        try:
            return serve_all(
                port, self.health_port, threads, health=health, metrics=metrics, guarded=guarded,
                at=address,
            )[0]  # fmt: skip
        except OSError as failure:
            raise InputError(
                f"--port {port}, --health-port {self.health_port}: {failure.strerror}"
            ) from None

    def _guarded(self, api: "Api | None") -> "Guarded | None":
        """Certificates that are not there yet are waited for where access says who may read; else
        they are an error.
        """
        from kpm.process.serving import Certificates, Guarded, Renewed

        if bool(self.certificate) != bool(self.key) or (self.clients and not self.certificate):
            raise InputError(
                "--metrics-cert, --metrics-key: are needed together, and both for"
                " --metrics-client-ca"
            )
        if self.access in (MetricsAccess.CERTIFICATE, MetricsAccess.TOKEN) and not self.certificate:
            raise InputError(
                f"--metrics-access {self.access}: needs --metrics-cert and --metrics-key"
            )
        if self.access is MetricsAccess.CERTIFICATE and not self.clients:
            raise InputError(f"--metrics-access {self.access}: needs --metrics-client-ca")
        if not self.certificate:
            return None
        renewed = Renewed(Certificates(self.certificate, self.key, self.clients))
        if self.access is None:
            try:
                renewed.context()
            except OSError as failure:  # also what OpenSSL says
                raise InputError(
                    f"--metrics-cert {self.certificate}: {one_line(failure)}"
                ) from None
        if self.access is not MetricsAccess.TOKEN:
            return Guarded(renewed.context)
        if api is None:  # nobody to ask is nobody let in
            raise InputError(f"--metrics-access {self.access}: needs an API server")
        from kpm.kube.readers import Readers

        return Guarded(renewed.context, Readers(api).status)


def serving_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--health-port, --metrics-access, -cert, -key and -client-ca, as one argument `serving`."""

    @wraps(function)
    def gathered(
        health_port: int | None, metrics_cert: str, metrics_key: str, metrics_client_ca: str,
        metrics_access: str | None, **rest: Any,
    ) -> Any:  # fmt: skip
        access = None if metrics_access is None else MetricsAccess(metrics_access)
        asked = ServingOptions(health_port, metrics_cert, metrics_key, metrics_client_ca, access)
        return function(serving=asked, **rest)

    options: Any = gathered
    for name, text in (
        ("--metrics-client-ca", "Who signs the certificates that readers of /metrics must show."),
        ("--metrics-key", "Key of --metrics-cert."),
        (
            "--metrics-cert",
            "Certificate: /metrics is answered by TLS alone, which needs --health-port for probes.",
        ),
    ):
        options = click.option(name, metavar="FILE", default="", help=text)(options)
    text = (
        "Who may read /metrics by TLS: who has a certificate, or a token that the API server knows"
        " and allows."
    )
    options = click.option(
        "--metrics-access", type=click.Choice([item.value for item in MetricsAccess]), help=text
    )(options)
    text = "Port of /healthz and /readyz alone, with connections of its own."
    return click.option("--health-port", type=click.IntRange(0, 65535), help=text)(options)  # type: ignore[no-any-return]
