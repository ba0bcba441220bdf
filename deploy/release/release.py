"""Everything that a release consists of, but for publishing it (make release VERSION=...).

    python deploy/release/release.py VERSION [--key FILE] [--amd64-only] [--registry NAME]

Into dist/: wheel and source archive, charts, bundle, plain manifests, images as OCI archives with
their digests, bills of materials, notes, checksums, and with a key a signature of those. Nothing is
pushed. What is made of one commit twice is equal: times are those of the commit.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import uuid
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
DIST = REPO / "dist"
CACHE = Path.home() / ".cache" / "kpm-release"
CHARTS = ("kubernetes-power-manager-crds", "kubernetes-power-manager")
NAME = "kubernetes-power-manager"
#: The operator-registry reads bundles of any; this is the one that every registry knows.
PLATFORM_OF_BUNDLE = "linux/amd64"
#: Tools in Go, by module, command and version.
SYFT = ("github.com/anchore/syft", "cmd/syft", "v1.57.1")
COSIGN = ("github.com/sigstore/cosign/v3", "cmd/cosign", "v3.1.3")


def main() -> None:
    asked = _arguments()
    check(asked.version)
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    packages()
    charts()
    platforms = ("amd64",) if asked.amd64_only else ("amd64", "arm64")
    digests = {arch: image(arch, asked.version, asked.registry) for arch in platforms}
    write("digests.txt", "".join(f"{digest}  linux/{arch}\n" for arch, digest in digests.items()))
    reference = f"{asked.registry}/{NAME}@{digests['amd64']}"
    manifests(reference)
    bundle(asked.version, asked.registry)
    for arch, digest in digests.items():
        materials(arch, asked.version, digest)
    write("NOTES.md", notes(asked.version))
    sums()
    if asked.key:
        sign(asked.key)
    if asked.airgap:
        airgap(asked.version)
    sys.stderr.write(f"dist/ holds {asked.version}; nothing was published\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("version")
    parser.add_argument("--key", help="a private key of cosign; COSIGN_PASSWORD opens it")
    parser.add_argument("--amd64-only", action="store_true")
    parser.add_argument("--airgap", action="store_true", help="and all that a site needs, as one")
    parser.add_argument("--registry", default="localhost")
    return parser.parse_args()


def check(version: str) -> None:
    """The version is the program's, and the changes have a section of it."""
    found = re.search(r'__version__ = "(.+)"', (REPO / "kpm/__init__.py").read_text())
    if found is None or found[1] != version:
        sys.exit(f"kpm/__init__.py: expected __version__ {version!r}, got {found and found[1]!r}")
    if not notes(version).strip():
        sys.exit(f"CHANGELOG.md: is without a section ## {version}")


def notes(version: str) -> str:
    """The section of CHANGELOG.md about a version."""
    text = (REPO / "CHANGELOG.md").read_text()
    found = re.search(rf"(?ms)^## {re.escape(version)}\n(.*?)(?=^## |\Z)", text)
    return found[1].strip() + "\n" if found else ""


def epoch() -> str:
    """When the commit was made, in seconds, which is the time of everything in a release."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return given or run("git", "log", "-1", "--format=%ct").strip()


def run(*words: str, cwd: Path = REPO, **surroundings: str) -> str:
    """A command's output; a command that fails ends all."""
    environment = {**os.environ, **surroundings}
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, cwd=cwd, env=environment)
    return done.stdout.decode()


def write(name: str, text: str) -> None:
    """A file of the release."""
    path = DIST / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# --- Python ---


def packages() -> None:
    """Wheel and source archive, by PyPA's build, of what git knows."""
    python = _builder()
    source = CACHE / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in run("git", "ls-files").splitlines():
        if (REPO / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, source / name)
    build = ("-m", "build", "--no-isolation", "--outdir", str(DIST))
    run(str(python), *build, cwd=source, SOURCE_DATE_EPOCH=epoch())
    (archive,) = DIST.glob("*.tar.gz")
    _plain(archive)


