"""A network namespace of its own: the control plane in it, and the emulated node at the other end
of a virtual cable.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster.network import ADDRESS, Network
from tests.cluster.steps import run

NODE_ADDRESS = "10.77.0.2"
CABLE = "node"


@dataclass(frozen=True)
class VmNetwork(Network):
    """The namespace by its name; QEMU plugs the node into CABLE."""

    def make(self) -> None:
        run("ip", "netns", "add", self.name)
        for words in (
            "link set lo up",
            f"tuntap add dev {CABLE} mode tap",
            f"addr add {ADDRESS}/24 dev {CABLE}",
            f"link set {CABLE} up",
        ):
            run("ip", "-n", self.name, *words.split())
