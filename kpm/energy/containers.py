"""Containers found by the names of their cgroups: containerd, CRI-O, Docker and Podman, under
systemd or cgroupfs, also nested (kind).
"""

import re

from attrs import frozen

#: What a runtime puts before the id of a container, and how it is called.
_RUNTIMES = {
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "crio",
    "docker": "docker",
    "libpod": "podman",
    "libpod-payload": "podman",
}
_NAME = re.compile(
    r"(?:(cri-containerd|nerdctl|crio|docker|libpod-payload|libpod)[-:])?([0-9a-f]{64})(?:\.scope)?"
)
#: containerd's own form under the systemd driver: slice:prefix:id.
_COLONS = re.compile(r"[^/:]*:(cri-containerd|crio|docker):([0-9a-f]{64})")
_POD = re.compile(
    r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$"
)
_PARENTS = {"docker": "docker", "libpod_parent": "podman", "crio": "crio"}


@frozen
class ContainerPath:
    """What a cgroup's path says. id: 64 hexadecimal digits; runtime: "" where the path does not
    tell; pod_uid: "" outside of pods.

    inside: id of the container that it is in, "" for none; that one's time contains this one's.
    """

    id: str
    runtime: str
    pod_uid: str
    inside: str = ""


def container_of(path: str) -> ContainerPath | None:
    """The container whose cgroup this is; None for a folder of another kind, such as a pod's, or
    one inside a container.

    >>> container_of("kubepods/pod0a1b2c3d-0000-4000-8000-000000000001/" + "ab" * 32).pod_uid
    '0a1b2c3d-0000-4000-8000-000000000001'
    >>> container_of("system.slice/cron.service") is None
    True
    """
    above, _, name = path.rpartition("/")
    match = _NAME.fullmatch(name) or _COLONS.fullmatch(name)
    if match is None:
        return None
    parts = [part.partition(":")[0] for part in path.split("/")]
    pod = next((found for part in reversed(parts) if (found := _POD.search(part))), None)
    runtime = _RUNTIMES.get(match[1] or "") or _PARENTS.get(above.rpartition("/")[2], "")
    outer = next(
        (
            found
            for part in reversed(above.split("/"))
            if (found := _NAME.fullmatch(part) or _COLONS.fullmatch(part))
        ),
        None,
    )
    return ContainerPath(
        match[2],
        runtime,
        "" if pod is None else pod[1].replace("_", "-"),
        "" if outer is None else outer[2],
    )


def is_container(path: str) -> bool:
    """Whether a cgroup is a container's."""
    return container_of(path) is not None
