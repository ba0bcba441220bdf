"""A root folder with DPDK of Debian trixie and the program of this folder, made once in
~/.cache/kpm-dpdk.

python dpdk_root.py --prepare
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("libdpdk-dev", "gcc", "libc6-dev", "pkg-config")
SOURCE = Path(__file__).with_name("busy.c")
MIRROR = "http://deb.debian.org/debian"


def root() -> Path:
    """The folder, whether it is there or not."""
    return Path(os.environ.get("KPM_DPDK_CACHE") or Path.home() / ".cache" / "kpm-dpdk") / "root"


def prepare() -> Path:
    """The folder with the program in it. Errors: CalledProcessError."""
    place = root()
    if not (place / "usr/bin/gcc").exists():
        if not shutil.which("debootstrap"):
            subprocess.run(
                "apt-get update && apt-get install -y --no-install-recommends debootstrap",
                shell=True,
                check=True,
            )
        shutil.rmtree(place, ignore_errors=True)
        fresh = place.with_name("new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                "debootstrap",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                "trixie",
                str(fresh),
                MIRROR,
            ],
            check=True,
        )
        fresh.rename(place)
    shutil.copy(SOURCE, place / "busy.c")
    build = "cc -O2 -Wall -Werror /busy.c -o /busy $(pkg-config --cflags --libs libdpdk)"
    subprocess.run(["chroot", str(place), "sh", "-c", build], check=True)
    return place


if __name__ == "__main__":
    print(prepare() if sys.argv[1:] == ["--prepare"] else root())
