"""The browser and its tools: installed where they are missing, kept below ~/.cache."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CACHE = Path.home() / ".cache/kpm-pages"
_PACKAGES = ("puppeteer-core@24", "axe-core@4")
_CHECK = Path(__file__).parent / "check.mjs"


def prepare() -> None:
    """Install Chromium and Node of Debian, and the two packages of npm."""
    needed = [name for name in ("chromium", "node", "npm") if shutil.which(name) is None]
    if needed:
        names = ["nodejs" if name == "node" else name for name in needed]
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names]
        subprocess.run(command, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if not (CACHE / "node_modules/axe-core").is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "package.json").write_text('{"private": true}\n')
        subprocess.run(["npm", "install", "--no-fund", "--no-audit", *_PACKAGES], cwd=CACHE,
                       check=True)  # fmt: skip


def looked_at(places: list[str], out: Path) -> list[dict[str, Any]]:
    """What the browser, axe and the layout say of pages; pictures and prints go to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        ["node", str(_CHECK), str(out), *places],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "KPM_PAGES_MODULES": str(CACHE)},
    )
    if ran.returncode:
        raise AssertionError(ran.stderr[-2000:])
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


if __name__ == "__main__" and "--prepare" in sys.argv:
    prepare()
