"""A network namespace of its own for control plane, node and pods: nothing of it can be reached
from outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster.steps import run

#: Of the namespace alone; one end of a cable carries it whose other end is here too.
ADDRESS = "10.77.0.1"


@dataclass(frozen=True)
class Network:
    """The namespace by its name."""

    name: str

    def make(self) -> None:
        run("ip", "netns", "add", self.name)
        for words in (
            "link set lo up",
            "link add outside type veth peer name other",
            f"addr add {ADDRESS}/24 dev outside",
            "link set outside up",
            "link set other up",
            f"route add default via {ADDRESS}",
        ):
            run("ip", "-n", self.name, *words.split())

    def remove(self) -> None:
        run("ip", "netns", "delete", self.name, check=False)

    def words(self) -> list[str]:
        """What runs a command in it."""
        return ["ip", "netns", "exec", self.name]
