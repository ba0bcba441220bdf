"""The files of a kernel model as a real tree in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

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
