"""kpm status: of a machine, a recorded folder, a node of a cluster; and what agents publish."""

import json
import lzma
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kpm.cli.status_text import age, node_lines, table
from kpm.cluster.node import NodeStatus, document, node_of
from kpm.cluster.status import document as cluster_document
from kpm.cluster.status import namespaces_of, status_of
from kpm.formats.published import packed, reported, unpacked_allocation, unpacked_machine
from kpm.formats.views import machine_view
from kpm.formats.wire import GROUPS, document_of
from kpm.kube.api import ApiError, Object
from kpm.kube.kinds import PODS, power
from kpm.process.errors import InputError
from kpm.request.machines import MODELS, MachineSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.changes import Pass
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from kpm_planner.report.node import node_state
from kpm_planner.report.types import LONGEST_MACHINE
from tests.kpm.cli_rig import SCHEMAS, examples
from tests.kpm.cli_rig import kpm as run
from tests.kpm.random_samples import machines
from tests.kpm.test_cluster_verbs import (
    CONFIGS,
    GROUP,
    LEASES,
    NOW,
    PLACE,
    STATES,
    Server,
    config,
    lease,
    state,
)
from tests.planner.build import allocation, asking, machine, owns, plan, pod, profile, workload
from tests.trees import write_tree


def check(content: Any, schema: str) -> None:
    """Against a published schema."""
    found = json.loads((SCHEMAS / f"{schema}.schema.json").read_text())
    Draft202012Validator(found).validate(json.loads(json.dumps(content)))


# --- what is published ---


@given(machines())
@examples(40)
def test_any_machine_there_and_back(made: Machine) -> None:
    """What others plan for is what the agent has, value by value."""
    text = packed(made)
    assert text is not None
    assert machine_view(unpacked_machine(text, "here")) == machine_view(made)


@pytest.mark.parametrize("cores", [32, 128, 256])
def test_the_largest_machines_have_room(cores: int) -> None:
    """Two packages of so many cores with two threads, in 12 KiB."""
    text = packed(build_machine(evolve(MODELS["xeon"], packages=2, cores=cores, threads=2)))
    assert text is not None
    assert len(text) <= LONGEST_MACHINE


def test_a_machine_that_has_no_room_is_left_out() -> None:
    """A status that is too large would cost the node all of it."""
    odd = build_machine(MachineSpec(packages=2, cores=2048))
    assert packed(odd) is None


def _xz(content: bytes, **more: Any) -> str:
    return b64encode(lzma.compress(content, **more)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no base64",
        b64encode(b"no xz").decode(),
        _xz(b"[" * 100_000),
        _xz(b"[]"),
        _xz(b"{}"),
        _xz(b'{"version": 99}'),
        _xz(b'{"a":' + b" " * (3 << 20) + b"1}"),
        _xz(b'{"version": 1, "cpus": [' + b'{"cpu": 0},' * 90_000 + b'{"cpu": 0}]}'),
        _xz(b"{}")[:-8],
        "A" * (LONGEST_MACHINE + 1),
    ],
    ids=range(11),
)
def test_a_hostile_machine_is_one_line(text: str) -> None:
    """A node can be taken over: what it publishes is bounded before anything looks at it."""
    with pytest.raises(InputError) as refused:
        unpacked_machine(text, "Node/a")
    assert str(refused.value).startswith("Node/a")
    assert "\n" not in str(refused.value)


