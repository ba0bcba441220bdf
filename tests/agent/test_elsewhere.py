"""Where the kubelet names no CPUs: cgroup trees as runtimes lay them out, read when it is time to.

The layouts are those of version 2, of version 1, and of version 2 beside version 1, where the
cpuset controller is in the old tree.
"""

import os
from pathlib import Path

import pytest
from attrs import define, evolve

from kpm.agent.elsewhere import GRACE, Elsewhere, Told
from kpm.agent.kubelet import Kubelet, Sockets
from kpm.process.logs import make_log
from kpm_planner.model.allocation import ContainerCpus, RuntimeCpus
from kpm_planner.model.cluster import Container, Meta, Pod
from kpm_planner.ownership import resolve_ownership

FAST = "power.openshift.io/fast"
A, B, PAUSE = "a" * 64, "b" * 64, "c" * 64
UID = "0a1b2c3d-0000-4000-8000-00000000000"


def pod(name: str, number: int, identity: str, *, claims: bool = True, asks: bool = True) -> Pod:
    """A Guaranteed pod of two CPUs."""
    resources = ((FAST, 2),) if asks else ()
    app = Container("app", (2, 2), (1, 1), resources, claims=claims, id=f"containerd://{identity}")
    return Pod(Meta(name, "default", uid=f"{UID}{number}"), (app,), "n", "Running", guaranteed=True)


WEB, OTHER = pod("web", 1, A), pod("other", 2, B, claims=False, asks=False)
KEY = ("default", "web", "app")


@define
class Tree:
    """A cgroup file system. base: of the cpuset tree; name: of the file with the CPUs."""

    root: Path
    base: str
    name: str

    def put(self, number: int, identity: str, cpus: str) -> Path:
        """A container's cgroup."""
        slice_ = f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}{number}.slice"
        folder = self.root / self.base / slice_ / f"cri-containerd-{identity}.scope"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.name).write_text(f"{cpus}\n")
        return folder / self.name


