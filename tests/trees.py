"""Real trees in a folder: the files of a kernel model, and dumps of machines."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection
from pathlib import Path
from unittest import mock

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.tree import SysfsHost


def write_tree(model: KernelModel, folder: Path) -> SysfsHost:
    """The files of a model as a real tree, on a memory file system."""
    paths: list[str] = []
    original = KernelModel.read

    def read(self: KernelModel, path: str) -> bytes:
        data = original(self, path)
        paths.append(path)
        return data

    with mock.patch.object(KernelModel, "read", read):
        applier = Applier(model, StateStore(str(folder / "none"), "/none", live=False))
        applier.discover()
        applier.changed()
    for path in dict.fromkeys(paths):
        file = f"{folder}/sys/{path}"
        if not os.path.isdir(os.path.dirname(file)):
            os.makedirs(os.path.dirname(file))
        with open(file, "wb") as out:
            out.write(original(model, path))
    return SysfsHost(str(folder / "sys"))


def unpack_dump(archive: Path, folder: Path, but: Collection[str] = ("cache", "power")) -> Path:
    """The CPU folder of an archive and its cpuinfo, links as they are, less what is in folders of
    these names; nothing outside of the folder. Returns its sys.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            target, parts = folder / member.name, Path(member.name).parts
            if (
                ".." in parts
                or Path(member.name).is_absolute()
                or not (f"/{CPU_ROOT}/" in member.name or member.name.endswith("proc/cpuinfo"))
                or set(but) & set(parts)
            ):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                target.mkdir(exist_ok=True)
            elif member.isfile():
                content = tar.extractfile(member)
                target.write_bytes(b"" if content is None else content.read())
            elif member.issym():
                target.symlink_to(member.linkname)
    return next(folder.glob("*/sys"))
