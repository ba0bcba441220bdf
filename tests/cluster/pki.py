"""The cluster's authority, certificates and kubeconfig files, by openssl.

The authority has no keyUsage, as those of several distributions and clouds have none; Python 3.13
refuses such a one where it verifies strictly, so a product that works here works there.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.cluster.steps import run

#: Who is who: certificate, subject. Kubernetes takes groups from O and the name from CN.
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "controllers": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "kubelet": "/O=system:nodes/CN=system:node:{node}",
    "proxy": "/CN=system:kube-proxy",
    "apiserver-kubelet": "/O=system:masters/CN=apiserver-kubelet",
}
_DAYS = "30"


def make(folder: Path, address: str, node: str, *, key_usage: bool = False) -> None:
    """Everything that the components need, in one folder. address: where the API server listens."""
    folder.mkdir(parents=True, exist_ok=True)
    _authority(folder, key_usage=key_usage)
    names = f"IP:{address},IP:127.0.0.1,IP:10.0.0.1,DNS:kubernetes.default.svc"
    _certificate(folder, "apiserver", "/CN=kube-apiserver", names)
    for name, subject in CLIENTS.items():
        _certificate(folder, name, subject.format(node=node), "DNS:none")
        _kubeconfig(folder, name, f"https://{address}:6443")
    run("openssl", "genrsa", "-out", folder / "sa.key", "2048")


def _authority(folder: Path, *, key_usage: bool) -> None:
    # Without this file openssl's own defaults apply, which differ between its versions.
    usage = "keyUsage=critical,digitalSignature,keyCertSign\n" if key_usage else ""
    head = "[req]\ndistinguished_name=name\nx509_extensions=authority\n[name]\n[authority]\n"
    (folder / "ca.cnf").write_text(
        f"{head}basicConstraints=critical,CA:true\nsubjectKeyIdentifier=hash\n{usage}"
    )
    run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-config",
        folder / "ca.cnf",
        "-subj",
        "/CN=kpm-test-ca",
        "-days",
        _DAYS,
        "-keyout",
        folder / "ca.key",
        "-out",
        folder / "ca.crt",
    )


def _certificate(folder: Path, name: str, subject: str, names: str) -> None:
    key, request, made = (folder / f"{name}.{end}" for end in ("key", "csr", "crt"))
    extensions = folder / f"{name}.ext"
    usage = "keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=clientAuth,serverAuth\n"
    extensions.write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n{usage}")
    run(
        "openssl",
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        subject,
        "-keyout",
        key,
        "-out",
        request,
    )
    run(
        "openssl",
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        folder / "ca.crt",
        "-CAkey",
        folder / "ca.key",
        "-CAcreateserial",
        "-days",
        _DAYS,
        "-extfile",
        extensions,
        "-out",
        made,
    )


def _kubeconfig(folder: Path, name: str, server: str) -> None:
    def text(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    cluster = {"server": server, "certificate-authority-data": text("ca.crt")}
    user = {"client-certificate-data": text(f"{name}.crt"), "client-key-data": text(f"{name}.key")}
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
    }  # fmt: skip
    (folder / f"{name}.conf").write_text(json.dumps(content))