def test_a_machine_that_asks_for_memory_to_unpack_is_refused() -> None:
    """The dictionary is a claim of the sender's."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 << 20}]
    with pytest.raises(InputError):
        unpacked_machine(_xz(b"{}", filters=filters), "Node/a")


# --- of one node ---


def status_of_a_node() -> Any:
    """What an agent reports of a node with a pod."""
    on = machine("0-7")
    found = plan(
        profile("shared", shared=True, max="30%"),
        profile("fast", min="90%", max="100%"),
        workload(),
        on=on,
        with_=allocation([pod(asking(2, "fast"), name="db")], [owns("2-3", "db")]),
    )
    return node_state(found, on, Pass(), (), {})


def _served(status: Any, *pods: Object) -> Server:
    api = Server()
    item = {**state("n1"), "status": document_of(status)}
    api.put(STATES, item)
    for entry in pods:
        api.put(PODS, entry)
    return api


def test_a_node_says_who_holds_which_cpus_since_when() -> None:
    start = (NOW - timedelta(hours=3)).isoformat()
    holder = {"metadata": {"name": "db", "namespace": "ns1"}, "status": {"startTime": start}}
    found = node_of(_served(status_of_a_node(), holder), GROUP, PLACE, "n1")
    rows = {row.pool: row for row in found.pools}
    assert rows["exclusive"].cpus == "2-3"
    assert rows["exclusive"].profile == "fast"
    assert rows["exclusive"].holder.startswith("ns1/db/")
    assert rows["exclusive"].since == NOW - timedelta(hours=3)
    said = "\n".join(node_lines(found, NOW))
    assert "3h" in said
    assert max(map(len, said.split("\n"))) <= 80
    check(document(found), "status-node")


class NoPods(Server):
    """Who asks may not list pods."""

    def list(self, resource: Any, query: Any, sized: Any = lambda _: None) -> Object:
        if resource.plural == "pods":
            raise ApiError(403, "Forbidden", "pods is forbidden")
        return super().list(resource, query, sized)


def test_what_may_not_be_asked_is_named_once_and_costs_only_itself() -> None:
    api = NoPods()
    api.put(STATES, {**state("n1"), "status": document_of(status_of_a_node())})
    found = node_of(api, GROUP, PLACE, "n1")
    assert found.pools
    assert [line for line in node_lines(found, NOW) if line.startswith("note: ")] == [
        "note: since when pods run is not known: 403 Forbidden: pods is forbidden"
    ]


def test_a_report_that_cannot_be_read_is_one_line() -> None:
    api = Server()
    api.put(STATES, {**state("n1"), "status": {"values": "nonsense"}})
    with pytest.raises(InputError, match="cannot be read"):
        node_of(api, GROUP, PLACE, "n1")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
_KEYS = st.sampled_from(["conditions", "sizes", "problems", "values", "exclusivePools", "machine"])


@given(st.dictionaries(_KEYS, _JSON, max_size=4))
@examples(100)
def test_whatever_a_node_reports_costs_its_own_line(status: dict[str, Any]) -> None:
    """One node of two reports nonsense; the other is told as ever."""
    api = Server()
    api.put(LEASES, lease(2))
    api.put(CONFIGS, config(nodes=["a", "b"]))
    api.put(STATES, {**state("a"), "status": status})
    api.put(STATES, state("b"))
    found = status_of(api, GROUP, PLACE, NOW)
    assert any("b" in group.nodes and group.ready == "True" for group in found.groups)
    check(cluster_document(found), "status")
    reported({"status": status})


def test_all_namespaces_are_those_with_a_powerconfig() -> None:
    class Everywhere(Server):
        def list(self, resource: Any, query: Any, sized: Any = lambda _: None) -> Object:
            if resource.group != GROUP:
                raise ApiError(404, "NotFound", "no such kind")
            assert resource.namespace is None
            items = [{"metadata": {"name": "c", "namespace": name}} for name in ("b", "a", "b")]
            return {"items": items, "metadata": {}}

    assert list(namespaces_of(Everywhere(), GROUPS)) == [(GROUP, "a"), (GROUP, "b")]


def test_drift_and_problems_of_many_nodes_are_a_few_lines() -> None:
    """A thousand nodes with one problem, one of them drifted."""
    from kpm.cli.status_text import cluster_lines

    api = Server()
    names = [f"n{number:04}" for number in range(1000)]
    problem = {"severity": "error", "code": "pod-count", "object": "Pod/a/b", "field": "spec"}
    api.put(LEASES, lease(2))
    api.put(CONFIGS, config(nodes=names))
    for name in names:
        item = state(name)
        item["status"]["sizes"] = {"shared": 60 + (name == "n0003"), "reserved": 2}
        item["status"]["problems"] = [{**problem, "message": "too many"}]
        if name == "n0007":
            drift = {"type": "Drifted", "status": "True", "message": "3 files were changed"}
            item["status"]["conditions"].append(drift)
        api.put(power(GROUP, "powernodestates", PLACE), item)
    lines = cluster_lines(status_of(api, GROUP, PLACE, NOW))
    assert lines[2:] == [
        "    1  Ready (Settled)",
        "       CPUs: reserved 2, shared 60",
        "       drift: 3 files were changed",
        "       n0007",
        "  999  Ready (Settled)",
        "       CPUs: reserved 2, shared 60 to 61 (59941 in all)",
        "problems",
        "  error: Pod/a/b spec: too many [pod-count]",
        "       n0000, n0001, n0002, n0003, n0004, n0005, n0006, n0007 and 992 more",
    ]


# --- of a machine, of a folder ---


def test_a_machine_tells_what_is_ours_and_what_somebody_changed(tmp_path: Path) -> None:
    write_tree(KernelModel(build_machine(MODELS["xeon"])), tmp_path)
    tree = ("--sysfs", str(tmp_path / "sys"), "--state-dir", str(tmp_path / "state"))
    assert "nothing of it is ours" in run("status", *tree).out
    policy = str(tmp_path / "policy.yaml")
    run("init", "--sysfs", str(tmp_path / "sys"), "-o", policy)
    run("apply", "-f", policy, *tree, "--yes")
    calm = run("status", *tree)
    assert calm.code == 0
    assert "in force (before → asked)" in calm.out
    path = tmp_path / "sys/devices/system/cpu/cpufreq/policy5/scaling_max_freq"
    path.write_text("900000\n")
    changed = run("status", *tree)
    assert changed.code == 1
    assert "changed by somebody else (asked → is)" in changed.out
    assert "CPU 5" in changed.out.partition("somebody else")[2]
    found = json.loads(run("status", *tree, "-o", "json").out)
    check(found, "status-machine")
    assert [item["is"] for item in found["files"] if item["foreign"]] == ["900000"]


def test_a_recorded_folder_says_what_was_before(tmp_path: Path) -> None:
    write_tree(KernelModel(build_machine(MODELS["xeon"])), tmp_path)
    sysfs, policy = ("--sysfs", str(tmp_path / "sys")), str(tmp_path / "policy.yaml")
    run("init", *sysfs, "-o", policy)
    run("snapshot", str(tmp_path / "case"), "-f", policy, *sysfs)
    told = run("status", "--snapshot", str(tmp_path / "case"))
    assert told.code == 0
    assert "BEFORE" in told.out
    found = json.loads(run("status", "--snapshot", str(tmp_path / "case"), "-o", "json").out)
    for node in found["nodes"]:
        check(node, "status-node")
    assert run("status", "--snapshot", str(tmp_path / "case"), "nobody").code == 2


def test_two_sources_at_once_are_refused(tmp_path: Path) -> None:
    refused = run("status", "--sysfs", "/sys", "--snapshot", str(tmp_path))
    assert refused.code == 2
    assert "at most one" in refused.err


# --- the words ---


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7200, "2h"),
        (172800, "2d"),
        (1e9, "11574d"),
    ],
)
def test_ages_are_as_kubectl_tells_them(seconds: float, words: str) -> None:
    assert age(seconds) == words


@given(st.lists(st.tuples(*[st.text(max_size=60)] * 4), min_size=1, max_size=6))
@examples(100)
def test_tables_fit_80_columns_and_lose_nothing(rows: list[tuple[str, ...]]) -> None:
    lines = table(("A", "B", "C", "D"), rows)
    assert all(len(line) <= 80 for line in lines)


def test_a_node_without_anything_is_its_name() -> None:
    from kpm_planner.report.types import PowerNodeStateStatus

    found = NodeStatus("n\x1b", PowerNodeStateStatus())
    assert node_lines(found, datetime.now(UTC))[0] == "n\\x1b"


@given(st.lists(st.sets(st.integers(0, 63), max_size=5), max_size=6), st.booleans())
@examples(50)
def test_an_allocation_there_and_back(cpus: list[set[int]], answered: bool) -> None:
    """While the kubelet does not answer, what it said last."""
    said = tuple(owns(format_cpulist(some), f"pod-{n}") for n, some in enumerate(cpus) if some)
    given_ = Allocation(
        reported=said if answered else (),
        answered=answered,
        allocatable=frozenset(range(2, 64)),
        last_known=None if answered else said,
    )
    text = packed(given_)
    assert text is not None
    assert unpacked_allocation(text, (), "here") == given_
