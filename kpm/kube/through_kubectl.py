"""An API server through `kubectl proxy`, where the kubernetes package is not installed: kubectl
knows every way of a kubeconfig to say who somebody is.

The proxy listens on a socket in a folder that is its starter's alone, and ends with the process.
"""

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import time

from kpm.process.errors import InputError, one_line

_SECONDS, _LOOK = 15.0, 0.05


def proxied(kubeconfig: str | None, context: str | None) -> str | None:
    """The socket of a proxy for a context of a kubeconfig; None where there is no kubectl.

    Errors: InputError where it does not begin.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return None
    folder = tempfile.mkdtemp(prefix="kpm-")  # mode 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "api")
    words = [kubectl, "proxy", f"--unix-socket={path}"]
    words += [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
    words += [f"--context={context}"] if context else []
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
    atexit.register(_end, child)
    ends = time.monotonic() + _SECONDS
    while not _listens(path):
        if child.poll() is not None or time.monotonic() >= ends:
            said = child.stderr.read(2000) if child.poll() is not None and child.stderr else b""
            text = one_line(said.decode("utf-8", "replace").strip() or "it does not begin")
            raise InputError(f"kubectl proxy: {text}")
        time.sleep(_LOOK)
    return path


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(path)
        except OSError:
            return False
    return True


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
