"""The operator in any cluster: it becomes quiet, and what users made is theirs."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kpm.kube.kinds import FINALIZER, state_name, workload_name
from kpm.operator.reconcile import Apply, Delete
from kpm_planner.model.cluster import GENERATED
from tests.agent.clusters import GROUP, Released, World, of_users, running

NODES, PROFILES = ["a", "b", "c"], ["fast", "quick", "b"]
#: Spellings of generated names that users might choose as well.
WORKLOADS = [workload_name(profile, node) for profile in PROFILES[:2] for node in NODES[:2]] + [
    "shared"
]
SELECTORS = st.sampled_from([{}, {"power": "yes"}, {"power": "never"}])
PROFILE_SPECS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"shared": True},
        {"pstates": {"min": 3000, "max": 2000}},
        {"pstates": "unreadable"},
        {"name": "other"},
    ]
)
WORKLOAD_SPECS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"allCores": True, "powerProfile": "fast", "powerNodeSelector": {"power": "yes"}},
        {"reservedCPUs": [{"cores": [1, -1]}]},
        {"allCores": 3},
    ]
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Nodes, PowerConfigs, profiles, workloads of users and of ours, states of every sort; some of
    them left from an earlier time.
    """
    world = World()
    for name in draw(st.sets(st.sampled_from(NODES))):
        world.node(name, ready=draw(st.booleans()), power=draw(st.sampled_from(["yes", "no"])))
    for name in draw(st.sets(st.sampled_from(["c1", "c2", "c3"]))):
        spec = {
            "powerNodeSelector": draw(SELECTORS),
            "duplicatePowerConfig": draw(st.sampled_from(["delete", "reject"])),
        }
        deleting: dict[str, Any] = {
            "finalizers": [FINALIZER],
            "deletionTimestamp": "2026-03-01T00:00:00Z",
        }
        world.put(
            "powerconfigs",
            name,
            spec,
            age=draw(st.integers(1, 3)),
            **(deleting if draw(st.integers(0, 5)) == 0 else {}),
        )
    for name in draw(st.sets(st.sampled_from(PROFILES))):
        world.put("powerprofiles", name, draw(PROFILE_SPECS))
    for name in draw(st.sets(st.sampled_from(WORKLOADS))):
        labels = draw(st.sampled_from([{}, {GENERATED: "true"}, {GENERATED: "false", "a": "b"}]))
        world.put("powerworkloads", name, draw(WORKLOAD_SPECS), labels=labels)
    for name in draw(st.sets(st.sampled_from(NODES))):
        world.put("uncores", name, {"sysMin": 2_000_000, "sysMax": 1_000_000})
        world.put("powernodeconfigs", name, {"sharedPowerProfile": "fast"})
    for name in draw(st.sets(st.sampled_from([*NODES, "gone"]))):
        world.put(
            "powernodestates", state_name(name), {"nodeName": name}, labels={GENERATED: "true"}
        )
        world.put("powernodes", name, {"nodeName": name}, labels={GENERATED: "true"})
        kind = draw(st.sampled_from(["silent", "working", "released", "garbage"]))
        if kind in ("working", "released"):
            status: dict[str, Any] = {"conditions": [Released]} if kind == "released" else {}
            world.report(name, *draw(st.sets(st.sampled_from(PROFILES))), **status)
        if kind == "garbage":
            world.objects["powernodestates", state_name(name)]["status"] = {"profiles": 3}
    world.lost = draw(st.sampled_from([frozenset(), frozenset({"a"}), frozenset(NODES)]))
    world.dead = draw(st.sampled_from([frozenset(), frozenset({"a"}), frozenset(NODES)]))
    return world


@given(worlds())
def test_any_cluster_becomes_quiet_in_a_few_passes(world: World) -> None:
    """The same input gives the same actions, and what was done need not be done again."""
    assert world.wanted() == world.wanted()
    world.settle(6)
    assert world.wanted() == ()


