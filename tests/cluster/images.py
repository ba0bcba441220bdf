"""The images of the cluster: the product's, built as README says, and one with busybox for
everything else.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.cluster.steps import REPO, niced, only_once, packages

BUSYBOX = "localhost/busybox:1"
PRODUCT = "localhost/kubernetes-power-manager"
_SOURCES = (
    "Containerfile",
    "pyproject.toml",
    "requirements.lock",
    "requirements-build.lock",
    "README.md",
    "LICENSE",
)
_FOLDERS = ("deploy/image", "kpm", "kpm_planner", "kpm_applier")


def product(tag: str = "test") -> Path:
    """The archive of the image that `make images` builds of these sources; built where it is not
    yet.
    """
    with only_once("image") as cache:
        archive = cache / f"image-{_mark()}.tar"
        if not archive.exists():
            words = [
                f"IMG={PRODUCT}:{tag}",
                f"BUILD_FLAGS={_flags()}",
                "IMGTOOL=buildah",
                f"PLATFORM=linux/{architecture()}",
            ]
            subprocess.run(niced("make", "images", *words), cwd=REPO, check=True)
            new = cache / "image.new"
            new.unlink(missing_ok=True)
            buildah("push", "--quiet", f"{PRODUCT}:{tag}", f"docker-archive:{new}:{PRODUCT}:{tag}")
            for old in cache.glob("image-*.tar"):
                old.unlink()
            new.rename(archive)
    return archive


def architecture() -> str:
    """This machine's, by the word of images."""
    return {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def _flags() -> str:
    """Where this machine's way out has an authority of its own, the build needs to know it too."""
    given = os.environ.get("SSL_CERT_FILE")
    return f"-v {given}:/etc/ssl/certs/ca-certificates.crt:ro" if given else ""


def _mark() -> str:
    """Of all that the image is made of."""
    found = hashlib.sha256()
    folders = [
        path for name in _FOLDERS for path in sorted((REPO / name).rglob("*")) if path.is_file()
    ]
    for path in [*(REPO / name for name in _SOURCES), *folders]:
        if "__pycache__" not in path.parts:
            found.update(str(path.relative_to(REPO)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def buildah(*words: str) -> str:
    """buildah, on the store of `make images`."""
    store = Path(os.environ.get("KPM_IMAGES", Path.home() / ".cache" / "kpm-images"))
    settings = {
        "CONTAINERS_STORAGE_CONF": str(store / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
    }
    policy = ["--signature-policy", str(store / "policy.json")] if words[0] == "push" else []
    command = ["buildah", words[0], *policy, *words[1:]]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings}
    )
    return done.stdout.strip()


def unpack(archive: Path, folder: Path) -> Path:
    """The root folder of an image, layer over layer."""
    folder.mkdir()
    with tarfile.open(archive) as content:
        listed = content.extractfile("manifest.json")
        assert listed is not None
        (manifest,) = json.loads(listed.read())
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=content.extractfile(name)) as layer:
                _lay(layer, folder)
    return folder


def _lay(layer: tarfile.TarFile, folder: Path) -> None:
    """One layer; a file named .wh.X says that X is gone."""
    for item in layer:
        path = folder / item.name
        if path.name.startswith(".wh."):
            gone = path.with_name(path.name.removeprefix(".wh."))
            (
                shutil.rmtree(gone)
                if gone.is_dir() and not gone.is_symlink()
                else gone.unlink(missing_ok=True)
            )
        else:
            layer.extract(item, folder, filter="fully_trusted")


def busybox(folder: Path) -> Path:
    """An image of Debian's static busybox, as pods' sandbox and as their containers."""
    packages(("/bin/busybox",), ("busybox-static",))
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as content:
        for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
            item = tarfile.TarInfo(name)
            item.type, item.mode = tarfile.DIRTYPE, 0o755
            content.addfile(item)
        content.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep", "date", "cat", "grep", "echo"):
            item = tarfile.TarInfo(f"bin/{name}")
            item.type, item.linkname = tarfile.SYMTYPE, "busybox"
            content.addfile(item)
    data = layer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    config = json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "config": {"Cmd": ["/bin/sleep", "1000000000"], "Env": ["PATH=/bin"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [BUSYBOX], "Layers": ["layer.tar"]}]
    archive = folder / "busybox.tar"
    with tarfile.open(archive, "w") as content:
        for name, text in (
            ("layer.tar", data),
            ("config.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            item = tarfile.TarInfo(name)
            item.size = len(text)
            content.addfile(item, io.BytesIO(text))
    return archive
