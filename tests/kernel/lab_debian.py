"""What the lab takes from Debian: tools on this machine, a kernel per architecture, and a small
arm64 root.

Kernels and root are fetched by apt, from the mirror that this machine itself uses, into package
lists of their own; apt checks their signatures. Nothing of them is installed here: they are
unpacked into the cache (`KPM_LAB_CACHE`, else ~/.cache/kpm-kernel-lab).
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.lab_machine import Arch, LabError

TOOLS = ("qemu-system-x86", "qemu-system-arm", "qemu-efi-aarch64", "acpica-tools", "busybox-static")
ARM_ROOT_PACKAGES = ("python3", "busybox-static")
KERNEL_SUITE = "trixie"  # Linux 6.12
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
USUAL_MIRROR = "http://deb.debian.org/debian"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in the cache: its image, its folder of modules and its version."""

    image: Path
    modules: Path
    version: str


def cache() -> Path:
    """Return the folder that keeps what was fetched."""
    return Path(os.environ.get("KPM_LAB_CACHE") or Path.home() / ".cache" / "kpm-kernel-lab")


def prepare() -> None:
    """Install the tools and fetch kernels and root where they are missing.

    A second call does nothing.

    Errors:   LabError when a tool is missing and we are not root, or apt fails.
    """
    with _only_one():
        _install_tools()
        for arch in Arch:
            if not _kernels(arch):
                _fetch_kernel(arch)
        if not _arm_root_is_there():
            _fetch_arm_root()


def kernel(arch: Arch) -> Kernel:
    """Return the cached kernel of an architecture. LabError where `prepare` has not run."""
    images = _kernels(arch)
    if not images:
        raise LabError(
            f"no {arch.value} kernel in {cache()}: run `{sys.executable}"
            f" {Path(__file__).with_name('lab.py')} --prepare` as root"
        )
    version = images[0].name.removeprefix("vmlinuz-")
    return Kernel(images[0], images[0].parent / "modules", version)


def arm_root() -> Path:
    """Return the folder that is the arm64 machine's root. LabError where `prepare` has not run."""
    if not _arm_root_is_there():
        raise LabError(
            f"no arm64 root in {cache()}: run `{sys.executable}"
            f" {Path(__file__).with_name('lab.py')} --prepare` as root"
        )
    return cache() / "arm64-root"


def _kernels(arch: Arch) -> list[Path]:
    return sorted((cache() / f"kernel-{arch.value}").glob("vmlinuz-*"))


def _arm_root_is_there() -> bool:
    return (cache() / "arm64-root" / "usr/bin/python3").exists()


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Let one preparation at a time work on the cache."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install_tools() -> None:
    missing = [name for name in TOOLS if not _is_installed(name)]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise LabError(f"packages are missing; as root: {' '.join(command)}")
    _run(["apt-get", "update"])
    _run(command)


def _is_installed(package: str) -> bool:
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}", package]
    return subprocess.run(query, text=True, capture_output=True, check=False).stdout.startswith(
        "ii"
    )


def _fetch_kernel(arch: Arch) -> None:
    """Fetch the newest kernel of the suite and keep its image and modules."""
    with _scratch() as scratch:
        apt = _private_apt(scratch, KERNEL_SUITE, arch)
        depends = _run(["apt-cache", *apt, "depends", f"linux-image-{arch.value}"])
        package = re.search(r"Depends: (linux-image-\d\S*)", depends)
        if package is None:
            raise LabError(f"{KERNEL_SUITE} names no {arch.value} kernel: {depends.strip()}")
        _run(["apt-get", *apt, "download", package[1]], cwd=scratch)
        _run(
            ["dpkg", "-x", str(next(scratch.glob("linux-image-*.deb"))), str(scratch / "unpacked")]
        )
        image = next(scratch.glob("unpacked/boot/vmlinuz-*"))
        version = image.name.removeprefix("vmlinuz-")
        modules = next(
            path
            for path in (
                scratch / "unpacked/usr/lib/modules" / version,
                scratch / "unpacked/lib/modules" / version,
            )
            if path.is_dir()
        )
        shutil.move(modules, scratch / "ready/modules")
        shutil.move(image, scratch / "ready" / image.name)
        _put(scratch / "ready", cache() / f"kernel-{arch.value}")


def _fetch_arm_root() -> None:
    """Fetch Python and busybox with what they need, of this machine's own suite, and unpack them;
    nothing is configured.

    The suite is this machine's so that the Python inside is the Python outside, and pure packages
    of a virtual environment can be shared.
    """
    with _scratch() as scratch:
        apt = _private_apt(scratch, _own_suite(), Arch.ARM64)
        _run(
            [
                "apt-get",
                *apt,
                "install",
                "-y",
                "--download-only",
                "--no-install-recommends",
                *ARM_ROOT_PACKAGES,
            ]
        )
        root = scratch / "root"
        for package in sorted((scratch / "cache/archives").glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(root)])
        _lay_out(root)
        own_library = root / f"usr/lib/python3.{sys.version_info.minor}"
        if own_library.is_dir():  # compiling under emulation would cost seconds on every boot
            compileall.compile_dir(own_library, stripdir=str(root), prependdir="/", quiet=2)
        _put(root, cache() / "arm64-root")


def _lay_out(root: Path) -> None:
    """Make what no package brings: mount points, a shell, and /bin, /lib and /sbin as parts of
    /usr, as every Debian has them.
    """
    for name in ("dev", "host", "proc", "run", "sys", "tmp"):
        (root / name).mkdir(exist_ok=True)
    for name in ("bin", "lib", "sbin"):
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)
        (root / name).symlink_to(f"usr/{name}")
    (root / "bin/sh").symlink_to("busybox")


def _own_suite() -> str:
    """Return the Debian suite that this machine runs."""
    found = re.search(
        r"^VERSION_CODENAME=(\w+)$",
        Path("/etc/os-release").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    if found is None:
        raise LabError("/etc/os-release names no VERSION_CODENAME: the lab needs a Debian host")
    return found[1]


def _private_apt(home: Path, suite: str, arch: Arch) -> list[str]:
    """Return options that let apt see one suite of one architecture and nothing of this machine,
    its lists freshly fetched.
    """
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True)
    source = (
        f"Types: deb\nURIs: {_mirror()}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n"
    )
    (home / "lab.sources").write_text(source, encoding="ascii")
    (home / "status").touch()
    settings = {
        "Dir::Etc::SourceList": home / "lab.sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
        "APT::Sandbox::User": "root",
        "APT::Architecture": arch.value,
        "APT::Architectures": arch.value,
        "Acquire::Languages": "none",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    _run(["apt-get", *options, "update"])
    return options


def _mirror() -> str:
    """Return the Debian mirror in this machine's own apt configuration."""
    addresses = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    ).split()
    return next(
        (address for address in addresses if address.rstrip("/").endswith("/debian")), USUAL_MIRROR
    )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Give an empty folder on the cache's own file system, so that a finished result can be moved
    in one step.
    """
    folder = cache() / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "ready").mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(finished: Path, place: Path) -> None:
    """Move a finished folder to its place, so that the cache never shows half of one."""
    shutil.rmtree(place, ignore_errors=True)
    finished.rename(place)


def _run(command: list[str], cwd: Path | None = None) -> str:
    """Run a command and return its output. LabError with the end of what it said when it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, text=True, capture_output=True, check=False, cwd=cwd, env=environment
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-1500:].strip()
        raise LabError(
            f"`{command[0]} {' '.join(word for word in command[1:] if not word.startswith('-o'))}`"
            f" failed: {said}"
        )
    return done.stdout
