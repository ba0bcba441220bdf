"""kube-apiserver, etcd and kubectl for tests, where the ecosystem looks for them:
KUBEBUILDER_ASSETS, else a cache made here.

    python envtest.py --prepare     build or install what is missing, print the folder
    python envtest.py --cluster     and what makes a node: kubelet, kube-scheduler, kube-proxy

Kubernetes' commands are built from their Go module at the release that tools/go.mod pins, etcd
comes from the distribution. What is missing is built by one command: most packages are the same in
all of them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"
NAMES = ("kube-apiserver", "kubectl", "etcd")
#: The convention's folders have neither of these.
CONTROLLERS = "kube-controller-manager"
NODE = ("kubelet", "kube-scheduler", "kube-proxy")


def release() -> str:
    """The pinned release, such as 1.35.4."""
    line = next(
        line
        for line in (TOOLS / "go.mod").read_text().splitlines()
        if "k8s.io/kubernetes v" in line
    )
    return line.rpartition(" v")[2].partition(" ")[0]


def assets() -> Path:
    """The folder of the binaries, whether they are there or not."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(given) if given else _cache()


def _cache() -> Path:
    return Path.home() / ".cache" / "kpm-envtest" / release()


def controllers() -> Path:
    """Kubernetes' own controllers, built where they are not yet."""
    _build([_cache() / CONTROLLERS])
    return _cache() / CONTROLLERS


def prepare(*, cluster: bool = False) -> Path:
    """The folder of the binaries, made where it is not. cluster: with what makes a node, all in the
    cache, since a folder by the convention has none of that. Errors: SystemExit with what is
    missing.
    """
    folder = _cache() if cluster else assets()
    _tools()
    missing = [name for name in NAMES if not (folder / name).exists()]
    if missing and folder != _cache():
        sys.exit(f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    if "etcd" in missing:
        _etcd(folder)
    wanted = [_cache() / name for name in (CONTROLLERS, *(NODE if cluster else ()))]
    _build([folder / name for name in missing if name != "etcd"] + wanted)
    return folder


def _tools() -> None:
    """What the tests call beside the three: curl and openssl."""
    absent = [name for name in ("curl", "openssl") if not shutil.which(name)]
    if absent:
        subprocess.run(
            f"apt-get update && apt-get install -y --no-install-recommends {' '.join(absent)}",
            shell=True,
            check=True,
        )


def _build(files: list[Path]) -> None:
    """Build the commands that are missing.

    CGO is not needed; the version is what clients compare with theirs.

    Two runs that begin together must not build twice, nor start a file that is half written: one
    waits for the other.
    """
    for folder in {file.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [file for file in files if not file.exists()]
        if missing:
            _compile(missing)


def go_tool(module: str, package: str, version: str) -> Path:
    """A command of a Go module at a version, built where it is not yet."""
    name = package.rpartition("/")[2]
    folder = Path.home() / ".cache" / "kpm-tools" / f"{name}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            _go()
            surroundings = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
            command = ["go", "install", f"{module}/{package}@{version}"]
            subprocess.run(command, check=True, env=surroundings)
    return folder / name


def _go() -> None:
    """The compiler, from the distribution where there is none."""
    if not shutil.which("go"):
        subprocess.run(
            "apt-get update && apt-get install -y --no-install-recommends golang-go",
            shell=True,
            check=True,
        )


def _compile(files: list[Path]) -> None:
    _go()
    version = release()
    major, minor, _ = version.split(".")
    stamp = "k8s.io/component-base/version"
    flags = (
        f"-s -w -X {stamp}.gitVersion=v{version} -X {stamp}.gitMajor={major} -X"
        f" {stamp}.gitMinor={minor}"
    )
    new = _cache() / "new"
    new.mkdir(exist_ok=True)
    packages = [f"k8s.io/kubernetes/cmd/{file.name}" for file in files]
    command = [
        "go",
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        flags,
        "-o",
        f"{new}/",
        *packages,
    ]
    subprocess.run(
        command,
        cwd=TOOLS,
        check=True,
        env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"},
    )
    for file in files:
        shutil.move(new / file.name, file)


def _etcd(folder: Path) -> None:
    found = shutil.which("etcd")
    if not found:
        # The package would start a server of its own.
        policy = (
            "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x"
            " /usr/sbin/policy-rc.d"
        )
        subprocess.run(
            f"{policy}; apt-get update && apt-get install -y --no-install-recommends etcd-server;"
            " status=$?; rm -f /usr/sbin/policy-rc.d; exit $status",
            shell=True,
            check=True,
        )
        found = shutil.which("etcd")
    if not found:
        sys.exit("etcd cannot be installed here; set KUBEBUILDER_ASSETS to a folder that has it")
    shutil.copy(found, folder / "etcd")


if __name__ == "__main__":
    print(prepare(cluster="--cluster" in sys.argv))