def _builder() -> Path:
    """An environment with PyPA's build, and with what images are built with."""
    lock = REPO / "requirements-build.lock"
    folder = CACHE / f"build-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not (folder / "bin/python").exists():
        venv.create(folder, with_pip=True)
        pip = (str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--require-hashes", "-r", str(lock))
        run(*pip, "build==1.6.1")
    return folder / "bin/python"


def _plain(archive: Path) -> None:
    """Times, owners and order out of a source archive: two of one commit are equal."""
    seconds = int(epoch())
    with tarfile.open(archive) as content:
        items = [
            (item, content.extractfile(item).read() if item.isfile() else b"")  # type: ignore[union-attr]
            for item in sorted(content, key=lambda item: item.name)
        ]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as content:
        for item, data in items:
            item.mtime, item.uid, item.gid, item.uname, item.gname = seconds, 0, 0, "", ""
            item.pax_headers = {}
            content.addfile(item, io.BytesIO(data) if item.isfile() else None)
    with archive.open("wb") as file, gzip.GzipFile("", "wb", 9, file, seconds) as zipped:
        zipped.write(packed.getvalue())


# --- charts, bundle, manifests ---


def _helm() -> str:
    return os.environ.get("HELM") or str(Path(sys.executable).parent / "helm")


def charts() -> None:
    """Both charts, packaged; times and owners are those of every archive here."""
    for chart in CHARTS:
        folder = str(REPO / "deploy/charts" / chart)
        run(_helm(), "package", folder, "--destination", str(DIST))
    for archive in DIST.glob("*.tgz"):
        _plain(archive)


def manifests(reference: str) -> None:
    """What needs no Helm: definitions, the system as the chart makes it, and OLM's files."""
    words = [str(REPO / "deploy/bundle/make.py"), str(DIST / "olm"), reference]
    run(sys.executable, *words)
    for name in ("admission-policies.yaml", "openshift-scc.yaml"):
        (DIST / "olm" / name).rename(DIST / name)
    repository, _, digest = reference.partition("@")
    values = f"image.repository={repository},image.digest={digest},powerConfig.create=false"
    place = ("--namespace", "power-manager")
    chart = str(REPO / "deploy/charts" / NAME)
    system = run(_helm(), "template", "kpm", chart, *place, "--no-hooks", "--set", values)
    namespace = (REPO / "deploy/base/namespace.yaml").read_text()
    write("install.yaml", f"{namespace}{system}")
    definitions = str(REPO / "deploy/charts" / CHARTS[0])
    write("definitions.yaml", run(_helm(), "template", "kpm-crds", definitions))


# --- images ---


def _engine(*words: str) -> str:
    return run(str(REPO / "deploy/image/engine"), "buildah", *words)


def archive_of(arch: str, version: str) -> Path:
    """Where an image's archive is."""
    return DIST / "images" / f"{NAME}-{version}-linux-{arch}.oci.tar"


def image(arch: str, version: str, registry: str) -> str:
    """Build an image and keep it as an archive, in which it has the name that charts ask for; its
    digest.
    """
    tag = f"localhost/{NAME}:{version}-{arch}"
    revision = run("git", "rev-parse", "HEAD").strip()
    # an image that is made of kept layers tells in its history which ones, and is never equal
    flags = ["--timestamp", epoch(), "--layers=false", *_authority()]
    options = [f"IMG={tag}", f"PLATFORM=linux/{arch}", f"REVISION={revision}", "IMGTOOL=buildah"]
    run("make", "images", *options, f"BUILD_FLAGS={' '.join(flags)}")
    archive = archive_of(arch, version)
    archive.parent.mkdir(exist_ok=True)
    digest, name = archive.with_suffix(".digest"), f"{registry}/{NAME}:{version}"
    _engine("push", "--quiet", "--digestfile", str(digest), tag, f"oci-archive:{archive}:{name}")
    found = digest.read_text().strip()
    digest.unlink()
    return found


def bundle(version: str, registry: str) -> None:
    """The OLM bundle as an image, which a catalog names; there is nothing in it to run."""
    folder, name = DIST / "olm/bundle", f"{NAME}-bundle:v{version}"
    archive = DIST / "images" / f"{NAME}-bundle-{version}.oci.tar"
    file = ("-f", str(folder / "bundle.Containerfile"))
    archive.parent.mkdir(exist_ok=True)
    fixed = ("--timestamp", epoch(), "--layers=false", "--platform", PLATFORM_OF_BUNDLE)
    _engine("build", *fixed, *file, "-t", f"localhost/{name}", str(folder))
    _engine("push", "--quiet", f"localhost/{name}", f"oci-archive:{archive}:{registry}/{name}")


def _authority() -> list[str]:
    """Where this machine's way out has an authority of its own, the build needs to know it too."""
    given = os.environ.get("SSL_CERT_FILE")
    return ["-v", f"{given}:/etc/ssl/certs/ca-certificates.crt:ro"] if given else []


def materials(arch: str, version: str, digest: str) -> None:
    """What the image of a digest is made of, in both notations that are in use."""
    archive, folder = archive_of(arch, version), DIST / "sbom"
    folder.mkdir(exist_ok=True)
    name = archive.name.removesuffix(".oci.tar")
    outputs = [f"cyclonedx-json={folder}/{name}.cdx.json", f"spdx-json={folder}/{name}.spdx.json"]
    options = [word for output in outputs for word in ("-o", output)]
    named = ("--source-name", NAME, "--source-version", version)
    run(go_tool(*SYFT), "scan", "-q", f"oci-archive:{archive}", *named, *options)
    for path in sorted(folder.glob(f"{name}.*.json")):
        found = json.loads(path.read_text())
        _without_chance(found, digest)
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def _without_chance(found: dict[str, Any], digest: str) -> None:
    """Give a bill of materials the time of the commit, and a name out of what it is about instead
    of a random one: two of one image are equal.
    """
    made = datetime.fromtimestamp(int(epoch()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    name = uuid.uuid5(uuid.NAMESPACE_OID, digest)
    if "serialNumber" in found:  # CycloneDX
        found["serialNumber"] = name.urn
        found["metadata"]["timestamp"] = made
    else:  # SPDX
        place = found["documentNamespace"]
        found["documentNamespace"] = f"{place[: -len(str(name))]}{name}"
        found["creationInfo"]["created"] = made


def go_tool(module: str, package: str, version: str) -> str:
    """A command of a Go module, built where it is not yet."""
    name = package.rpartition("/")[2]
    folder = Path.home() / ".cache" / "kpm-tools" / f"{name}-{version}"
    if not (folder / name).exists():
        run("go", "install", f"{module}/{package}@{version}", GOBIN=str(folder), CGO_ENABLED="0")
    return str(folder / name)


# --- checksums and a signature ---


def sums() -> None:
    """SHA-256 of every file."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(DIST)}\n"
        for path in sorted(DIST.rglob("*"))
        if path.is_file()
    ]
    write("SHA256SUMS", "".join(lines))


def sign(key: str) -> None:
    """Sign the checksums with a key of one's own: no service is asked, nothing is logged."""
    bundle = str(DIST / "SHA256SUMS.sigstore.json")
    offline = ("--use-signing-config=false", "--tlog-upload=false", "--bundle", bundle, "--yes")
    run(go_tool(*COSIGN), "sign-blob", "--key", key, *offline, str(DIST / "SHA256SUMS"))


def airgap(version: str) -> None:
    """One archive of what is installed where there is no network: images, charts, manifests, pages,
    and their checksums.
    """
    names = [path for path in sorted(DIST.rglob("*")) if path.is_file()]
    pages = [path for path in sorted((REPO / "docs").rglob("*.md")) if path.is_file()]
    with tarfile.open(DIST / f"{NAME}-{version}-airgap.tar", "w") as content:
        for path in names:
            content.add(path, str(path.relative_to(DIST)), filter=_anonymous)
        for path in [*pages, *sorted((REPO / "examples").glob("*.yaml"))]:
            content.add(path, str(path.relative_to(REPO)), filter=_anonymous)


def _anonymous(item: tarfile.TarInfo) -> tarfile.TarInfo:
    """A file of an archive without owner or time of its own."""
    item.mtime, item.uid, item.gid, item.uname, item.gname = int(epoch()), 0, 0, "", ""
    return item


if __name__ == "__main__":
    main()
