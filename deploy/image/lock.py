"""requirements.lock and requirements-build.lock: every wheel that an image may get, by version and
hash.

    python deploy/image/lock.py     resolves pyproject.toml anew (make lock)

pip is asked once for each Python and architecture that is supported, what it chose first being kept
by the rest; so the lock names the wheels of those and nothing else: no source archive, no other
system.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
ARCHITECTURES = ("x86_64", "aarch64")
#: Oldest last; pip takes them as a list and knows no order between them but this.
SYSTEMS = ("manylinux_2_28", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014")

Locked = dict[str, tuple[str, set[str]]]


def resolve(needs: list[str]) -> Locked:
    """Name, version and hashes of all that is needed."""
    found: Locked = {}
    for python in PYTHONS:
        for architecture in ARCHITECTURES:
            for item in _ask(needs, found, python, architecture):
                name, version = item["metadata"]["name"], item["metadata"]["version"]
                digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
                kept, hashes = found.setdefault(name.lower().replace("_", "-"), (version, set()))
                assert kept == version, f"{name}: {kept} and {version}"
                hashes.add(digest)
    return found


def _ask(needs: list[str], kept: Locked, python: str, architecture: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as scratch:
        fixed = Path(scratch) / "kept.txt"
        fixed.write_text("".join(f"{name}=={version}\n" for name, (version, _) in kept.items()))
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
        ]
        command += [
            "--report",
            "-",
            "--only-binary",
            ":all:",
            "--target",
            scratch,
            "-c",
            str(fixed),
        ]
        command += ["--python-version", python, "--implementation", "cp"]
        command += [
            word for system in SYSTEMS for word in ("--platform", f"{system}_{architecture}")
        ]
        done = subprocess.run([*command, *needs], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)["install"]


def write(path: Path, needs: list[str]) -> None:
    lines = ["# Written by make lock; every wheel for the supported Pythons on amd64 and arm64.\n"]
    for name, (version, hashes) in sorted(resolve(needs).items()):
        lines.append(f"{name}=={version}")
        lines += [f" \\\n    --hash=sha256:{digest}" for digest in sorted(hashes)]
        lines.append("\n")
    path.write_text("".join(lines))


if __name__ == "__main__":
    project = tomllib.loads((REPO / "pyproject.toml").read_text())
    needs = project["project"]["dependencies"]
    cluster = project["project"]["optional-dependencies"]["cluster"]
    write(REPO / "requirements.lock", [*needs, *cluster])
    write(REPO / "requirements-build.lock", project["build-system"]["requires"])
