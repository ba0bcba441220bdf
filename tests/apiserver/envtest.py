"""kube-apiserver, etcd and kubectl for tests, where the ecosystem looks for them: KUBEBUILDER_ASSETS, else a cache made here.

    python envtest.py --prepare     build or install what is missing, print the folder

kube-apiserver, kubectl and kube-controller-manager are built from their Go module at the release that tools/go.mod pins, etcd comes from the distribution.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"
NAMES = ("kube-apiserver", "kubectl", "etcd")
#: The convention's folders have none.
CONTROLLERS = "kube-controller-manager"


def release() -> str:
    """The pinned release, such as 1.35.4."""
    line = next(line for line in (TOOLS / "go.mod").read_text().splitlines() if "k8s.io/kubernetes v" in line)
    return line.rpartition(" v")[2].partition(" ")[0]


def assets() -> Path:
    """The folder of the binaries, whether they are there or not."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(given) if given else _cache()


def _cache() -> Path:
    return Path.home() / ".cache" / "kpm-envtest" / release()


def controllers() -> Path:
    """Kubernetes' own controllers, built where they are not yet."""
    made = _cache() / CONTROLLERS
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        _build(made.parent, CONTROLLERS)
    return made


def prepare() -> Path:
    """The folder of the binaries, made where it is not. Errors: SystemExit with what is missing."""
    folder = assets()
    _tools()
    missing = [name for name in NAMES if not (folder / name).exists()]
    if missing and "KUBEBUILDER_ASSETS" in os.environ:
        sys.exit(f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    if "etcd" in missing:
        _etcd(folder)
    for name in ("kube-apiserver", "kubectl"):
        if name in missing:
            _build(folder, name)
    controllers()
    return folder


def _tools() -> None:
    """What the tests call beside the three: curl and openssl."""
    absent = [name for name in ("curl", "openssl") if not shutil.which(name)]
    if absent:
        subprocess.run(f"apt-get update && apt-get install -y --no-install-recommends {' '.join(absent)}", shell=True, check=True)


def _build(folder: Path, name: str) -> None:
    """Build one command. CGO is not needed; the version is what clients compare with theirs."""
    if not shutil.which("go"):
        subprocess.run("apt-get update && apt-get install -y --no-install-recommends golang-go", shell=True, check=True)
    version = release()
    major, minor, _ = version.split(".")
    stamp = "k8s.io/component-base/version"
    flags = f"-s -w -X {stamp}.gitVersion=v{version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    made = folder / f"{name}.new"
    command = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(made), f"k8s.io/kubernetes/cmd/{name}"]
    subprocess.run(command, cwd=TOOLS, check=True, env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"})
    made.rename(folder / name)


def _etcd(folder: Path) -> None:
    found = shutil.which("etcd")
    if not found:
        # The package would start a server of its own.
        policy = "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d"
        subprocess.run(
            f"{policy}; apt-get update && apt-get install -y --no-install-recommends etcd-server; status=$?; rm -f /usr/sbin/policy-rc.d; exit $status",
            shell=True,
            check=True,
        )
        found = shutil.which("etcd")
    if not found:
        sys.exit("etcd cannot be installed here; set KUBEBUILDER_ASSETS to a folder that has it")
    shutil.copy(found, folder / "etcd")


if __name__ == "__main__":
    print(prepare())
