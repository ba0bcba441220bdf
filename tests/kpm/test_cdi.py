"""CDI files of claims: which CPUs they name for which containers, and that whatever they hold costs
nothing else.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.formats.cdi import claimed_cpus
from kpm_planner.model.allocation import ContainerCpus
from tests.kpm.cli_rig import kpm
from tests.kpm.object_samples import as_yaml, pod, profile

NAME = "dra.k8s.io/cpu=claim-u2"


def device(name: str = "claim-u2", *variables: str) -> dict[str, Any]:
    """A device whose edits set these variables."""
    return {"name": name, "containerEdits": {"env": list(variables)}}


def cdi(
    folder: Path, *devices: Any, name: str = "dra.cpu.json", kind: str = "dra.k8s.io/cpu"
) -> None:
    """A file as drivers write it."""
    folder.mkdir(exist_ok=True)
    content = {"cdiVersion": "0.8.0", "kind": kind, "devices": list(devices)}
    (folder / name).write_text(json.dumps(content))


def container(*devices: str, name: str = "app", cpus: tuple[int, ...] = ()) -> ContainerCpus:
    """What the kubelet says of a container."""
    return ContainerCpus("default", "pinned", name, frozenset(cpus), devices=devices)


def named(folder: Path, *containers: ContainerCpus) -> dict[str, set[int]]:
    """The CPUs that are found, by container."""
    return {item.container: set(item.cpus) for item in claimed_cpus(str(folder), containers)}


def test_a_claims_device_names_the_containers_cpus(tmp_path: Path) -> None:
    """In one file for a driver, or in one for a claim; the kubelet says whose device it is."""
    cdi(
        tmp_path,
        device("claim-u1", "DRA_CPUSET_u1=0,64"),
        device("claim-u2", "X=1", "DRA_CPUSET_u2=2-3"),
    )
    cdi(tmp_path, device("claim-u3", "DRA_CPUSET_u3=8"), name="dra.k8s.io-cpu_claim-u3.json")
    assert named(tmp_path, container(NAME)) == {"app": {2, 3}}
    both = container(NAME, "dra.k8s.io/cpu=claim-u3", name="two")
    assert named(tmp_path, both, container(name="none")) == {"two": {2, 3, 8}}


def test_a_container_that_has_cpus_of_the_kubelet_needs_none(tmp_path: Path) -> None:
    cdi(tmp_path, device("claim-u2", "DRA_CPUSET_u2=2-3"))
    assert named(tmp_path, container(NAME, cpus=(5,))) == {}


@pytest.mark.parametrize(
    "text", ["dynamic", "", "-1", "3-1", "1;2", "99999999", "0-65535," * 100, "9" * 5000]
)
def test_a_device_that_names_no_cpus_says_nothing(tmp_path: Path, text: str) -> None:
    """A driver that moves claims says so, and a list that is none is
    none; not half of it counts.
    """
    cdi(
        tmp_path, device("claim-u1", "DRA_CPUSET_u1=0"), device("claim-u2", f"DRA_CPUSET_u2={text}")
    )
    assert named(tmp_path, container("dra.k8s.io/cpu=claim-u1", NAME)) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'{"kind": "dra.k8s.io/cpu", "devices": 3, "x": "DRA_CPUSET_"}',
        (
            b'{"kind": 1, "devices": [null, 1, {"name": 2}, {"name": "claim-u2", "containerEdits":'
            b' []}], "x": "DRA_CPUSET_"}'
        ),
        b'{"devices": [{"name": "claim-u2", "containerEdits": {"env": [1, null, "DRA_CPUSET_"]}}]}',
    ],
    ids=range(9),
)
def test_a_file_that_cannot_be_read_costs_itself(tmp_path: Path, content: bytes) -> None:
    cdi(tmp_path, device("claim-u2", "DRA_CPUSET_u2=2-3"))
    (tmp_path / "broken.json").write_bytes(content)
    assert named(tmp_path, container(NAME)) == {"app": {2, 3}}


def test_what_is_not_a_plain_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(
        json.dumps({"kind": "dra.k8s.io/cpu", "devices": [device("claim-u2", "DRA_CPUSET_u2=2")]})
    )
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "link.json").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cdi" / "folder.json").mkdir()
    assert (
        named(tmp_path / "cdi", container(NAME))
        == named(tmp_path / "absent", container(NAME))
        == {}
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("DRA_CPUSET_u2=1-2"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "devices", "name", "containerEdits", "env"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_a_file_holds_is_cpus_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, content: Any
) -> None:
    folder = tmp_path_factory.mktemp("cdi")
    (folder / "any.json").write_text(json.dumps(content))
    for cpus in named(folder, container(NAME)).values():
        assert cpus


def answer(*cpus: int) -> dict[str, Any]:
    """The kubelet's answer, as it is for claims of a driver that it does not ask."""
    claim = {
        "claimName": "cpus",
        "claimResources": [{"driverName": "dra.cpu", "cdiDevices": [{"name": NAME}]}],
    }
    return {
        "podResources": [
            {
                "name": "web",
                "namespace": "default",
                "containers": [{"name": "app", "dynamicResources": [claim]}],
            }
        ],
        "cpuIds": list(cpus),
    }


def test_a_plan_takes_the_cpus_of_a_claim_from_cdi(tmp_path: Path) -> None:
    """The case of a driver whose claims the kubelet does not know: without the files the pod is
    told, with them it is tuned.
    """
    claiming = pod("web", 2, "performance")
    claiming["spec"]["containers"][0]["resources"]["claims"] = [{"name": "cpus"}]
    (tmp_path / "answer.json").write_text(json.dumps(answer()))
    cdi(tmp_path / "cdi", device("claim-u2", "DRA_CPUSET_u2=2-3"))
    (tmp_path / "m.yaml").write_text("{model: xeon}")
    objects = as_yaml(profile("performance"), claiming)
    words = (
        "plan",
        "-f",
        "-",
        "--machine",
        tmp_path / "m.yaml",
        "--node",
        "n",
        "--pod-resources",
        tmp_path / "answer.json",
        "-o",
        "json",
    )
    without, found = (
        kpm(*words, *more, stdin=objects) for more in ((), ("--cdi", tmp_path / "cdi"))
    )
    tuned = [
        [cpu["cpu"] for cpu in node["cpus"] if cpu["pool"] == "exclusive"]
        for ran in (without, found)
        for node in json.loads(ran.out)["nodes"]
    ]
    assert tuned == [[], [2, 3]]
    assert "Pod/default/web" in without.out