@given(worlds())
def test_what_users_made_is_neither_changed_nor_deleted_but_a_duplicate_power_config(
    world: World,
) -> None:
    """Also where it has the name of something that would be made; only its status is written."""
    before = {
        key: copy.deepcopy(document)
        for key, document in world.objects.items()
        if of_users(document)
    }
    ages = {
        item["metadata"]["name"]: item["metadata"]["creationTimestamp"]
        for item in world.of("powerconfigs")
        if "deletionTimestamp" not in item["metadata"]
    }
    for action in world.settle(6):
        key = (getattr(action, "plural", ""), getattr(action, "name", ""))
        if isinstance(action, Delete) and key in before:
            assert key[0] == "powerconfigs"
            assert key[1] != min(ages, key=lambda name: (ages[name], name))
        if isinstance(action, Apply) and key in before:
            assert action.subresource == "status"
            assert set(action.body) == {"apiVersion", "kind", "metadata", "status"}
    for key, document in before.items():
        if key in world.objects:
            now = world.objects[key]
            assert now["spec"] == document["spec"]
            assert {**now["metadata"], "finalizers": None} == {
                **document["metadata"],
                "finalizers": None,
            }


@given(worlds())
def test_all_that_exists_for_a_node_is_wanted_there_or_waited_for(world: World) -> None:
    """In the end: objects of managed nodes, and of those whose agents have not answered yet."""
    world.settle(6)
    managed = {
        node
        for item in world.of("powerconfigs")
        for node in item.get("status", {}).get("nodes", ())
    }
    there = set(world.names("nodes"))
    for item in world.of("powernodestates"):
        node = item["spec"]["nodeName"]
        assert node in managed | there
        assert node in managed or node not in world.lost
    states = {item["spec"]["nodeName"] for item in world.of("powernodestates")}
    assert set(world.names("powernodes")) == states >= managed
    for item in world.of("powerworkloads"):
        if not of_users(item):
            assert item["status"]["workloadNodes"]["name"] in managed


@given(st.permutations(["c1", "c2", "c3"]), st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_the_order_in_which_objects_are_seen_decides_nothing(
    names: list[str], ages: list[int]
) -> None:
    """The oldest PowerConfig holds; of equally old ones the first by name."""
    world = World()
    for name in names:
        world.put(
            "powerconfigs",
            name,
            {"powerNodeSelector": {"power": "yes"}},
            age=ages[int(name[1]) - 1],
        )
    world.settle()
    assert world.names("powerconfigs") == [
        min(names, key=lambda name: (-ages[int(name[1]) - 1], name))
    ]


def test_a_users_workload_with_a_generated_name_is_left_alone() -> None:
    """It may even be about another profile; what is made is made for the others; its status is its
    own.
    """
    world = running("a", "b")
    mine = world.put(
        "powerworkloads",
        workload_name("fast", "a"),
        {"allCores": True, "powerProfile": "fast", "powerNodeSelector": {"power": "never"}},
    )
    before = copy.deepcopy(mine)
    world.put("powerprofiles", "fast", {"pstates": {"max": 2000}})
    for node in ("a", "b"):
        world.report(node, "fast")
    world.settle()
    now = world.objects["powerworkloads", workload_name("fast", "a")]
    assert (now["metadata"], now["spec"], now["status"]) == (
        before["metadata"],
        before["spec"],
        {"nodeCount": 0, "cpuCount": 0, "errors": []},
    )
    assert world.objects["powerworkloads", workload_name("fast", "b")]["spec"] == {
        "name": workload_name("fast", "b"),
        "powerProfile": "fast",
    }
    world.delete("powerconfigs", "config")
    for node in ("a", "b"):
        world.release(node)
    world.settle()
    assert world.names("powerworkloads") == [workload_name("fast", "a")]


@given(
    st.text("ab-", min_size=1, max_size=80),
    st.text("ab-.", min_size=1, max_size=253),
    st.text("ab-", max_size=80),
)
def test_generated_names_fit_and_are_told_apart(profile: str, node: str, other: str) -> None:
    """However long the names are that they are made of."""
    assert len(workload_name(profile, node)) <= 63
    assert len(state_name(node)) <= 253
    for name, again in (
        (workload_name(profile, node), workload_name(profile + other, node)),
        (state_name(node), state_name(node + other)),
    ):
        assert (name == again) == (other == "")


def test_an_object_of_the_group_says_its_group() -> None:
    """What is written is complete: version, kind, name, namespace."""
    world = running("a", profiles=("fast",))
    world.actions.clear()
    world.delete("powernodestates", state_name("a"))
    world.delete("powerworkloads", workload_name("fast", "a"))
    for action in world.settle():
        assert isinstance(action, Apply)
        assert action.body["apiVersion"] == f"{GROUP}/v1"
        assert (action.body["metadata"]["name"], action.body["metadata"]["namespace"]) == (
            action.name,
            "power-manager",
        )
