"""Containers by the paths of their cgroups: every runtime under every driver and version, and what
only looks like one (field report 58).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.energy.containers import ContainerPath, container_of, is_container

ID = "0123456789abcdef" * 4
OTHER, THIRD = "f" * 64, "e" * 64
UID = "0a1b2c3d-0000-4000-8000-00000000000f"
SLICED = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
#: Slices of the systemd driver, and of a node that is a container itself.
BURSTABLE = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable"
BEST_EFFORT = "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort"
INNER = "kubelet.slice/kubelet-kubepods"
INNER_BURSTABLE = f"{INNER}.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable"
DOCKER = f"system.slice/docker-{OTHER}.scope"

#: Path → runtime, UID of the pod. The id is ID.
CONTAINERS = {
    # containerd, systemd driver
    f"kubepods.slice/kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope": ("containerd", UID),
    f"{BURSTABLE}-pod{SLICED}.slice/cri-containerd-{ID}.scope": (
        "containerd",
        UID,
    ),
    f"{BEST_EFFORT}-pod{SLICED}.slice/cri-containerd-{ID}.scope": (
        "containerd",
        UID,
    ),
    # containerd, cgroupfs driver: the path does not tell the runtime
    f"kubepods/pod{UID}/{ID}": ("", UID),
    f"kubepods/burstable/pod{UID}/{ID}": ("", UID),
    f"kubepods/besteffort/pod{UID}/{ID}": ("", UID),
    f"k8s.io/{ID}": ("", ""),
    f"default/{ID}": ("", ""),
    # containerd's own form, where its drivers are at odds
    f"system.slice/containerd.service/kubepods-burstable-pod{SLICED}.slice:cri-containerd:{ID}": (
        "containerd",
        UID,
    ),
    f"kubepods-pod{SLICED}.slice:cri-containerd:{ID}": ("containerd", UID),
    f"kubepods-besteffort-pod{STATIC}.slice:cri-containerd:{ID}": ("containerd", STATIC),
    f"system.slice:docker:{ID}": ("docker", ""),
    f"kubepods-pod{SLICED}.slice:crio:{ID}": ("crio", UID),
    # CRI-O
    f"kubepods.slice/kubepods-pod{SLICED}.slice/crio-{ID}.scope": ("crio", UID),
    f"{BURSTABLE}-pod{SLICED}.slice/crio-{ID}.scope": (
        "crio",
        UID,
    ),
    f"kubepods/burstable/pod{UID}/crio-{ID}": ("crio", UID),
    # Docker
    f"system.slice/docker-{ID}.scope": ("docker", ""),
    f"docker/{ID}": ("docker", ""),
    f"{BURSTABLE}-pod{SLICED}.slice/docker-{ID}.scope": (
        "docker",
        UID,
    ),
    f"kubepods/burstable/pod{UID}/docker-{ID}": ("docker", UID),
    f"user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope": ("docker", ""),
    # Podman and nerdctl
    f"machine.slice/libpod-{ID}.scope": ("podman", ""),
    f"libpod_parent/libpod-{ID}": ("podman", ""),
    f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope": ("podman", ""),
    f"machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope": ("podman", ""),
    f"system.slice/web.service/libpod-payload-{ID}": ("podman", ""),
    f"user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-{ID}": (
        "podman",
        "",
    ),
    f"system.slice/nerdctl-{ID}.scope": ("containerd", ""),
    # static pods, whose UID is a hash
    f"{BURSTABLE}-pod{STATIC}.slice/cri-containerd-{ID}.scope": (
        "containerd",
        STATIC,
    ),
    f"kubepods/burstable/pod{STATIC}/{ID}": ("", STATIC),
    f"kubepods.slice/kubepods-pod{STATIC}.slice/crio-{ID}.scope": ("crio", STATIC),
    # beside its pod: what the runtime of a virtual machine uses
    f"kata_overhead/{ID}": ("", ""),
    # on its own
    ID: ("", ""),
    f"cri-containerd-{ID}.scope": ("containerd", ""),
}

#: The same of those that are in the container OTHER.
NESTED = {
    # nodes in containers
    f"docker/{OTHER}/kubelet/kubepods/burstable/pod{UID}/{ID}": ("", UID),
    f"docker/{OTHER}/kubepods/pod{UID}/{ID}": ("", UID),
    f"{DOCKER}/{INNER}.slice/kubelet-kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope": (
        "containerd",
        UID,
    ),
    f"{DOCKER}/{INNER_BURSTABLE}-pod{SLICED}.slice/cri-containerd-{ID}.scope": (
        "containerd",
        UID,
    ),
    f"machine.slice/libpod-{OTHER}.scope/container/{INNER}-pod{SLICED}.slice/crio-{ID}.scope": (
        "crio",
        UID,
    ),
    # the innermost pod is the container's
    f"kubepods/pod{STATIC}/{OTHER}/kubepods/pod{UID}/{ID}": ("", UID),
    # containers that a pod's container runs; their pod is the one around them all
    f"kubepods.slice/kubepods-pod{SLICED}.slice/cri-containerd-{OTHER}.scope/docker/{ID}": (
        "docker",
        UID,
    ),
    f"kubepods.slice/kubepods-pod{SLICED}.slice/crio-{OTHER}.scope/init.scope/x/libpod-{ID}": (
        "podman",
        UID,
    ),
    f"kubepods/pod{UID}/{OTHER}/system.slice/docker-{ID}.scope": ("docker", UID),
    f"system.slice:docker:{OTHER}/docker/{ID}": ("docker", ""),
    # of two around it, the nearer one
    f"docker/{THIRD}/kubepods/pod{UID}/{OTHER}/docker/{ID}": ("docker", UID),
}

NONE = (
    # pods, QoS classes, and above
    *(
        "",
        "/",
        "kubepods",
        "kubepods.slice",
        "kubepods.slice/kubepods-burstable.slice",
        "kubepods/burstable",
        f"kubepods/burstable/pod{UID}",
    ),
    *(
        f"kubepods.slice/kubepods-pod{SLICED}.slice",
        f"{BURSTABLE}-pod{SLICED}.slice",
        f"kubepods/pod{STATIC}",
    ),
    f"machine.slice/machine-libpod_pod_{ID}.slice",
    # what watches containers, and what is inside one
    *(
        f"kubepods.slice/kubepods-pod{SLICED}.slice/crio-conmon-{ID}.scope",
        f"kubepods/pod{UID}/crio-conmon-{ID}",
        f"machine.slice/libpod-conmon-{ID}.scope",
    ),
    *(
        f"machine.slice/libpod-{ID}.scope/container",
        f"system.slice/docker-{ID}.scope/init.scope",
        f"docker/{ID}/system.slice/cron.service",
        f"docker/{ID}/kubelet",
    ),
    f"kubepods.slice/kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope/child",
    # the rest of a machine
    *(
        "init.scope",
        "system.slice",
        "system.slice/docker.service",
        "system.slice/containerd.service",
        "system.slice/kubelet.service",
        "system.slice/crio.service",
    ),
    *(
        "user.slice/user-0.slice/session-3.scope",
        "user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope",
    ),
    "system.slice/system-getty.slice/getty@tty1.service",
    *(
        "lxc.payload.web",
        "machine.slice/machine-qemu.scope",
        "docker",
        "docker/buildkit/xyz",
        "system.slice/run-r0a1b2c3d.scope",
    ),
    # nearly
    *(
        ID[:-1],
        f"{ID}0",
        ID.upper(),
        f"g{ID[1:]}",
        f"docker/{ID[:12]}",
        f"docker-{ID}.slice",
        f"docker-{ID}.scope.scope",
        f"docker-{ID}.service",
        f"docker_{ID}.scope",
    ),
    *(
        f"x-{ID}.scope",
        f"docker-docker-{ID}.scope",
        f"{ID}/",
        f"docker/{ID}/",
        f" {ID}",
        f"{ID}\n",
        f"docker-{ID}.scope\n",
        f"a:b:{ID}",
        f":{ID}",
    ),
    f"cri-containerd:{ID[:-1]}",
    f"kubepods-pod{SLICED}.slice:cri-containerd:{ID}.scope",
)


def called(path: str) -> str:
    """A path with short names, as the name of a test."""
    for text, name in (
        (ID, "ID"),
        (OTHER, "OTHER"),
        (THIRD, "THIRD"),
        (UID, "UID"),
        (SLICED, "UID"),
        (STATIC, "HASH"),
    ):
        path = path.replace(text, name)
    return path


@pytest.mark.parametrize("path", CONTAINERS, ids=called)
def test_containers(path: str) -> None:
    """Field report 58: containerd, CRI-O, Docker and Podman, under systemd and cgroupfs, Guaranteed
    pods without a slice of their class.
    """
    runtime, uid = CONTAINERS[path]
    assert container_of(path) == ContainerPath(ID, runtime, uid)
    assert is_container(path)


@pytest.mark.parametrize("path", NESTED, ids=called)
def test_containers_in_containers(path: str) -> None:
    """Nodes in containers (kind) and Docker in a pod: each says in which one it is, whose time
    contains its own.
    """
    runtime, uid = NESTED[path]
    assert container_of(path) == ContainerPath(ID, runtime, uid, OTHER)
    assert is_container(path)


def test_a_container_in_a_cgroup_of_its_own_id_is_inside_itself() -> None:
    """A runtime that makes a folder of the same name below: whoever counts both sees that they are
    one.
    """
    assert container_of(f"docker/{ID}/docker/{ID}") == ContainerPath(ID, "docker", "", ID)


@pytest.mark.parametrize(
    "above",
    [
        f"libpod-conmon-{OTHER}.scope",
        f"x-{OTHER}.scope",
        OTHER[:-1],
        f"machine-libpod_pod_{OTHER}.slice",
        f"pod{UID}",
    ],
)
def test_a_folder_that_is_no_container_has_none_in_it(above: str) -> None:
    """Only one that is a container by its own name is the outer one."""
    found = container_of(f"machine.slice/{above}/docker-{ID}.scope")
    assert found is not None
    assert found.inside == ""


@pytest.mark.parametrize("base", ["", "cpu,cpuacct/", "../..", "system.slice/"])
def test_where_a_mount_begins_does_not_matter(base: str) -> None:
    """As inside a container, which sees its own cgroup as the root."""
    assert container_of(f"{base}/kubepods/burstable/pod{UID}/{ID}") == ContainerPath(ID, "", UID)


@pytest.mark.parametrize(
    "path",
    NONE,
    ids=lambda path: repr(path.replace(ID, "ID").replace(SLICED, "UID").replace(UID, "UID")),
)
def test_what_is_no_container(path: str) -> None:
    """Field report 58: pods, services, monitors of containers, what is inside of one, and names
    that are only nearly right.
    """
    assert container_of(path) is None
    assert not is_container(path)


@pytest.mark.parametrize(
    "uid",
    [
        UID[:-1],
        f"{UID}0",
        UID.upper(),
        UID.replace("-", ""),
        STATIC[:-1],
        f"{STATIC}0",
        "",
        "x",
        UID.replace("-", "."),
    ],
)
def test_a_pod_is_known_by_a_whole_uid_only(uid: str) -> None:
    """A UID without its hyphens has the form of a static pod's; everything else is no pod, and the
    container is one all the same.
    """
    found = container_of(f"kubepods/burstable/pod{uid}/{ID}")
    assert found == ContainerPath(ID, "", uid if uid == UID.replace("-", "") else "")


PARTS = st.sampled_from(
    (
        *(
            ID,
            OTHER,
            f"pod{UID}",
            f"pod{SLICED}.slice",
            f"pod{STATIC}",
            "kubepods",
            "kubepods.slice",
            "docker",
            "libpod_parent",
            "crio",
            ".scope",
            ".slice",
        ),
        *(
            "cri-containerd-",
            "crio-",
            "crio-conmon-",
            "docker-",
            "libpod-",
            "nerdctl-",
            "pod",
            "/",
            "//",
            ":",
            "-",
            "\n",
            "é",
            "\udcff",
            "\0",
            "..",
        ),
    )
)
TEXT = st.text(max_size=200) | st.lists(PARTS, max_size=8).map("".join)


@given(TEXT)
def test_random_text_never_raises(path: str) -> None:
    """What is found has an id of 64 digits that is the path's end, and a UID that is in the path,
    or none.
    """
    found = container_of(path)
    assert is_container(path) is (found is not None)
    if found is not None:
        assert len(found.id) == 64
        assert path.removesuffix(".scope").endswith(found.id)
        assert found.pod_uid in path.replace("_", "-")
        assert not found.inside or found.inside in path.rpartition("/")[0]


@given(
    st.text(alphabet="0123456789abcdef", min_size=64, max_size=64),
    st.uuids(),
    st.sampled_from(("", "burstable", "besteffort")),
    st.sampled_from(("cri-containerd", "crio", "docker")),
)
def test_both_drivers_tell_the_same(name: str, uid: object, quality: str, prefix: str) -> None:
    """Field report 58: whatever the id, the pod and its class."""
    group = f"-{quality}" if quality else ""
    above = f"kubepods.slice/kubepods{group}.slice/" if quality else "kubepods.slice/"
    sliced = container_of(
        f"{above}kubepods{group}-pod{str(uid).replace('-', '_')}.slice/{prefix}-{name}.scope"
    )
    plain = container_of(f"kubepods/{quality}/pod{uid}/{name}".replace("//", "/"))
    assert sliced is not None
    assert plain is not None
    assert (sliced.id, sliced.pod_uid) == (plain.id, plain.pod_uid) == (name, str(uid))
