"""The images of the cluster: the product's, built as README says, and one with busybox for
everything else.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
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
PYTHON = "/opt/kpm/bin/python"
_OURS = ("kpm", "kpm_planner", "kpm_applier")
#: Every module of ours, less those that run something when they are imported.
IMPORT_ALL = f"""
import importlib, pkgutil
for name in {_OURS}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""
#: Commands that pods of the product run, and as whom.
COMMANDS = (("agent", 0), ("helper", 0), ("operator", 65532), ("scaler", 0), ("energy", 65532))
_FOLDERS = ("deploy/image", *_OURS)


def product(tag: str = "test", arch: str | None = None) -> Path:
    """The archive of the image that `make images` builds of these sources; built where it is not
    yet. arch: another machine's, by emulation and in a store of its own, since base images of one
    name replace each other.
    """
    kind = "image" if arch in (None, architecture()) else f"image-for-{arch}"
    with only_once(kind) as cache:
        archive = cache / f"{kind}-{_mark()}.tar"
        if not archive.exists():
            with _store_of(arch):
                _build(tag, arch or architecture(), cache / f"{kind}.new")
            for old in cache.glob(f"{kind}-{'[0-9a-f]' * 16}.tar"):
                old.unlink()
            (cache / f"{kind}.new").rename(archive)
    return archive


def _build(tag: str, arch: str, archive: Path) -> None:
    words = [
        f"IMG={PRODUCT}:{tag}",
        f"BUILD_FLAGS={_flags()}",
        "IMGTOOL=buildah",
        f"PLATFORM=linux/{arch}",
    ]
    subprocess.run(niced("make", "images", *words), cwd=REPO, check=True)
    archive.unlink(missing_ok=True)
    buildah("push", "--quiet", f"{PRODUCT}:{tag}", f"docker-archive:{archive}:{PRODUCT}:{tag}")


@contextmanager
def _store_of(arch: str | None) -> Iterator[None]:
    """Build for an architecture in its own store."""
    before = os.environ.get("KPM_IMAGES")
    if arch not in (None, architecture()):
        os.environ["KPM_IMAGES"] = f"{_store()}-{arch}"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("KPM_IMAGES", None)
        else:
            os.environ["KPM_IMAGES"] = before


def _store() -> Path:
    return Path(os.environ.get("KPM_IMAGES", Path.home() / ".cache" / "kpm-images"))


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
    store = _store()
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


@contextmanager
def mounted(archive: Path, folder: Path) -> Iterator[Path]:
    """An image unpacked into a folder, and mounted as the manifests ask: read-only but for /tmp."""
    unpacked = unpack(archive, folder)
    subprocess.run(["mount", "--bind", "-o", "ro", unpacked, unpacked], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", unpacked / "tmp"], check=True)
    try:
        yield unpacked
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", unpacked], check=True)


def inside(
    root: Path, *words: str, user: int = 65532, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command in the image, as the operator's user or the agent's, which is 0."""
    # The image has no tool to change the user with but Python itself.
    change = f"os.setgroups([]); os.setgid({user}); os.setuid({user})"
    give_up = f"import os, sys; {change}; os.execv(sys.argv[1], sys.argv[1:])"
    command = ["unshare", "--mount", f"--root={root}", "--wd=/", PYTHON, "-c", give_up, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)


def sources() -> list[Path]:
    """Our modules, of which an image should have nearly all."""
    return [path for name in _OURS for path in (REPO / name).rglob("*.py")]


def archive_size(archive: Path) -> int:
    """Compressed, as each layer is in a registry."""
    size = 0
    with tarfile.open(archive) as content:
        for item in content:
            data = content.extractfile(item) if item.isfile() else None
            size += len(gzip.compress(data.read(), 6)) if data else 0
    return size


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
