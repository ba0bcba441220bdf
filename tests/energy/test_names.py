"""Who a container is: by its id, its pod, the one that it is in; static pods by both their uids,
and containers of all kinds (field report 58).
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from kpm.energy.containers import ContainerPath, container_of
from kpm.energy.names import Identity, Known, identify, known_containers
from kpm.formats.pods import structure_pod
from kpm_planner.energy.shares import Consumer
from kpm_planner.model.allocation import ContainerCpus, ContainerRef
from kpm_planner.model.assignment import Pool
from kpm_planner.model.target import Target
from kpm_planner.parts import CpuGroup

UID = "0a1b2c3d-0000-4000-8000-000000000001"
HASH = "d41d8cd98f00b204e9800998ecf8427e"
APP, SIDE, FIRST, DEBUG, SANDBOX, INNER, OTHER = (letter * 64 for letter in "abcdef1")
FAST = CpuGroup(
    (0, 1), Pool.EXCLUSIVE, "fast", ContainerRef("shop", "web", UID, "app", APP), Target(), ()
)
SLOW = CpuGroup((2, 3), Pool.SHARED, "slow", None, Target(), ())
BASE = Identity("", "", "shop", "web", UID, "", "shared", "slow")


def a_pod(*, annotations: dict[str, Any] | None = None, **kinds: dict[str, str]) -> dict[str, Any]:
    """A pod as the API has it. kinds: kind of containers → name → id."""
    spec: dict[str, Any] = {"nodeName": "n"}
    status: dict[str, Any] = {"phase": "Running"}
    for kind, containers in kinds.items():
        spec[f"{kind}ontainers"] = [
            {"name": name, "resources": {"requests": {"cpu": "1500m"}} if kind == "c" else {}}
            for name in containers
        ]
        status[f"{kind}ontainerStatuses"] = [
            {"name": name, "containerID": address, "state": {"running": {}}}
            for name, address in containers.items()
        ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "uid": UID, "annotations": annotations},
        "spec": spec,
        "status": status,
    }


def known(
    document: dict[str, Any], owned: frozenset[int] = frozenset()
) -> tuple[dict[str, Known], dict[str, Identity]]:
    """What the cluster says of a node with this pod, to whose container
    the kubelet has given CPUs.
    """
    reported = (ContainerCpus("shop", "web", "app", owned),) if owned else ()
    return known_containers((structure_pod(document),), reported, (FAST, SLOW))


def test_containers_have_the_names_of_their_pod() -> None:
    """Its own and its sidecar's, and what they ask for; the profile is that of the CPUs that one
    owns, else of all that are shared.
    """
    containers, pods = known(
        a_pod(c={"app": f"containerd://{APP}", "side": f"containerd://{SIDE}"}), frozenset({0, 1})
    )
    app = evolve(BASE, id=APP, runtime="containerd", name="app", pool="exclusive", profile="fast")
    assert containers == {
        APP: Known(app, Consumer(frozenset({0, 1}), 1500)),
        SIDE: Known(
            evolve(BASE, id=SIDE, runtime="containerd", name="side"), Consumer(frozenset(), 1500)
        ),
    }
    assert pods == {UID: BASE}


def test_init_and_ephemeral_containers_have_names() -> None:
    """Those that come first, those that come later to look at the others; they own no CPUs, and
    hold nothing back for the others.
    """
    document = a_pod(
        c={"app": f"cri-o://{APP}"},
        initC={"first": f"cri-o://{FIRST}"},
        ephemeralC={"debug": f"cri-o://{DEBUG}"},
    )
    containers, _ = known(document, frozenset({0, 1}))
    for number, name in ((FIRST, "first"), (DEBUG, "debug")):
        assert containers[number] == Known(evolve(BASE, id=number, runtime="cri-o", name=name))
    assert containers[APP].consumer.cpus == frozenset({0, 1})


@pytest.mark.parametrize("kind", ["initC", "ephemeralC"])
def test_one_without_an_id_is_not_there_yet(kind: str) -> None:
    """Nor one that no status tells of; nobody is known by an empty id."""
    containers, _ = known(a_pod(c={"app": f"containerd://{APP}"}, **{kind: {"soon": ""}}))
    assert set(containers) == {APP}
    document = a_pod(c={"app": ""}, **{kind: {"soon": ""}})
    del document["status"][f"{kind}ontainerStatuses"]
    assert known(document)[0] == {}


@pytest.mark.parametrize(
    "annotations",
    [
        {
            "kubernetes.io/config.mirror": HASH,
            "kubernetes.io/config.hash": HASH,
            "kubernetes.io/config.source": "file",
        },
        {"kubernetes.io/config.mirror": HASH},
        {"kubernetes.io/config.hash": HASH, "kubernetes.io/config.source": "file"},
    ],
)
def test_a_static_pod_is_known_by_both_its_uids(annotations: dict[str, Any]) -> None:
    """Its cgroups have the hash that the kubelet made, the API's object the uid of its mirror; a
    sandbox too is the one pod's, under the API's uid.
    """
    containers, pods = known(a_pod(annotations=annotations, c={"app": f"containerd://{APP}"}))
    assert pods == {UID: BASE, HASH: BASE}
    for uid in (UID, HASH):
        pod = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
        path = container_of(
            f"kubepods.slice/kubepods-burstable.slice/{pod}/cri-containerd-{SANDBOX}.scope"
        )
        assert path is not None
        assert identify(path, containers, pods) == Known(
            evolve(BASE, id=SANDBOX, runtime="containerd")
        )
    assert (
        identify(ContainerPath(APP, "containerd", HASH), containers, pods).identity.pod_uid == UID
    )


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        {},
        {"kubernetes.io/config.source": "api"},
        *({"kubernetes.io/config.hash": text} for text in ("", "x", "../" * 11, 5, None)),
    ],
)
def test_another_pod_has_one_uid(annotations: dict[str, Any] | None) -> None:
    """Also where somebody wrote into its annotations what is no uid."""
    assert known(a_pod(annotations=annotations, c={"app": f"containerd://{APP}"}))[1] == {UID: BASE}


def test_a_container_in_another_is_of_its_pod() -> None:
    """Docker in a pod: no status tells of it, its cgroup's path does.

    It runs on the CPUs of the one around it, and asks for nothing.
    """
    containers, pods = known(a_pod(c={"app": f"containerd://{APP}"}), frozenset({0, 1}))
    found = identify(ContainerPath(INNER, "docker", UID, APP), containers, pods)
    assert (
        found.identity.namespace,
        found.identity.pod,
        found.identity.pod_uid,
        found.identity.name,
    ) == ("shop", "web", UID, "")
    assert (found.identity.id, found.identity.runtime) == (INNER, "docker")
    assert found.consumer == Consumer(frozenset({0, 1}), 0, APP)


def test_a_container_in_another_that_owns_cpus_of_its_own_keeps_them() -> None:
    """kind: a pod of a node in a container; what it asks for is its own too."""
    containers, pods = known(a_pod(c={"app": f"containerd://{APP}"}), frozenset({0, 1}))
    node = {OTHER: Known(Identity(OTHER, "docker"), Consumer(frozenset({0, 1, 2, 3})))}
    assert identify(
        ContainerPath(APP, "containerd", UID, OTHER), {**containers, **node}, pods
    ).consumer == Consumer(frozenset({0, 1}), 1500, OTHER)
    assert (
        identify(ContainerPath(APP, "containerd", UID, OTHER), containers, pods).identity.name
        == "app"
    )


def test_a_container_in_one_that_nobody_knows_is_inside_of_it_all_the_same() -> None:
    """Outside of pods, without CPUs of its own: the time of the one around it has to be without its
    own.
    """
    found = identify(ContainerPath(INNER, "docker", "", OTHER), {}, {})
    assert found == Known(Identity(INNER, "docker"), Consumer(inside=OTHER))


def test_one_that_is_in_none_says_so() -> None:
    """Known or not."""
    containers, pods = known(a_pod(c={"app": f"containerd://{APP}"}))
    for number in (APP, OTHER):
        assert (
            identify(ContainerPath(number, "containerd", UID), containers, pods).consumer.inside
            == ""
        )


def test_cpus_that_others_than_the_kubelet_gave_are_owned_too() -> None:
    """Of a claim, or as the runtime bound the container: the plan knows whose they are."""
    document = a_pod(c={"app": f"containerd://{APP}"})
    group = evolve(FAST, container=ContainerRef("shop", "web", UID, "app", APP))
    containers, _ = known_containers((structure_pod(document),), (), (group, SLOW))
    assert (containers[APP].consumer.cpus, containers[APP].identity.pool) == (
        frozenset(group.cpus),
        "exclusive",
    )
