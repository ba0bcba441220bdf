"""The base as the image needs it: no installer, and the standard library compiled (install.py says
why).
"""

from __future__ import annotations

import compileall
import glob
import shutil
import sysconfig
from pathlib import Path
from py_compile import PycInvalidationMode

#: Installers, and parts of the standard library that are neither imported nor small.
NEEDLESS = (
    "ensurepip",
    "test",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "turtledemo",
    "__phello__",
    "tkinter",
)


def main() -> None:
    library = Path(sysconfig.get_path("stdlib"))
    for name in NEEDLESS:
        shutil.rmtree(library / name, ignore_errors=True)
    for packages in {
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
        "/usr/lib/python3/dist-packages",
    }:
        for word in (
            "pip",
            "pip-*",
            "setuptools",
            "setuptools-*",
            "pkg_resources",
            "_distutils_hack",
        ):
            for path in glob.glob(f"{packages}/{word}"):
                shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree("/usr/share/python-wheels", ignore_errors=True)
    mode = PycInvalidationMode.UNCHECKED_HASH  # nothing of times: two builds are equal
    compileall.compile_dir(library, force=True, quiet=2, workers=1, invalidation_mode=mode)


if __name__ == "__main__":
    main()
