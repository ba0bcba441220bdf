"""The whole: one control plane and one node, and what a person types at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import cgroups, images, pki
from tests.cluster import tree as node_tree
from tests.cluster.network import ADDRESS, Network
from tests.cluster.node import Node
from tests.cluster.plane import Plane
from tests.cluster.steps import CACHE, REPO, packages, wait_for

NODE = "node-1"
NAMESPACE = "power-manager"
AGENT = ["-n", NAMESPACE, "-l", "app.kubernetes.io/name=power-node-agent"]
_PREFIX = "kpm-"
LABEL = "feature.node.kubernetes.io/power-node"


@dataclass
class Cluster:
    """Made in a folder of its own below the cache, which must not be on an overlay."""

    folder: Path
    bin: Path
    key_usage: bool = False
    network: Network = field(init=False)
    tree: node_tree.Tree = field(init=False)

    def __post_init__(self) -> None:
        self.network = Network(self.folder.name)
        self.plane = Plane(self.folder / "plane", self.bin, self.folder / "pki", self.network)

    def start(self) -> None:
        """Until the node is Ready."""
        packages(("ip", "nsenter", "setpriv"), ("iproute2", "util-linux"))
        pki.make(self.folder / "pki", ADDRESS, NODE, key_usage=self.key_usage)
        self.tree = node_tree.make(self.folder)
        self.before = self.tree.content()
        self.node = Node(NODE, self.folder / "node", self.network, self.tree.folder)
        self.node.make(self.bin, self.folder / "pki")
        self.network.make()
        self.plane.start()
        self._kubectl_script()
        self.node.start()
        self.node.import_image(images.busybox(self.folder))
        self.node.import_image(images.product())
        wait_for("the node is Ready", self.node_ready, 120, 0.5)

    def stop(self) -> None:
        """End everything, whatever of it there is."""
        try:
            if hasattr(self, "node"):
                self.node.stop()
        finally:
            self.plane.stop()
            self.network.remove()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what a person types ---

    def _kubectl_script(self) -> None:
        """kubectl for `make install deploy KUBECTL=…`."""
        self.kubectl_path = self.folder / "kubectl"
        words = " ".join(
            [
                *self.network.words(),
                f"{self.bin}/kubectl",
                "--kubeconfig",
                f"{self.folder}/pki/admin.conf",
            ]
        )
        self.kubectl_path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        self.kubectl_path.chmod(0o755)

    def kubectl(
        self, *words: str, given: str = "", check: bool = True, seconds: float = 120
    ) -> str:
        command = [str(self.kubectl_path), *words]
        env = {**os.environ, "HOME": str(self.folder)}
        done = subprocess.run(
            command,
            check=False,
            input=given,
            capture_output=True,
            text=True,
            env=env,
            timeout=seconds,
        )
        assert done.returncode == 0 or not check, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def make(self, *words: str, image: str = f"{images.PRODUCT}:test") -> None:
        """make with this cluster's kubectl, in the repository."""
        command = [
            "make",
            "-s",
            "-C",
            str(REPO),
            *words,
            f"KUBECTL={self.kubectl_path}",
            f"IMG={image}",
        ]
        env = {**os.environ, "HOME": str(self.folder)}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stdout + done.stderr

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl(
            "apply", "-f", "-", given="---\n".join(yaml.safe_dump(item) for item in documents)
        )

    def get(self, *words: str) -> Any:
        """An object or a list; None where there is none."""
        said = self.kubectl("get", *words, "-o", "json", check=False)
        return json.loads(said) if said.startswith("{") else None

    # --- what is so ---

    def node_ready(self) -> bool:
        return self.condition(self.get("node", NODE), "Ready") == "True"

    @staticmethod
    def condition(item: dict[str, Any] | None, kind: str) -> str:
        found = ((item or {}).get("status") or {}).get("conditions") or ()
        return next((str(one["status"]) for one in found if one["type"] == kind), "")

    def state(self) -> dict[str, Any]:
        """The status of the node's PowerNodeState."""
        return (self.get("powernodestate", f"{NODE}-power-state", "-n", NAMESPACE) or {}).get(
            "status"
        ) or {}

    def settled(self) -> bool:
        return any(
            (one["type"], one["reason"]) == ("Ready", "Settled")
            for one in self.state().get("conditions") or ()
        )

    def agents(self) -> list[dict[str, Any]]:
        """The agents' pods that are not being deleted, oldest first."""
        items = (self.get("pods", *AGENT) or {}).get("items") or []
        alive = [item for item in items if "deletionTimestamp" not in item["metadata"]]
        return sorted(alive, key=lambda item: item["metadata"]["creationTimestamp"])

    def agent(self) -> str:
        """The name of the agent that is Ready, or nothing."""
        return next(
            (
                item["metadata"]["name"]
                for item in self.agents()
                if self.condition(item, "Ready") == "True"
            ),
            "",
        )

    def agent_container(self, pod: dict[str, Any], name: str = "agent") -> dict[str, Any]:
        """The status of one of its containers, by name; empty where there is none yet."""
        status = pod.get("status") or {}
        every = [
            *(status.get("containerStatuses") or ()),
            *(status.get("initContainerStatuses") or ()),
        ]
        return next((item for item in every if item["name"] == name), {})

    def pod_gone(self, name: str, namespace: str = "default") -> bool:
        return self.get("pod", name, "-n", namespace) is None

    def say(self) -> str:
        """What helps to understand a failure."""
        parts = [self.kubectl("get", "pods", "-A", "-o", "wide", check=False)]
        parts += [self.kubectl("describe", "pods", *AGENT, check=False)[-3000:]]
        for words in (
            (*AGENT, "-c", "agent"),
            (*AGENT, "-c", "agent", "--previous"),
            ("-n", NAMESPACE, "deploy/controller-manager"),
        ):
            parts += [
                f"--- logs {' '.join(words)}",
                self.kubectl("logs", "--tail=40", *words, check=False),
            ]
        parts += [
            "--- kubelet",
            "\n".join(self.node.log("kubelet").read_text(errors="replace").splitlines()[-30:]),
        ]
        return "\n".join(parts)


def new_folder() -> Path:
    """Its name is the cluster's own in namespaces and cgroups; it begins with the number of the
    process that made it.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{_PREFIX}*-*"):
        if not Path("/proc", old.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            _sweep(old)
    folder = CACHE / f"{_PREFIX}{os.getpid()}-{time.time_ns() % 10**6}"
    folder.mkdir()
    return folder


def _sweep(folder: Path) -> None:
    """What tests left that were killed: their processes have gone with them, a namespace and
    cgroups have not.
    """
    cgroups.remove(folder.name)
    Network(folder.name).remove()
    shutil.rmtree(folder, ignore_errors=True)
