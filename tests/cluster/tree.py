"""The CPUs' part of /sys as plain files: made of the project's kernel model, watched, compared.

The folder is mounted at /sys/devices/system/cpu of the node, so the agent's pod mounts it as it
mounts the real one. What the kubelet reads there beside (caches, topology) is copied from this
machine. Plain files keep whatever is written: that the kernel's drivers answer as they do is for
the kernel lab (tests/kernel) to try.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kpm.request.machines import IdleStateSpec, MachineSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from tests.cluster.steps import run
from tests.trees import write_tree

_HERE = Path("/sys/devices/system/cpu")
_MIN_MHZ, _MAX_MHZ = 400, 3700
_STATES = (IdleStateSpec("POLL", 0), IdleStateSpec("C1", 1), IdleStateSpec("C2", 100))
_IN_MODIFY = 0x2
_EVENT = struct.Struct("iIII")


def make(folder: Path) -> Tree:
    """The tree of a machine with as many CPUs as this one."""
    cores = os.cpu_count() or 1
    spec = MachineSpec(
        cores=cores,
        driver="amd-pstate-epp",
        epp="balance_performance",
        min_mhz=_MIN_MHZ,
        max_mhz=_MAX_MHZ,
        idle_driver="acpi_idle",
        idle_states=_STATES,
    )
    model = folder / "model"
    write_tree(KernelModel(build_machine(spec)), model)
    tree = folder / "cpu"
    shutil.move(model / "sys/devices/system/cpu", tree)
    # Files of sysfs say that they have 4096 bytes and give fewer, or refuse: cp takes what it gets.
    run("cp", "--recursive", "--no-clobber", "--no-dereference", f"{_HERE}/.", tree, check=False)
    shutil.rmtree(model)
    return Tree(tree)


@dataclass(frozen=True)
class Written:
    """One write that was seen. at: seconds since the epoch."""

    at: float
    path: str


@dataclass
class Tree:
    """The folder. Frequencies are in kHz, as the kernel has them."""

    folder: Path
    lowest: int = _MIN_MHZ * 1000
    highest: int = _MAX_MHZ * 1000

    def read(self, cpu: int, name: str) -> str:
        return (self.folder / f"cpufreq/policy{cpu}" / name).read_text().strip()

    def limits(self, cpu: int) -> tuple[int, int, str, str]:
        """Lowest and highest frequency, governor, EPP."""
        low, high = int(self.read(cpu, "scaling_min_freq")), int(self.read(cpu, "scaling_max_freq"))
        return (
            low,
            high,
            self.read(cpu, "scaling_governor"),
            self.read(cpu, "energy_performance_preference"),
        )

    def content(self) -> dict[str, bytes]:
        """Every file, byte for byte."""
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in self._files()}

    def _files(self) -> list[Path]:
        return [
            path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        ]

    @contextmanager
    def watched(self) -> Iterator[list[Written]]:
        """All writes while the block runs, whoever makes them and from whichever mount."""
        watch = _Watch([path for path in self._files() if os.access(path, os.W_OK)], self.folder)
        try:
            yield watch.seen
        finally:
            watch.close()


@dataclass
class _Watch:
    """inotify on every file: a write of the same text counts as well, and so does one by a
    container.
    """

    files: list[Path]
    folder: Path
    seen: list[Written] = field(default_factory=list)

    def __post_init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self._handle >= 0
        self._names = {}
        for path in self.files:
            number = libc.inotify_add_watch(self._handle, str(path).encode(), _IN_MODIFY)
            assert number >= 0, path
            self._names[number] = str(path.relative_to(self.folder))
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        os.close(self._handle)

    def _read(self) -> None:
        while True:
            last = self._ends.is_set()  # what came before the end still counts
            ready, _, _ = select.select([self._handle], [], [], 0 if last else 0.05)
            now = time.time()
            if not ready:
                if last:
                    return
                continue
            data = os.read(self._handle, 1 << 16)
            while data:
                number, _, _, length = _EVENT.unpack_from(data)
                data = data[_EVENT.size + length :]
                self.seen.append(Written(now, self._names[number]))
