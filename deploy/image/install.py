"""What the image holds in /opt/kpm: the locked wheels and kpm, less what is never imported,
compiled.

    python3 deploy/image/install.py wheels /opt/kpm     the environment; Python with ensurepip is
    all that this needs python3 deploy/image/install.py kpm /opt/kpm        kpm into it, in the
    folder of the sources

Two steps, so that a change of the sources fetches no wheel again where layers are kept. The base
may have no shell, so the Containerfile runs this and no pipeline. The root file system is read-only
at run time: bytecode that is not there would be compiled again at every start, so the interpreter's
own library is compiled too (strip.py).
"""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from py_compile import PycInvalidationMode

#: Bytecode that says nothing of times, so that two builds are equal; nobody changes the sources.
UNCHECKED = PycInvalidationMode.UNCHECKED_HASH
#: Of the client only configuration and raw calls are used (kpm.kube.api): neither the asynchronous
#: client and what it alone needs, nor the classes of every kind, which the client loads by name
#: when they are asked for.
UNUSED = (
    "aiohappyeyeballs*",
    "aiohttp*",
    "aiosignal*",
    "frozenlist*",
    "multidict*",
    "propcache*",
    "yarl*",
    "kubernetes/aio",
    "kubernetes/e2e_test",
    "kubernetes/client/api/[!_]*",
    "kubernetes/client/models/[!_]*",
    "kubernetes/**/*_test.py",
    "kpm/ui",  # for a desk: it needs Jinja2, and no pod serves pages
    "pip*",
    "setuptools*",
    "_distutils_hack",
    "distutils-precedence.pth",
    "pkg_resources",
)


def wheels(target: Path) -> None:
    """Make the virtual environment.

    Wheels alone are taken: nothing that is fetched runs while the image is built.
    """
    venv.create(target, with_pip=True, symlinks=True)
    locked = ["--require-hashes", "--no-deps", "--only-binary", ":all:"]
    for lock in ("requirements.lock", "requirements-build.lock"):
        _pip(target, *locked, "-r", lock)


def kpm(target: Path) -> None:
    """Install what is here, then remove what is never imported, the installer itself last, and
    compile the rest.
    """
    _pip(target, "--no-deps", "--no-build-isolation", ".")
    (packages,) = target.glob("lib/python3*/site-packages")
    for path in [path for pattern in UNUSED for path in packages.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for script in target.glob("bin/*"):
        if script.name != "kpm" and not script.name.startswith("python"):
            script.unlink()
    # the installer has run some of it, and left bytecode that tells of times
    compileall.compile_dir(packages, force=True, quiet=1, workers=1, invalidation_mode=UNCHECKED)


def _pip(target: Path, *words: str) -> None:
    command = [
        str(target / "bin/python"),
        "-m",
        "pip",
        "install",
        "--no-cache-dir",
        "--no-compile",
        *words,
    ]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    {"wheels": wheels, "kpm": kpm}[sys.argv[1]](Path(sys.argv[2]))
