"""Commands on the emulated node, over one connection of ssh that is kept.

Each handshake costs the emulator seconds.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.processes import Processes
from tests.cluster.steps import run, wait_for
from tests.cluster_vm.vm_network import NODE_ADDRESS, VmNetwork

_BOOT_SECONDS = 600


@dataclass
class Link:
    """folder: for its key and its socket."""

    folder: Path
    network: VmNetwork
    processes: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.processes = Processes(self.folder)
        self.key, self.socket = self.folder / "key", self.folder / "s"

    def make_key(self) -> bytes:
        """The public half, which the node must know."""
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        return (self.folder / "key.pub").read_bytes()

    def open(self) -> None:
        """Wait until the node lets us in; also after it was switched off."""
        self.close()
        wait_for("the node answers to ssh", self._opened, _BOOT_SECONDS, 0.5)

    def _opened(self) -> bool:
        if "ssh" not in self.processes.running or self.processes.running["ssh"].poll() is not None:
            self.processes.start("ssh", self._words("-M", "-N", "-o", "ConnectTimeout=60"))
        return self.is_open()

    def is_open(self) -> bool:
        return self.socket.exists()

    def close(self) -> None:
        self.processes.stop_all()
        self.socket.unlink(missing_ok=True)

    def run(self, script: str, *, check: bool = True, seconds: float = 120) -> str:
        """What a script of the shell prints on the node. AssertionError where it fails."""
        command = [*self._words("-o", "ControlMaster=no"), "sh", "-s"]
        done = subprocess.run(
            command, input=script.encode(), capture_output=True, check=False, timeout=seconds
        )
        said, complaint = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        assert done.returncode == 0 or not check, f"{script}\n{done.returncode} {said}{complaint}"
        return said

    def _words(self, *words: str) -> list[str]:
        settings = {
            "ControlPath": self.socket,
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "20",
            "ServerAliveCountMax": "6",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return [
            *self.network.words(),
            "ssh",
            "-i",
            str(self.key),
            *options,
            *words,
            f"root@{NODE_ADDRESS}",
        ]