@pytest.fixture(params=["version 2", "version 1", "both"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Tree:
    """An empty tree of each layout."""
    root = tmp_path / "cgroup"
    made = (
        Tree(root, "", "cpuset.cpus.effective")
        if request.param == "version 2"
        else Tree(root, "cpuset", "cpuset.effective_cpus")
    )
    (root / made.base).mkdir(parents=True)
    if request.param == "version 2":
        (root / "cgroup.controllers").write_text("cpuset cpu memory\n")
    else:
        (root / "cpuset" / "cpuset.cpus").write_text("0-7\n")
    if request.param == "both":
        (root / "unified").mkdir()
        (root / "unified" / "cgroup.controllers").write_text("memory\n")
    return made


@pytest.fixture
def files(tree: Tree, tmp_path: Path) -> Elsewhere:
    """What reads it."""
    return Elsewhere(str(tree.root), str(tmp_path / "cdi"), make_log("test", "error"))


def after_a_while(files: Elsewhere, *pods: Pod) -> Told:
    """What is seen once the kubelet has had its time."""
    files.look(pods, (), {KEY}, 0.0)
    return files.look(pods, (), {KEY}, GRACE)


def test_every_container_of_a_pod_is_seen_with_what_it_is_bound_to(
    tree: Tree, files: Elsewhere
) -> None:
    tree.put(1, A, "2-3")
    tree.put(2, B, "0-1,4-7")
    assert after_a_while(files, WEB, OTHER).cpusets == (
        RuntimeCpus(f"{UID}1", "app", (2, 3), A),
        RuntimeCpus(f"{UID}2", "app", (0, 1, 4, 5, 6, 7), B),
    )


def test_a_sandbox_is_nobody(tree: Tree, files: Elsewhere) -> None:
    """The container that holds a pod's namespaces is bound to nothing, and would share everybody's
    CPUs.
    """
    tree.put(1, A, "2-3")
    tree.put(1, PAUSE, "0-7")
    assert after_a_while(files, WEB).cpusets == (RuntimeCpus(f"{UID}1", "app", (2, 3), A),)


def test_cpus_that_are_moved_are_seen_at_the_next_look(tree: Tree, files: Elsewhere) -> None:
    """A driver may move a claim while it runs."""
    tree.put(1, A, "2-3")
    after_a_while(files, WEB)
    tree.put(1, A, "4-5")
    (entry,) = files.look((WEB,), (), {KEY}, 5.0).cpusets
    assert entry.cpus == (4, 5)


def test_who_is_gone_is_nobody_and_who_comes_is_seen(tree: Tree, files: Elsewhere) -> None:
    gone = tree.put(1, A, "2-3")
    after_a_while(files, WEB)
    gone.unlink()
    os.rmdir(gone.parent)
    tree.put(2, B, "0-7")
    files.look((WEB, OTHER), (), {KEY}, 6.0)
    (entry,) = files.look((WEB, OTHER), (), {KEY}, 7.0).cpusets
    assert entry.id == B


@pytest.mark.parametrize("text", ["", "all", "3-1", "-"])
def test_one_that_cannot_be_read_makes_all_unknown(tree: Tree, files: Elsewhere, text: str) -> None:
    """Who is not known to be elsewhere may be here: then nobody is known to be alone."""
    tree.put(1, A, "2-3")
    tree.put(2, B, text)
    assert after_a_while(files, WEB, OTHER) == Told()


def test_one_whose_read_fails_makes_all_unknown(tree: Tree, files: Elsewhere) -> None:
    tree.put(1, A, "2-3")
    file = tree.put(2, B, "0-1")
    file.unlink()
    file.mkdir()  # EISDIR
    assert after_a_while(files, WEB, OTHER) == Told()


def test_a_node_without_a_tree_has_none(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        assert after_a_while(Elsewhere(str(folder), "", make_log("test", "error")), WEB) == Told()


class Node:
    """A kubelet that lists the container without CPUs, and files that know better."""

    def __init__(self, files: Elsewhere) -> None:
        self.now, self.made, self.answer = 0.0, 0, (ContainerCpus("default", "web", "app"),)
        self.kubelet = Kubelet(
            Sockets("/kubelet.sock"), lambda _path: self.answer, lambda _path: frozenset({1, 2, 3}),
            lambda: self.now, lambda: self._make(files),
        )  # fmt: skip

    def _make(self, files: Elsewhere) -> Elsewhere:
        self.made += 1
        return files

    def owned(self, *pods: Pod) -> dict[str, set[int]]:
        """Who owns what after the next look."""
        found = resolve_ownership(self.kubelet.look(pods, ()))
        return {owner.ref.pod: set(owner.cpus) for owner in found.owners}


def test_the_kubelet_has_its_time_then_the_files_speak(tree: Tree, files: Elsewhere) -> None:
    tree.put(1, A, "2-3")
    tree.put(2, B, "0-1")
    node = Node(files)
    assert (node.owned(WEB, OTHER), node.kubelet.waiting) == ({}, True)
    node.now = GRACE
    assert (node.owned(WEB, OTHER), node.kubelet.waiting) == ({"web": {2, 3}}, False)


def test_a_claim_without_a_profile_is_looked_at_soon_too(tree: Tree, files: Elsewhere) -> None:
    """Nobody waits for it to be tuned, but the shared pool has its CPUs meanwhile."""
    tree.put(1, A, "2-3")
    node = Node(files)
    bare = pod("web", 1, A, asks=False)
    assert (node.owned(bare), node.kubelet.waiting) == ({}, True)
    node.now = GRACE
    assert (node.owned(bare), node.kubelet.waiting) == ({"web": {2, 3}}, False)


def test_nothing_is_read_while_the_kubelet_knows_everybody(tree: Tree, files: Elsewhere) -> None:
    node = Node(files)
    node.answer = (ContainerCpus("default", "web", "app", frozenset({2, 3})),)
    for node.now in (0.0, 10.0):
        node.owned(WEB, evolve(OTHER, phase="Running"))
    assert node.made == 0
