"""The plugin of kubectl as one file, and the manifest with which Krew installs it (make krew).

    python deploy/krew/make.py FOLDER [--url URL]

kubectl-power is a zipapp: this system with the libraries that it needs, for any Python from 3.11
on, whatever the platform, since what of them is compiled is left out where they have it in Python
too. Under the name kubectl_complete-power the same file answers kubectl's completion. What is made
of one commit twice is equal.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import yaml

from kpm import __version__

REPO = Path(__file__).resolve().parents[2]
SOURCE = "https://example.org/kubernetes-power-manager"
MAIN = "from kpm.__main__ import main\nmain()\n"
#: Beside what images leave out: what only nodes need.
NEEDLESS = ("pyroute2*", "prometheus_client*", "h2*", "hpack*", "hyperframe*", "bin")
#: Compiled code, types for tools, records of the installation.
_LEFT = (".so", ".pyi", ".pyc")
PLATFORMS = (("linux", "amd64"), ("linux", "arm64"), ("darwin", "amd64"), ("darwin", "arm64"))
_EPOCH = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default=f"{SOURCE}/releases/v{__version__}/kubectl-power.tar.gz")
    asked = parser.parse_args()
    shutil.rmtree(asked.folder, ignore_errors=True)
    asked.folder.mkdir(parents=True)
    program = asked.folder / "kubectl-power"
    with tempfile.TemporaryDirectory() as place:
        libraries(Path(place))
        program.write_bytes(zipapp(Path(place)))
    program.chmod(0o755)
    archive = asked.folder / "kubectl-power.tar.gz"
    archive.write_bytes(packed(program))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (asked.folder / "power.yaml").write_text(yaml.safe_dump(manifest(asked.url, digest),
                                                            sort_keys=False))  # fmt: skip
    sys.stderr.write(f"{program}: {program.stat().st_size >> 10} KiB\n")


def libraries(place: Path) -> None:
    """Install into a folder what the plugin is made of, without what it does not need."""
    wanted = f"{REPO}[ui]"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--no-compile", "--target", str(place), wanted], check=True)  # noqa: S603
    for name in ("build", *(path.name for path in REPO.glob("*.egg-info"))):
        shutil.rmtree(REPO / name, ignore_errors=True)
    unused: tuple[str, ...] = runpy.run_path(str(REPO / "deploy/image/install.py"))["UNUSED"]
    for path in [path for pattern in (*unused, *NEEDLESS) for path in place.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in list(place.rglob("*")):
        if path.suffix in _LEFT or path.name in ("RECORD", "direct_url.json"):
            path.unlink()


def zipapp(place: Path) -> bytes:
    """One file that Python runs: names in order, times left out."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(_entry("__main__.py"), MAIN)
        for path in sorted(item for item in place.rglob("*") if item.is_file()):
            archive.writestr(_entry(str(path.relative_to(place))), path.read_bytes())
    return b"#!/usr/bin/env python3\n" + data.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry


def packed(program: Path) -> bytes:
    """The archive that Krew fetches."""
    data = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=data, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for path, mode in ((program, 0o755), (REPO / "LICENSE", 0o644)):
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode, entry.mtime = path.stat().st_size, mode, 0
            archive.addfile(entry, io.BytesIO(path.read_bytes()))
    return data.getvalue()


def manifest(url: str, digest: str) -> dict[str, object]:
    """What Krew is told."""
    parts = [
        {
            "selector": {"matchLabels": {"os": name, "arch": architecture}},
            "uri": url,
            "sha256": digest,
            "bin": "kubectl-power",
        }
        for name, architecture in PLATFORMS
    ]
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "power"},
        "spec": {
            "version": f"v{__version__}",
            "homepage": SOURCE,
            "shortDescription": "Power of nodes: status, plan before apply, live",
            "description": (
                "What the agents of the Kubernetes power manager report: who holds which CPUs,\n"
                "what objects would change on which nodes before they are applied, what is\n"
                "wrong and what mends it, what CPUs do just now. It only reads.\n"
            ),
            "caveats": "Needs Python 3.11 or later as python3.\n",
            "platforms": parts,
        },
    }


if __name__ == "__main__":
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    main()
