"""Every verb of the contract as a user runs it."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve

from tests.kpm.cli_rig import (
    NOBODY,
    REPO,
    Ran,
    assert_names,
    kpm,
    only_complaint,
    open_to_all,
    run_as_nobody,
    run_process,
    tree_hash,
)
from tests.kpm.object_samples import (
    INTEL_GROUP,
    POLICY,
    as_json,
    as_yaml,
    node,
    pod,
    profile,
    workload,
)
from tests.kpm.tree_samples import CPU, INTEL, SHARED_DOMAINS, TREES, build_tree, put

VERBS = (
    "discover",
    "validate",
    "plan",
    "diff",
    "apply",
    "restore",
    "explain",
    "snapshot",
    "replay",
    "simulate",
    "agent",
    "operator",
    "crds",
    "completion",
)
ANSWER = {
    "podResources": [
        {"namespace": "default", "name": "web", "containers": [{"name": "app", "cpuIds": [2, 3]}]}
    ]
}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(as_yaml(*POLICY))
    return file


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def text(tree: Path, path: str) -> str:
    """What a file of a tree shows."""
    return (tree / CPU / path).read_text().strip()


def limits(tree: Path, cpu: int) -> tuple[str, ...]:
    """Minimum, maximum, governor and EPP of a CPU."""
    names = (
        "scaling_min_freq",
        "scaling_max_freq",
        "scaling_governor",
        "energy_performance_preference",
    )
    return tuple(text(tree, f"cpu{cpu}/cpufreq/{name}") for name in names)


def planned(*words: object, stdin: bytes | str | None = None, code: int = 0) -> dict[str, Any]:
    """The JSON of a plan."""
    ran = kpm("plan", *words, "-o", "json", stdin=stdin)
    assert ran.code == code, ran
    found: dict[str, Any] = json.loads(ran.out)
    return found


def cpus_of(plan: dict[str, Any], name: str | None = None) -> dict[int, dict[str, Any]]:
    """The CPUs of one node of a plan by number."""
    (found,) = (item for item in plan["nodes"] if name in (None, item["node"]))
    return {item["cpu"]: item for item in found["cpus"]}


def pools(plan: dict[str, Any], name: str | None = None) -> list[str]:
    return [item["pool"] for item in cpus_of(plan, name).values()]


def unchanged(before: dict[str, str], tree: Path) -> bool:
    return tree_hash(tree) == before


# --- help, completion, start ---


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_an_example(verb: str) -> None:
    for option in ("--help", "-h"):
        ran = kpm(verb, option)
        assert ran.code == 0
        assert re.search(rf"^ +kpm {verb}\b", ran.out, re.MULTILINE), ran.out
        assert not ran.err


def test_help_lists_every_verb_with_a_sentence() -> None:
    ran = kpm("--help")
    assert ran.code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z].{{15}}", ran.out, re.MULTILINE), verb
    assert kpm("--version").out.startswith("kpm, version ")


def test_bad_usage_is_2() -> None:
    for words in (
        ["nonsense"],
        ["plan", "--nonsense"],
        ["plan", "-o", "xml"],
        ["explain", "-f", "x", "node", "n"],
        ["snapshot"],
        ["replay"],
        ["completion", "tcsh"],
        [],
    ):
        ran = kpm(*words)
        assert ran.code == 2, words
        assert ran.err or not words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    ran = kpm("completion", shell)
    assert ran.code == 0
    assert "_KPM_COMPLETE" in ran.out
    assert "kpm" in ran.out


def test_completion_completes_verbs_and_options() -> None:
    for words, at, wanted in (
        ("kpm di", 1, {"discover", "diff"}),
        ("kpm plan --assi", 2, {"--assign-cpus"}),
    ):
        ran = run_process(
            env={"_KPM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        )
        assert {line.partition(",")[2] for line in ran.out.split()} == wanted


def test_the_module_runs_too() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "kpm", "--version"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("kpm, version ")


def test_starting_is_light(policy: Path, tree: Path) -> None:
    """A verb loads what it needs: no Kubernetes client, no simulator, no tables where JSON is asked
    for.
    """
    code = (
        "from kpm.__main__ import main\ntry: main()\nexcept SystemExit: pass\nprint(*sys.modules,"
        " file=sys.stderr)\nsys.exit(0)"
    )
    ran = run_process("plan", "-f", policy, "--sysfs", tree, "-o", "json", before=code)
    assert ran.code == 0, ran
    loaded = set(ran.err.split())
    assert "kpm.cli.planning" in loaded
    unwanted = {
        "kubernetes",
        "rich",
        "jsonschema",
        "asyncio",
        "ssl",
        "kpm.simulate",
        "kpm.cli.recording",
        "kpm_applier.kernel_model.model",
        "pyroute2",
    }
    assert not loaded & unwanted, loaded & unwanted


def test_a_reader_that_leaves_early_is_no_fault(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(as_json({"packages": 16, "cores": 64, "threads": 2}))
    words = [
        sys.executable,
        "-m",
        "kpm",
        "plan",
        "-f",
        str(policy),
        "--machine",
        str(tmp_path / "m.json"),
        "-o",
        "json",
    ]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPO, env=buffered
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert error == b""


def test_output_that_cannot_be_written(policy: Path, tree: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ran = run_process("plan", "-f", policy, "--sysfs", tree, "-o", "json", stdout=full.fileno())
    assert_names(only_complaint(ran), ["No space left"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_knows_few_letters(encoding: str, policy: Path, tree: Path) -> None:
    for words in (["discover", "--sysfs", tree], ["plan", "-f", policy, "--sysfs", tree]):
        ran = run_process(*words, env={"PYTHONIOENCODING": encoding})
        assert (ran.code, ran.err) == (0, ""), words
        assert "CPUs" in ran.out


# --- discover ---


@pytest.mark.parametrize("name", TREES)
def test_discover_prints_the_same_in_every_format(name: str, tmp_path: Path) -> None:
    root = build_tree(tmp_path / "sys", TREES[name])
    before = tree_hash(root)
    ran = {form: kpm("discover", "--sysfs", root, "-o", form) for form in ("json", "yaml", "table")}
    assert {item.code for item in ran.values()} == {0}
    assert not any(item.err for item in ran.values())
    assert json.loads(ran["json"].out) == yaml.safe_load(ran["yaml"].out)
    assert kpm("discover", "--sysfs", root).out == ran["table"].out
    for feature in json.loads(ran["json"].out)["features"]:
        assert (
            f"{feature['name']}: {'yes' if feature['supported'] else 'no'}, {feature['reason']}"
            in ran["table"].out
        )
    assert unchanged(before, root)


def test_discover_says_what_the_tree_says(tmp_path: Path) -> None:
    found = json.loads(
        kpm(
            "discover",
            "--sysfs",
            build_tree(tmp_path / "sys", evolve(INTEL, cpus=8, packages=2, offline=(3,))),
            "-o",
            "json",
        ).out
    )
    by_number = {item["cpu"]: item for item in found["cpus"]}
    assert list(by_number) == list(range(8))
    assert by_number[2] == {
        "cpu": 2,
        "online": True,
        "package": 0,
        "die": 0,
        "cluster": None,
        "core": 1,
        "siblings": [2],
        "frequencyDomain": 2,
    }
    assert by_number[3]["online"] is False
    assert by_number[5]["siblings"] == [4, 5]
    assert by_number[5]["package"] == 1
    assert found["frequencyDomains"][0] | {"limitMaxKHz": None} == {
        "id": 0,
        "cpus": [0],
        "driver": "intel_pstate",
        "hardwareMinKHz": 800000,
        "hardwareMaxKHz": 3700000,
        "limitMaxKHz": None,
        "availableKHz": [],
        "governors": ["performance", "powersave"],
        "epps": ["default", "performance", "balance_performance", "balance_power", "power"],
        "minKHz": 800000,
        "maxKHz": 3700000,
        "governor": "powersave",
        "epp": "balance_performance",
    }
    assert found["idle"]["driver"] == "intel_idle"
    assert found["idle"]["cpus"][0]["states"][3] == {
        "index": 3,
        "name": "C6",
        "latencyUs": 133,
        "enabled": True,
        "default": "enabled",
    }
    assert [item["name"] for item in found["uncore"]] == ["package_00_die_00", "package_01_die_00"]
    assert found["boost"] is True
    assert {item["name"] for item in found["features"] if not item["supported"]} == {
        "cap",
        "fabric",
    }


def test_discover_says_why_something_is_missing(tmp_path: Path) -> None:
    found = json.loads(
        kpm("discover", "--sysfs", build_tree(tmp_path / "sys", TREES["vm"]), "-o", "json").out
    )
    assert {item["name"]: item["supported"] for item in found["features"]} == dict.fromkeys(
        ("frequency", "epp", "idle", "uncore", "cap", "fabric", "boost"), False
    )
    assert all(len(item["reason"]) > 5 for item in found["features"])
    assert found["boost"] is None
    assert found["frequencyDomains"] == []


def test_discover_of_this_machine_needs_nothing() -> None:
    found = json.loads(kpm("discover", "-o", "json").out)
    assert (
        len([item for item in found["cpus"] if item["online"]]) >= len(os.sched_getaffinity(0)) > 0
    )


def test_a_machine_that_was_discovered_gives_the_plan_of_the_tree(
    policy: Path, tmp_path: Path
) -> None:
    for name, shape in TREES.items():
        root = build_tree(tmp_path / name, shape)
        (tmp_path / f"{name}.json").write_text(kpm("discover", "--sysfs", root, "-o", "json").out)
        (tmp_path / f"{name}.yaml").write_text(kpm("discover", "--sysfs", root, "-o", "yaml").out)
        plans = [
            kpm("plan", "-f", policy, *source, "-o", "json").out
            for source in (
                ["--sysfs", root],
                ["--machine", tmp_path / f"{name}.json"],
                ["--machine", tmp_path / f"{name}.yaml"],
            )
        ]
        assert len(set(plans)) == 1


# --- validate ---


def test_validate_ends_with_0_1_or_2(tmp_path: Path) -> None:
    good, warned, wrong = (
        profile("p", pstates={"min": 1000}),
        profile("q", name="other"),
        profile("r", pstates={"min": "90%", "max": "10%"}),
    )
    for documents, code, words in (
        ([good], 0, []),
        ([good, warned], 1, ["error: PowerProfile/q", "spec.name"]),
        ([warned, wrong], 1, ["error: PowerProfile/r", "spec.pstates", "10%"]),
    ):
        ran = kpm("validate", "-f", "-", stdin=as_yaml(*documents))
        assert ran.code == code
        assert_names(ran.out, [*words, f"{len(documents)} objects"])
        structured = kpm("validate", "-f", "-", "-o", "json", stdin=as_yaml(*documents))
        assert structured.code == code
        content = json.loads(structured.out)
        assert content["version"] == 1
        assert len(content["problems"]) == len(words and documents[-1:]) + (
            len(documents) == 2 and wrong in documents
        )
        assert (
            yaml.safe_load(kpm("validate", "-f", "-", "-o", "yaml", stdin=as_yaml(*documents)).out)
            == content
        )
    (tmp_path / "x.yaml").write_text("{")
    only_complaint(kpm("validate", "-f", tmp_path / "x.yaml"))


def test_validate_shows_all_faults_at_once() -> None:
    wrong = [
        profile(
            f"p{number}",
            pstates={"min": "90%", "max": "10%", "epp": "much"},
            cstates={"maxLatencyUs": -1},
        )
        for number in range(3)
    ]
    ran = kpm("validate", "-f", "-", stdin=as_yaml(*wrong, workload("w", "missing")))
    assert ran.code == 1
    for number in range(3):
        assert (
            len(
                [
                    line
                    for line in ran.out.splitlines()
                    if f"error: PowerProfile/p{number}: spec." in line
                ]
            )
            >= 3
        )
    assert "warning: PowerWorkload/w: spec.powerProfile" in ran.out


# --- what plan reads ---


def test_plan_of_one_tree(policy: Path, tree: Path, state: Path) -> None:
    before = tree_hash(tree)
    plan = planned("-f", policy, "--sysfs", tree, "--state-dir", state)
    cpus = cpus_of(plan, "n")
    assert pools(plan) == ["reserved", "shared", "shared", "shared"]
    assert {
        key: cpus[1][key]
        for key in ("profile", "container", "minKHz", "maxKHz", "governor", "epp", "cstates")
    } == {
        "profile": "slow",
        "container": None,
        "minKHz": 1000000,
        "maxKHz": 1500000,
        "governor": "powersave",
        "epp": "power",
        "cstates": {"C6": False},
    }
    assert {
        key: cpus[0][key] for key in ("profile", "minKHz", "maxKHz", "governor", "epp", "cstates")
    } == dict.fromkeys(("profile", "minKHz", "maxKHz", "governor", "epp", "cstates"))
    (node_plan,) = plan["nodes"]
    assert node_plan["extendedResources"] == {"power.openshift.io/fast": 4}
    assert [
        (item["name"], item["package"], item["die"], item["minKHz"], item["maxKHz"])
        for item in node_plan["uncore"]
    ] == [("package_00_die_00", 0, 0, 1000000, 2000000)]
    assert all(item["because"] for item in cpus.values())
    assert unchanged(before, tree)
    assert not state.exists()


def test_plan_prints_the_same_in_every_format(policy: Path, tree: Path) -> None:
    words = ["plan", "-f", policy, "--sysfs", tree]
    ran = {form: kpm(*words, "-o", form) for form in ("json", "yaml", "table")}
    assert json.loads(ran["json"].out) == yaml.safe_load(ran["yaml"].out)
    assert kpm(*words).out == ran["table"].out
    assert_names(
        ran["table"].out,
        [
            "1-3",
            "shared",
            "slow",
            " 1..1.5 ",
            "power",
            "C6:off",
            "package_00_die_00",
            "power.openshift.io/fast=4",
        ],
    )


def test_plan_of_several_machines(tmp_path: Path) -> None:
    documents = [
        profile("slow", shared=True, pstates={"max": 1500}),
        workload("w-a", "slow", node="a"),
        workload("w-b", "slow", node="b", reservedCPUs=[{"cores": [1]}]),
        node("a"),
        node("b"),
        node("c"),
        profile("fast"),
        pod("x", 1, on="b"),
        pod("y", 1, on="nowhere"),
        pod("z", 1, on=None),
    ]
    for name, model in {"a": {"cores": 2}, "b": {"model": "vm", "cores": 3}}.items():
        (tmp_path / f"{name}.json").write_text(as_json(model))
    machines = ["--machine", f"b={tmp_path / 'b.json'}", "--machine", f"a={tmp_path / 'a.json'}"]
    plan = planned("-f", "-", *machines, "--assign-cpus", stdin=as_yaml(*documents))
    assert [item["node"] for item in plan["nodes"]] == ["a", "b"]
    assert pools(plan, "a") == ["shared", "shared"]
    assert sorted(pools(plan, "b")) == ["exclusive", "reserved", "shared"]
    ran = kpm("plan", "-f", "-", *machines, "--assign-cpus", stdin=as_yaml(*documents))
    assert re.search(r"^warning: .*default/y, default/z", ran.err, re.MULTILINE)
    assert ran.out.index("\na\n") if not ran.out.startswith("a\n") else True
    only = planned("-f", "-", *machines, "--node", "a", stdin=as_yaml(*documents))
    assert [item["node"] for item in only["nodes"]] == ["a"]
    answer = tmp_path / "answer.json"
    answer.write_text(
        json.dumps(
            {
                "podResources": [
                    {
                        "namespace": "default",
                        "name": "x",
                        "containers": [{"name": "app", "cpuIds": ["2"]}],
                    }
                ]
            }
        )
    )
    owned = planned(
        "-f", "-", *machines, "--pod-resources", f"b={answer}", stdin=as_yaml(*documents)
    )
    assert cpus_of(owned, "b")[2]["container"]["pod"] == "x"


def test_one_named_machine_is_that_node(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"model": "xeon"}')
    assert planned("-f", policy, "--machine", f"n={tmp_path / 'm.json'}")["nodes"][0]["node"] == "n"
    assert (
        planned("-f", policy, "--machine", f"other={tmp_path / 'm.json'}")["nodes"][0]["node"]
        == "other"
    )
    odd = tmp_path / "a=b.json"
    odd.write_text('{"model": "vm"}')
    assert planned("-f", policy, "--machine", odd)["nodes"][0]["node"] == "n"


def test_which_node_a_plan_is_for(tree: Path) -> None:
    one, none = (
        as_yaml(profile("p", shared=True), workload("w", "p"), node("n")),
        as_yaml(profile("p", shared=True), workload("w", "p")),
    )
    assert planned("-f", "-", "--sysfs", tree, stdin=one)["nodes"][0]["node"] == "n"
    assert (
        planned("-f", "-", "--sysfs", tree, stdin=none)["nodes"][0]["node"] == os.uname().nodename
    )
    by_name = planned("-f", "-", "--sysfs", tree, "--node", "n", stdin=none)
    assert pools(by_name, "n") == ["shared"] * 4, (
        "a node that nobody describes has its host name as label"
    )
    both = as_yaml(profile("p", shared=True), workload("w", "p"), node("n"), node("m"))
    assert (
        pools(planned("-f", "-", "--sysfs", tree, "--node", "m", stdin=both)) == ["unmanaged"] * 4
    )


@pytest.fixture
def wanted_plan(policy: Path, tree: Path) -> str:
    return kpm("plan", "-f", policy, "--sysfs", tree, "-o", "json").out


def test_every_way_of_giving_objects_gives_the_same_plan(
    policy: Path, tree: Path, tmp_path: Path, wanted_plan: str
) -> None:
    """YAML, JSON, lists of all forms, several files, a folder, standard input, in any order."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, document in enumerate(reversed(POLICY)):
        (folder / f"{number}.{('yaml', 'yml', 'json')[number % 3]}").write_text(as_json(document))
    (folder / "notes.txt").write_text("{")
    (folder / "sub").mkdir()
    (folder / "sub" / "more.yaml").write_text("{")
    whole = {"apiVersion": "v1", "kind": "List", "items": POLICY}
    typed = {
        "apiVersion": POLICY[0]["apiVersion"],
        "kind": "PowerProfileList",
        "metadata": {"resourceVersion": "1"},
        "items": [
            {k: v for k, v in item.items() if k not in ("apiVersion", "kind")}
            for item in POLICY[:2]
        ],
    }
    flow = "\n---\n".join(map(as_json, POLICY))
    ways: dict[str, tuple[list[object], str | None]] = {
        "folder": (["-f", folder], None),
        "several files": (
            [
                word
                for file in sorted(folder.glob("*.*"))
                if file.suffix != ".txt"
                for word in ("-f", file)
            ],
            None,
        ),
        "standard input": (["-f", "-"], policy.read_text()),
        "list as YAML": (["-f", "-"], as_yaml(whole)),
        "list as JSON": (["-f", "-"], as_json(whole)),
        "list of one kind": (["-f", "-"], as_yaml(typed, *POLICY[2:])),
        "indented JSON": (["-f", "-"], json.dumps(whole, indent=4)),
        "JSON with a mark of byte order": (["-f", "-"], f"\ufeff{as_json(whole)}"),
        "YAML with a mark of byte order": (["-f", "-"], f"\ufeff{policy.read_text()}"),
        "YAML with carriage returns": (["-f", "-"], policy.read_text().replace("\n", "\r\n")),
        "many documents of JSON": (["-f", "-"], flow),
        "empty documents between": (
            ["-f", "-"],
            "---\n" + "\n---\n---\n".join(map(as_yaml, POLICY)) + "\n---\n...\n",
        ),
        "flow YAML": (
            ["-f", "-"],
            "\n---\n".join(
                yaml.safe_dump(item, default_flow_style=True, width=10_000) for item in POLICY
            ),
        ),
        "shuffled": (["-f", "-"], as_yaml(*POLICY[::-1])),
        "a list and a file": (
            ["-f", "-", "-f", folder / "0.yaml"],
            as_yaml({**whole, "items": POLICY[:-1]}),
        ),
    }
    for way, (words, stdin) in ways.items():
        ran = kpm("plan", *words, "--sysfs", tree, "-o", "json", stdin=stdin)
        assert ran.out == wanted_plan, (way, ran.err)
        assert not ran.err, way
    for name in ("x.json", "x.yaml", "x"):
        (tmp_path / name).write_text(flow)
        assert (
            kpm("plan", "-f", tmp_path / name, "--sysfs", tree, "-o", "json").out == wanted_plan
        ), name


def test_a_pipe_may_be_a_file(policy: Path, tree: Path, wanted_plan: str) -> None:
    """As in `kpm plan -f <(helm template …)`."""
    reader, writer = os.pipe()
    os.write(writer, policy.read_bytes())
    os.close(writer)
    try:
        assert (
            kpm("plan", "-f", f"/dev/fd/{reader}", "--sysfs", tree, "-o", "json").out == wanted_plan
        )
    finally:
        os.close(reader)


def test_unknown_kinds_are_ignored_with_a_warning(
    policy: Path, tree: Path, wanted_plan: str
) -> None:
    odd: list[dict[str, Any]] = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}},
        {"apiVersion": "power.openshift.io/v1", "kind": "PowerFuture", "spec": 7},
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}},
        {"apiVersion": "cluster.x/v1", "kind": "PowerProfile", "spec": [1]},
    ]
    ran = kpm("plan", "-f", policy, "-f", "-", "--sysfs", tree, "-o", "json", stdin=as_yaml(*odd))
    assert ran.out == wanted_plan
    assert ran.err.splitlines() == [
        f"warning: standard input: document {number}: {item['kind']}{'/d' if number == 1 else ''}"
        f" of {item['apiVersion']} is ignored"
        for number, item in enumerate(odd, 1)
    ]
    nested = kpm(
        "plan",
        "-f",
        policy,
        "-f",
        "-",
        "--sysfs",
        tree,
        "-o",
        "json",
        stdin=as_yaml({"apiVersion": "v1", "kind": "List", "items": odd}),
    )
    assert nested.out == wanted_plan
    assert len(nested.err.splitlines()) == len(odd)


def test_what_this_system_writes_itself_is_read_without_a_word(
    policy: Path, tree: Path, wanted_plan: str
) -> None:
    """`kubectl get … -o yaml` of everything may be given as it is."""
    own = [
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": kind,
            "metadata": {"name": "n", "namespace": "power-manager"},
            "spec": {},
            "status": {"a": [1]},
        }
        for kind in ("PowerNode", "PowerNodeState")
    ]
    ran = kpm("plan", "-f", policy, "-f", "-", "--sysfs", tree, "-o", "json", stdin=as_yaml(*own))
    assert (ran.out, ran.err) == (wanted_plan, "")


def test_both_groups_are_read(tree: Path) -> None:
    """Prefix and namespace follow the group; one name in both is an error."""
    intel = {
        **profile("turbo"),
        "apiVersion": INTEL_GROUP,
        "metadata": {"name": "turbo", "namespace": "intel-power"},
    }
    plan = planned("-f", "-", "--sysfs", tree, stdin=as_yaml(profile("fast"), intel, node("n")))
    assert plan["nodes"][0]["extendedResources"] == {
        "power.intel.com/turbo": 4,
        "power.openshift.io/fast": 4,
    }
    assert plan["problems"] == []
    wrong = {**intel, "metadata": {"name": "turbo", "namespace": "power-manager"}}
    plan = planned("-f", "-", "--sysfs", tree, stdin=as_yaml(wrong, node("n")))
    assert plan["nodes"][0]["extendedResources"] == {}
    assert [(item["severity"], item["object"]) for item in plan["problems"]] == [
        ("warning", "PowerProfile/turbo")
    ]
    twice = planned(
        "-f", "-", "--sysfs", tree, stdin=as_yaml(profile("turbo"), intel, node("n")), code=1
    )
    assert [item["code"] for item in twice["problems"]] == ["name-in-both-groups"]


@pytest.mark.parametrize("ids", [[2, 3], ["2", "3"], ["3", 2], ["02", "3"], [2, "2", 3]])
@pytest.mark.parametrize("names", [("podResources", "cpuIds"), ("pod_resources", "cpu_ids")])
def test_pod_resources_in_every_spelling(
    ids: list[object], names: tuple[str, str], policy: Path, tree: Path, tmp_path: Path
) -> None:
    answer = {
        names[0]: [
            {
                "namespace": "default",
                "name": "web",
                "containers": [
                    {
                        "name": "app",
                        names[1]: ids,
                        "devices": [{"resourceName": "x/y"}],
                        "memory": [],
                    }
                ],
            }
        ]
    }
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    plan = planned(
        "-f",
        policy,
        "-f",
        "-",
        "--sysfs",
        tree,
        "--pod-resources",
        tmp_path / "answer.json",
        stdin=as_yaml(pod("web")),
    )
    assert pools(plan) == ["reserved", "shared", "exclusive", "exclusive"]
    assert cpus_of(plan)[2]["container"] == {
        "namespace": "default",
        "pod": "web",
        "uid": "",
        "name": "app",
        "id": "",
    }
    assert cpus_of(plan)[2]["minKHz"] == 800000 + (3700000 - 800000) // 2
    assert cpus_of(plan)[2]["cstates"] == {"POLL": True, "C1": True, "C1E": False, "C6": False}


def test_pods_of_one_name_in_two_namespaces(policy: Path, tree: Path, tmp_path: Path) -> None:
    """Row 3 of what users hit: each gets exactly its own CPUs."""
    entries = [
        {"namespace": space, "name": "web", "containers": [{"name": "app", "cpuIds": [cpu]}]}
        for space, cpu in (("x", 1), ("y", 3))
    ]
    (tmp_path / "answer.json").write_text(json.dumps({"podResources": entries}))
    both = [pod("web", 1, namespace="x"), pod("web", 1, asks=None, namespace="y")]
    cpus = cpus_of(
        planned(
            "-f",
            policy,
            "-f",
            "-",
            "--sysfs",
            tree,
            "--pod-resources",
            tmp_path / "answer.json",
            stdin=as_yaml(*both),
        )
    )
    assert {cpu: (item["container"] or {}).get("namespace") for cpu, item in cpus.items()} == {
        0: None,
        1: "x",
        2: None,
        3: "y",
    }
    assert (cpus[1]["profile"], cpus[3]["profile"]) == ("fast", "slow")


def test_a_terminated_pod_owns_nothing(policy: Path, tree: Path, tmp_path: Path) -> None:
    """Row 27: the kubelet still lists it; the running one has the CPU."""
    entries = [
        {"namespace": "default", "name": name, "containers": [{"name": "app", "cpuIds": [2]}]}
        for name in ("old", "new")
    ]
    (tmp_path / "answer.json").write_text(json.dumps({"podResources": entries}))
    for phase in ("Succeeded", "Failed"):
        old = {**pod("old", 1), "status": {"phase": phase}}
        cpus = cpus_of(
            planned(
                "-f",
                policy,
                "-f",
                "-",
                "--sysfs",
                tree,
                "--pod-resources",
                tmp_path / "answer.json",
                stdin=as_yaml(old, pod("new", 1)),
            )
        )
        assert cpus[2]["container"]["pod"] == "new"


def test_unknown_allocation_is_not_an_empty_one(policy: Path, tree: Path) -> None:
    """R7: with a pod that could own CPUs and no answer of the kubelet, nothing that could be
    allocated is planned to change.
    """
    plan = planned("-f", policy, "-f", "-", "--sysfs", tree, stdin=as_yaml(pod("web")))
    assert {item["code"] for item in plan["nodes"][0]["problems"]} >= {"allocation-unknown"}
    ran = kpm("diff", "-f", policy, "-f", "-", "--sysfs", tree, stdin=as_yaml(pod("web")))
    assert not [line for line in ran.out.splitlines() if "cpufreq" in line or "cpuidle" in line]


def test_assign_cpus_packs_whole_cores(policy: Path, tree: Path) -> None:
    plan = planned(
        "-f", policy, "-f", "-", "--sysfs", tree, "--assign-cpus", stdin=as_yaml(pod("web", 2))
    )
    assert pools(plan) == [
        "reserved",
        "shared",
        "exclusive",
        "exclusive",
    ], "CPUs 2 and 3 are one core"
    ran = kpm(
        "plan",
        "-f",
        policy,
        "-f",
        "-",
        "--sysfs",
        tree,
        "--assign-cpus",
        stdin=as_yaml(pod("big", 4)),
    )
    assert re.search(
        r"^warning: pod default/big container app wants 4 CPUs, 3 are free on n$",
        ran.err,
        re.MULTILINE,
    )
    fraction = planned(
        "-f",
        policy,
        "-f",
        "-",
        "--sysfs",
        tree,
        "--assign-cpus",
        stdin=as_yaml(pod("some", "1500m", asks=None)),
    )
    assert "exclusive" not in pools(fraction)


def test_plan_ends_with_1_where_an_object_has_errors(tree: Path) -> None:
    wrong = profile("fast", pstates={"min": 9000, "max": 9500})
    plan = planned("-f", "-", "--sysfs", tree, stdin=as_yaml(wrong, node("n")), code=1)
    problems = plan["nodes"][0]["problems"]
    told = {
        ("error", "PowerProfile/fast", "frequency-range"),
        ("warning", "PowerProfile/fast", "version-unknown"),
    }
    assert {(item["severity"], item["object"], item["code"]) for item in problems} == told
    ran = kpm("plan", "-f", "-", "--sysfs", tree, stdin=as_yaml(wrong, node("n")))
    assert ran.code == 1
    assert "error: PowerProfile/fast: spec.pstates" in ran.out


# --- diff and apply ---

LINE = re.compile(
    r"^(?P<path>devices/system/cpu/\S+): (?P<old>\S+) -> (?P<new>\S+)  \((?P<why>.+)\)$"
)


def test_diff_shows_each_write_with_its_reason(policy: Path, tree: Path, state: Path) -> None:
    before = tree_hash(tree)
    ran = kpm("diff", "--files", "-f", policy, "--sysfs", tree, "--state-dir", state)
    assert ran.code == 1
    lines = [LINE.match(line) for line in ran.out.splitlines()]
    assert all(lines), ran.out
    found = {
        line["path"].removeprefix(f"{CPU}/"): (line["old"], line["new"], line["why"])
        for line in lines
        if line
    }
    own = {
        path: found[path][:2]
        for path in found
        if "policy1/" in path or "cpu1/" in path or "uncore" in path
    }
    assert own == {
        "cpufreq/policy1/scaling_min_freq": ("800000", "1000000"),
        "cpufreq/policy1/scaling_max_freq": ("3700000", "1500000"),
        "cpufreq/policy1/energy_performance_preference": ("balance_performance", "power"),
        "cpu1/cpuidle/state3/disable": ("0", "1"),
        "intel_uncore_frequency/package_00_die_00/min_freq_khz": ("800000", "1000000"),
        "intel_uncore_frequency/package_00_die_00/max_freq_khz": ("2400000", "2000000"),
    }
    assert not any("policy0/" in path or "cpu0/" in path for path in found), (
        "a reserved CPU without profile stays as it is"
    )
    assert_names(found["cpufreq/policy1/scaling_min_freq"][2], ["slow", "1000"])
    assert_names(found["cpufreq/policy1/energy_performance_preference"][2], ["slow", "power"])
    assert unchanged(before, tree)
    assert not state.exists()


@pytest.mark.parametrize(
    ("shown", "asked", "order"),
    [
        ((800, 900), (1000, 1500), ["max", "min"]),
        ((3000, 3700), (1000, 1500), ["min", "max"]),
        ((1500, 1500), (1600, 1600), ["max", "min"]),
        ((1600, 1600), (1500, 1500), ["min", "max"]),
        ((800, 3700), (1000, 1500), ["min", "max"]),
        ((1000, 1500), (1000, 1500), []),
        ((1000, 1600), (1000, 1500), ["max"]),
    ],
)
def test_the_order_of_writes_never_crosses(
    shown: tuple[int, int], asked: tuple[int, int], order: list[str], tree: Path, state: Path
) -> None:
    """A raised maximum before a raised minimum, a lowered minimum before a lowered maximum; and
    governor and EPP before both (A2).
    """
    for cpu in range(4):
        put(tree, f"{CPU}/cpufreq/policy{cpu}/scaling_min_freq", shown[0] * 1000)
        put(tree, f"{CPU}/cpufreq/policy{cpu}/scaling_max_freq", shown[1] * 1000)
    spec = {
        "shared": True,
        "pstates": {
            "min": asked[0],
            "max": asked[1],
            "governor": "performance",
            "epp": "performance",
        },
    }
    objects = as_yaml(profile("p", **spec), workload("w", "p"), node("n"))
    words = ["-f", "-", "--sysfs", tree, "--state-dir", state, "-o", "json"]
    writes = json.loads(kpm("diff", *words, stdin=objects).out)["writes"]
    names = [item["path"].rpartition("/")[2] for item in writes if item["group"] == "cpufreq:2"]
    limit_names = [f"scaling_{name}_freq" for name in order]
    assert names[:2] == ["scaling_governor", "energy_performance_preference"]
    low, high = shown[0], shown[1]
    if (
        order in (["max", "min"], ["min", "max"])
        and low <= asked[0] <= high
        and low <= asked[1] <= high
    ):
        assert sorted(names[2:]) == sorted(limit_names), (
            "either order is legal where the ranges nest"
        )
    else:
        assert names[2:] == limit_names
    applied = json.loads(kpm("apply", *words, stdin=objects).out)
    assert [item["path"] for item in applied["writes"]] == [item["path"] for item in writes]


def test_diff_is_what_apply_writes(policy: Path, tree: Path, state: Path) -> None:
    words = ["-f", policy, "--sysfs", tree, "--state-dir", state]
    shown = kpm("diff", "--files", *words)
    structured = {form: kpm("diff", *words, "-o", form) for form in ("json", "yaml")}
    content = json.loads(structured["json"].out)
    assert content == yaml.safe_load(structured["yaml"].out)
    assert content["version"] == 1
    assert len(content["writes"]) == len(shown.out.splitlines())
    assert all(
        item.keys() >= {"path", "old", "value", "reason", "because"} and item["because"]
        for item in content["writes"]
    )
    dry = kpm("apply", *words, "--dry-run", "--files")
    assert (dry.code, dry.out) == (1, shown.out)
    ran = kpm("apply", *words, "-o", "json")
    assert ran.code == 0
    assert json.loads(ran.out)["settled"] is True
    assert [(item["path"], item["value"]) for item in json.loads(ran.out)["writes"]] == [
        (item["path"], item["value"]) for item in content["writes"]
    ]
    again = kpm("diff", *words)
    assert (again.code, again.out) == (0, "0 writes, 0 restored, 0 errors\n")
    assert json.loads(kpm("diff", *words, "-o", "json").out)["writes"] == []


def test_a_dry_run_writes_nothing(policy: Path, tree: Path, state: Path) -> None:
    before = tree_hash(tree)
    ran = kpm("apply", "-f", policy, "--sysfs", tree, "--state-dir", state, "--dry-run", "--files")
    assert ran.code == 1
    assert LINE.match(ran.out.splitlines()[0])
    assert unchanged(before, tree)
    assert not state.exists()


def test_apply_then_apply_then_restore(policy: Path, tree: Path, state: Path) -> None:
    before = tree_hash(tree)
    words = ["--sysfs", tree, "--state-dir", state]
    first = kpm("apply", "-f", policy, *words)
    assert (first.code, first.err) == (0, "") or "sibling-conflict" in first.err
    assert re.search(r"^14 files written, settled$", first.out, re.MULTILINE), first.out
    assert limits(tree, 0) == ("800000", "3700000", "powersave", "balance_performance")
    assert [limits(tree, cpu) for cpu in (1, 2, 3)] == [
        ("1000000", "1500000", "powersave", "power")
    ] * 3
    assert [text(tree, f"cpu{cpu}/cpuidle/state3/disable") for cpu in range(4)] == [
        "0",
        "1",
        "1",
        "1",
    ]
    assert text(tree, "intel_uncore_frequency/package_00_die_00/max_freq_khz") == "2000000"
    applied, times = tree_hash(tree), {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    held = {path: path.stat().st_mtime_ns for path in state.glob("*.json")}
    second = kpm("apply", "-f", policy, *words)
    assert second.code == 0
    assert "0 files written, settled" in second.out
    assert unchanged(applied, tree)
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == times, (
        "not one write, not even of the same value"
    )
    assert {path: path.stat().st_mtime_ns for path in state.glob("*.json")} == held
    back = kpm("restore", *words)
    assert back.code == 0
    assert "14 files written" in back.out
    assert unchanged(before, tree)
    nothing = kpm("restore", *words)
    assert (nothing.code, nothing.err) == (0, "")
    assert "0 files written, settled" in nothing.out
    (file,) = state.glob("*.json")
    assert json.loads(file.read_text())["records"] == []


@pytest.mark.parametrize("name", TREES)
def test_restore_leaves_every_tree_as_it_was(name: str, tmp_path: Path, state: Path) -> None:
    root = build_tree(tmp_path / "sys", TREES[name])
    before = tree_hash(root)
    objects = as_yaml(
        profile(
            "p", shared=True, pstates={"min": "10%", "max": "60%"}, cstates={"maxLatencyUs": 2}
        ),
        workload("w", "p", reservedCPUs=[{"cores": [1]}]),
        node("n"),
    )
    words = ["--sysfs", root, "--state-dir", state]
    assert kpm("apply", "-f", "-", *words, stdin=objects).code == 0
    assert unchanged(before, root) is (name == "vm")
    assert kpm("diff", "-f", "-", *words, stdin=objects).code == 0
    # nothing was written to a machine that can do nothing, so nothing is recorded
    assert kpm("restore", *words).code == (2 if name == "vm" else 0)
    assert unchanged(before, root)


def test_dumps_can_be_applied_and_restored(dump: Path, state: Path) -> None:
    before = tree_hash(dump)
    objects = as_yaml(
        profile("p", shared=True, pstates={"min": "0%", "max": "50%"}, cstates={"maxLatencyUs": 2}),
        workload("w", "p", reservedCPUs=[{"cores": [0]}]),
        node("n"),
    )
    words = ["--sysfs", dump, "--state-dir", state]
    assert kpm("apply", "-f", "-", *words, stdin=objects).code == 0
    assert not unchanged(before, dump)
    assert kpm("diff", "-f", "-", *words, stdin=objects).code == 0
    assert kpm("restore", *words).code == 0
    assert unchanged(before, dump)


def test_a_plan_leaves_no_residue(tree: Path, tmp_path: Path, state: Path) -> None:
    """R1: A then B leaves what B alone leaves; the plan itself does not depend on what was applied
    before.
    """
    first = as_yaml(
        profile(
            "p",
            shared=True,
            pstates={"max": 1500, "epp": "power", "governor": "powersave"},
            cstates={"names": {"C6": False, "C1E": False}},
        ),
        workload("w", "p"),
        node("n"),
    )
    second = as_yaml(
        profile("q", shared=True, pstates={"min": 1200}, cstates={"names": {"C1": False}}),
        workload("w", "q", reservedCPUs=[{"cores": [2]}]),
        node("n"),
    )
    alone = build_tree(tmp_path / "alone")
    clean = kpm("plan", "-f", "-", "--sysfs", alone, "-o", "json", stdin=second).out
    for objects in (first, second):
        assert (
            kpm("apply", "-f", "-", "--sysfs", tree, "--state-dir", state, stdin=objects).code == 0
        )
    assert (
        kpm(
            "plan", "-f", "-", "--sysfs", tree, "--state-dir", state, "-o", "json", stdin=second
        ).out
        == clean
    )
    assert kpm("apply", "-f", "-", "--sysfs", alone, "--state-dir", state, stdin=second).code == 0
    assert tree_hash(tree) == tree_hash(alone)
    assert (
        kpm(
            "apply", "-f", "-", "--sysfs", tree, "--state-dir", state, stdin=as_yaml(node("n"))
        ).code
        == 0
    )
    assert tree_hash(tree) == tree_hash(build_tree(tmp_path / "fresh"))


def test_what_somebody_else_wrote_is_repaired(policy: Path, tree: Path, state: Path) -> None:
    words = ["-f", policy, "--sysfs", tree, "--state-dir", state]
    kpm("apply", *words)
    put(tree, f"{CPU}/cpufreq/policy2/scaling_max_freq", 2222000)
    shown = kpm("diff", *words, "--files")
    assert shown.code == 1
    (line,) = shown.out.splitlines()
    assert_names(
        line, ["policy2/scaling_max_freq", "2222000 -> 1500000", "changed by somebody else"]
    )
    ran = kpm("apply", *words)
    assert ran.code == 0
    assert text(tree, "cpufreq/policy2/scaling_max_freq") == "1500000"
    assert kpm("diff", *words).code == 0
    assert kpm("restore", *words[2:]).code == 0
    assert (
        tree_hash(tree)[f"{CPU}/cpufreq/policy2/scaling_max_freq"]
        == tree_hash(tree)[f"{CPU}/cpufreq/policy0/scaling_max_freq"]
    )


def test_shared_domains_are_written_once(tmp_path: Path, state: Path) -> None:
    root = build_tree(tmp_path / "sys", SHARED_DOMAINS)
    objects = as_yaml(
        profile("p", shared=True, pstates={"max": 1500}), workload("w", "p"), node("n")
    )
    words = ["--files", "--sysfs", root, "--state-dir", state]
    ran = kpm("diff", "-f", "-", *words, stdin=objects)
    assert [line.partition(":")[0] for line in ran.out.splitlines()] == [
        f"{CPU}/cpufreq/policy{number}/scaling_max_freq" for number in (0, 2)
    ]


# --- exit status 1 ---


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def link_outside(file: Path) -> None:
    outside = file.parents[5] / "outside"
    outside.write_text("3700000\n")
    file.unlink()
    file.symlink_to(outside)


def link_inside(file: Path) -> None:
    file.unlink()
    file.symlink_to("cpuinfo_max_freq")


def missing(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize(
    "damage", [directory, link_outside, link_inside, missing], ids=lambda item: item.__name__
)
@pytest.mark.parametrize("output", ["table", "json"])
def test_a_write_that_fails_costs_that_file_only(
    damage: Any, output: str, policy: Path, tree: Path, state: Path
) -> None:
    """A4: path, value and errno are reported, exit 1, and everything
    else is applied and restored.
    """
    file = tree / CPU / "cpufreq/policy2/scaling_max_freq"
    damage(file)
    before = tree_hash(tree.parent)
    ran = kpm("apply", "-f", policy, "--sysfs", tree, "--state-dir", state, "-o", output)
    assert ran.code == 1
    if output == "json":
        (bad,) = [item for item in json.loads(ran.out)["outcomes"] if item["status"] == "failed"]
        assert bad["path"] == f"{CPU}/cpufreq/policy2/scaling_max_freq"
        assert bad["wanted"] == "1500000"
        assert bad["errno"] in ("EISDIR", "ELOOP", "ENOENT", "EINVAL")
        assert json.loads(ran.out)["settled"] is False
    else:
        (line,) = [line for line in ran.err.splitlines() if "policy2" in line]
        assert_names(line, [f"{CPU}/cpufreq/policy2/scaling_max_freq", "1500000"])
        assert re.search(r"E(ISDIR|LOOP|NOENT|INVAL)", line)
        assert "NOT settled" in ran.out
    assert limits(tree, 3) == limits(tree, 1) == ("1000000", "1500000", "powersave", "power")
    assert text(tree, "cpufreq/policy2/energy_performance_preference") == "power"
    assert text(tree, "cpu2/cpuidle/state3/disable") == "1"
    assert text(tree, "cpufreq/policy2/cpuinfo_max_freq") == "3700000"
    kpm("restore", "--sysfs", tree, "--state-dir", state)
    assert tree_hash(tree.parent) == before, "what leads out of the tree was never followed"


def test_a_folder_that_leads_outside_is_not_followed(
    policy: Path, tree: Path, tmp_path: Path, state: Path
) -> None:
    """A5: a whole policy elsewhere is none of ours."""
    outside = tmp_path / "outside"
    (tree / CPU / "cpufreq/policy2").rename(outside)
    (tree / CPU / "cpufreq/policy2").symlink_to(outside)
    before = tree_hash(outside)
    kpm("apply", "-f", policy, "--sysfs", tree, "--state-dir", state)
    assert tree_hash(outside) == before
    assert limits(tree, 1)[1] == "1500000"


def test_files_that_may_not_be_written(policy: Path, tree: Path, tmp_path: Path) -> None:
    """As another user on a tree that only root may write: exit 1, the files are named, nothing has
    changed.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    open_to_all(tmp_path)
    state = tmp_path / "own"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    before = tree_hash(tree)
    kpm(
        "apply",
        "-f",
        policy,
        "--sysfs",
        build_tree(tmp_path / "warm"),
        "--state-dir",
        tmp_path / "other",
    )
    ran = run_as_nobody("apply", "-f", policy, "--sysfs", tree, "--state-dir", state)
    assert ran.code == 1
    assert_names(ran.err, [f"{CPU}/cpufreq/policy1/scaling_max_freq", "1500000", "EACCES"])
    assert "Traceback" not in ran.err
    assert unchanged(before, tree)


def test_object_errors_end_with_1_and_the_rest_is_applied(tree: Path, state: Path) -> None:
    wrong = [
        profile("broken", pstates={"min": "90%", "max": "10%"}),
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": "Uncore",
            "metadata": {"name": "n"},
            "spec": {"sysMin": 900000},
        },
    ]
    ran = kpm(
        "apply",
        "-f",
        "-",
        "--sysfs",
        tree,
        "--state-dir",
        state,
        stdin=as_yaml(*POLICY[:3], *wrong, node("n")),
    )
    assert ran.code == 1
    assert_names(ran.err, ["error: PowerProfile/broken: spec.pstates", "error: Uncore/n: spec"])
    assert "settled" in ran.out
    assert "NOT" not in ran.out
    assert limits(tree, 1) == ("1000000", "1500000", "powersave", "power")
    again = kpm(
        "apply",
        "-f",
        "-",
        "--sysfs",
        tree,
        "--state-dir",
        state,
        stdin=as_yaml(*POLICY[:3], *wrong, node("n")),
    )
    assert again.code == 1
    assert "0 files written" in again.out


# --- state ---


def test_the_state_folder_by_option_and_by_environment(policy: Path, tmp_path: Path) -> None:
    """The option wins; one file for each root, private to its owner."""
    trees = [build_tree(tmp_path / name / "sys") for name in ("a", "b")]
    by_option, by_environment = tmp_path / "option", tmp_path / "deep" / "environment"
    for root in trees:
        assert (
            kpm(
                "apply", "-f", policy, "--sysfs", root, env={"KPM_STATE_DIR": str(by_environment)}
            ).code
            == 0
        )
    files = sorted(by_environment.glob("*.json"))
    assert len(files) == 2
    assert {json.loads(file.read_text())["root"] for file in files} == {str(root) for root in trees}
    assert {file.stat().st_mode & 0o777 for file in by_environment.iterdir()} == {0o600}
    assert by_environment.stat().st_mode & 0o777 == 0o700
    third = build_tree(tmp_path / "c" / "sys")
    assert (
        kpm(
            "apply",
            "-f",
            policy,
            "--sysfs",
            third,
            "--state-dir",
            by_option,
            env={"KPM_STATE_DIR": str(by_environment)},
        ).code
        == 0
    )
    assert len(list(by_option.glob("*.json"))) == 1
    assert len(list(by_environment.glob("*.json"))) == 2
    unknown = kpm("restore", "--sysfs", third, env={"KPM_STATE_DIR": str(by_environment)})
    assert unknown.code == 2
    assert unknown.err == f"kpm: no record for this tree in {by_environment}\n"
    assert (
        "14 files written"
        in kpm("restore", "--sysfs", trees[0], env={"KPM_STATE_DIR": str(by_environment)}).out
    )
    assert limits(trees[1], 1)[1] == "1500000"


def test_a_root_is_one_root_by_any_name(
    policy: Path, tree: Path, tmp_path: Path, state: Path
) -> None:
    (tmp_path / "link").symlink_to(tree)
    before = tree_hash(tree)
    kpm("apply", "-f", policy, "--sysfs", tmp_path / "link", "--state-dir", state)
    assert (
        kpm("diff", "-f", policy, "--sysfs", f"{tree}/../{tree.name}/", "--state-dir", state).code
        == 0
    )
    assert kpm("restore", "--sysfs", os.path.relpath(tree), "--state-dir", state).code == 0
    assert unchanged(before, tree)
    assert len(list(state.glob("*.json"))) == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 1}',
        '{"version": 2, "records": []}',
        '{"version": "1"}',
        "\x00\xff",
        '{"version": 1, "records": [{}], "bootId": null}',
    ],
)
def test_a_state_that_is_damaged_or_newer_stops_every_write(
    content: str, policy: Path, tree: Path, state: Path
) -> None:
    """A7: no write to the tree, one line that says what to do, and the file is left for a person to
    look at.
    """
    kpm("apply", "-f", policy, "--sysfs", tree, "--state-dir", state)
    (file,) = state.glob("*.json")
    file.write_text(content)
    put(tree, f"{CPU}/cpufreq/policy2/scaling_max_freq", 2222000)
    before = tree_hash(tree)
    for words in (
        ["apply", "-f", policy],
        ["restore"],
        ["diff", "-f", policy],
        ["plan", "-f", policy],
        ["apply", "-f", policy, "--dry-run"],
    ):
        ran = kpm(*words, "--sysfs", tree, "--state-dir", state)
        assert ran.code in (1, 2)
        (line,) = ran.complaints
        assert_names(line, ["kpm: ", file, "version" if "2" in content else "damaged"])
    assert unchanged(before, tree)
    assert file.read_text() == content


def test_a_state_folder_that_cannot_be_used(policy: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = tree_hash(tree)
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        for words in (["apply", "-f", policy], ["restore"]):
            ran = kpm(*words, "--sysfs", tree, "--state-dir", folder)
            assert ran.code in (1, 2)
            (line,) = ran.complaints
            assert_names(line, [folder])
    assert unchanged(before, tree)


def test_one_writer_at_a_time(policy: Path, tree: Path, state: Path) -> None:
    """The second one is told who holds the root, and writes nothing; reading goes on."""
    kpm("apply", "-f", policy, "--sysfs", tree, "--state-dir", state)
    kpm("restore", "--sysfs", tree, "--state-dir", state)
    (lock,) = state.glob("*.lock")
    before = tree_hash(tree)
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for words in (["apply", "-f", policy], ["restore"]):
            ran = kpm(*words, "--sysfs", tree, "--state-dir", state)
            assert ran.code == 2
            (line,) = ran.complaints
            assert_names(line, [tree, f"process {os.getpid()}", "one writer"])
        assert kpm("diff", "-f", policy, "--sysfs", tree, "--state-dir", state).code == 1
        assert kpm("plan", "-f", policy, "--sysfs", tree, "--state-dir", state).code == 0
    assert unchanged(before, tree)
    assert kpm("apply", "-f", policy, "--sysfs", tree, "--state-dir", state).code == 0


# --- explain ---


def explained(policy: Path, tree: Path, *what: str, objects: list[Any] | None = None) -> str:
    ran = kpm(
        "explain",
        "-f",
        policy,
        "-f",
        "-",
        "--sysfs",
        tree,
        "--assign-cpus",
        *what,
        stdin=as_yaml(*(objects or [pod("web", 2)])),
    )
    assert ran.code == 0, ran
    return ran.out


def test_explain_a_cpu(policy: Path, tree: Path) -> None:
    shared = explained(policy, tree, "cpu", "1")
    assert_names(
        shared,
        [
            "CPU 1",
            "node n",
            "shared",
            "slow",
            "1..1.5 GHz",
            "power",
            "C6 off",
            "shared-n-workload",
        ],
    )
    assert_names(
        explained(policy, tree, "cpu", "0"), ["CPU 0", "reserved", "baseline", "shared-n-workload"]
    )
    owned = explained(policy, tree, "cpu", "2")
    assert_names(
        owned,
        ["CPU 2", "exclusive", "default/web", "app", "fast", "50%", "2.25 GHz", "maxLatencyUs"],
    )
    plan = planned(
        "-f", policy, "-f", "-", "--sysfs", tree, "--assign-cpus", stdin=as_yaml(pod("web", 2))
    )
    for reason in cpus_of(plan)[2]["because"]:
        assert reason in owned, "what explain says is what the plan's JSON says"


def test_explain_names_what_holds_a_cpu_back_that_no_object_asks_for(
    policy: Path, tree: Path
) -> None:
    put(tree, "firmware/acpi/platform_profile", "low-power")
    put(tree, f"{CPU}/cpu2/thermal_throttle/core_throttle_count", 3)
    line = "  not ours: the firmware's platform profile is low-power"
    for what, name in (("cpu", "2"), ("pod", "web")):
        lines = explained(policy, tree, what, name).splitlines()
        assert f"{line} (firmware/acpi/platform_profile)" in lines
        assert any("throttled for heat 3 times" in text for text in lines)
    assert "not ours" not in explained(policy, tree, "profile", "fast")
    ran = kpm("explain", "-f", policy, "--sysfs", tree, "-o", "json", "cpu", "1")
    assert json.loads(ran.out)["nodes"][0]["limits"] == [
        {
            "file": "firmware/acpi/platform_profile",
            "reason": "the firmware's platform profile is low-power",
        }
    ]


def test_explain_a_profile(policy: Path, tree: Path) -> None:
    assert_names(
        explained(policy, tree, "profile", "fast"),
        ["fast", "CPUs 2-3", "exclusive", "power.openshift.io/fast", "4"],
    )
    assert_names(explained(policy, tree, "profile", "slow"), ["slow", "CPUs 1", "shared"])
    wrong = explained(
        policy, tree, "profile", "wrong", objects=[profile("wrong", pstates={"min": 9000})]
    )
    assert_names(wrong, ["wrong", "no CPU uses it", "error: PowerProfile/wrong: spec.pstates.min"])


def test_explain_a_pod(policy: Path, tree: Path) -> None:
    for name in ("web", "default/web"):
        assert_names(
            explained(policy, tree, "pod", name), ["default/web", "app", "CPUs 2-3", "fast"]
        )
    odd = pod("odd", 1, "nothing-of-that-name")
    assert_names(
        explained(policy, tree, "pod", "default/odd", objects=[odd]),
        ["default/odd", "nothing-of-that-name"],
    )
    words = ["-f", policy, "--sysfs", tree]
    for what, name, near in (("pod", "x/none", "default/"), ("profile", "fats", "fast")):
        unknown = kpm("explain", *words, what, name)
        if what == "profile":
            assert_names(only_complaint(unknown), [near, name])
        else:
            assert_names(only_complaint(unknown), [name])


def test_explain_on_several_nodes(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"model": "vm"}')
    words = [
        "explain",
        "-f",
        policy,
        "--machine",
        f"a={tmp_path / 'm.json'}",
        "--machine",
        f"b={tmp_path / 'm.json'}",
    ]
    ran = kpm(*words, "cpu", "3")
    assert ran.code == 0
    assert_names(ran.out, ["CPU 3 on node a", "CPU 3 on node b"])
    assert "node b" not in kpm(*words, "--node", "a", "cpu", "3").out


# --- snapshot and replay ---


@pytest.mark.parametrize("source", ["assigned", "reported", "none"])
def test_a_recorded_plan_is_the_same_on_a_tree_that_has_changed(
    source: str, policy: Path, tree: Path, tmp_path: Path, state: Path
) -> None:
    (tmp_path / "answer.json").write_text(json.dumps({**ANSWER, "cpuIds": [1, 2, 3]}))
    (tmp_path / "pods.yaml").write_text(
        as_yaml(
            pod("web"),
            {**pod("gone", 1), "status": {"phase": "Failed"}},
            {"apiVersion": "v1", "kind": "ConfigMap"},
        )
    )
    ways: dict[str, list[object]] = {
        "assigned": ["--assign-cpus"],
        "reported": ["--pod-resources", tmp_path / "answer.json"],
        "none": [],
    }
    words = [
        "-f",
        policy,
        "-f",
        tmp_path / "pods.yaml",
        "--sysfs",
        tree,
        "--state-dir",
        state,
        *ways[source],
    ]
    wanted = planned(*words)
    before, folder = tree_hash(tree), tmp_path / "case" / "one"
    taken = kpm("snapshot", folder, *words)
    assert taken.code == 0
    assert str(folder) in taken.out
    assert unchanged(before, tree)
    assert not state.exists()
    kpm("apply", *words)
    for cpu in range(4):
        put(tree, f"{CPU}/cpufreq/policy{cpu}/cpuinfo_max_freq", 2000000)
    policy.write_text("{")
    ran = kpm("replay", folder, "-o", "json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == wanted
    elsewhere = tmp_path / "moved"
    folder.rename(elsewhere)
    assert json.loads(kpm("replay", elsewhere, "-o", "json").out) == wanted
    assert yaml.safe_load(kpm("replay", elsewhere, "-o", "yaml").out) == wanted
    assert_names(kpm("replay", elsewhere).out, ["reserved", "shared", "power.openshift.io/fast=4"])


def test_a_recording_after_an_apply_knows_the_baseline(
    policy: Path, tree: Path, tmp_path: Path, state: Path
) -> None:
    words = ["-f", policy, "--sysfs", tree, "--state-dir", state]
    before = planned(*words)
    kpm("apply", *words)
    assert kpm("snapshot", tmp_path / "case", *words).code == 0
    assert json.loads(kpm("replay", tmp_path / "case", "-o", "json").out) == before


def test_a_recording_of_several_nodes(tmp_path: Path) -> None:
    documents = [
        profile("slow", shared=True, pstates={"max": "50%"}),
        workload("w-a", "slow", node="a"),
        workload("w-b", "slow", node="b"),
        node("a", zone="x"),
        node("b"),
        profile("fast"),
        pod("one", 2, on="a"),
        pod("two", 2, on="b"),
        pod("one", 1, on="b", namespace="other"),
    ]
    (tmp_path / "a.json").write_text('{"model": "hybrid"}')
    (tmp_path / "b.json").write_text('{"model": "arm"}')
    words = [
        "-f",
        "-",
        "--machine",
        f"a={tmp_path / 'a.json'}",
        "--machine",
        f"b={tmp_path / 'b.json'}",
        "--assign-cpus",
    ]
    wanted = planned(*words, stdin=as_yaml(*documents))
    assert kpm("snapshot", tmp_path / "case", *words, stdin=as_yaml(*documents)).code == 0
    ran = kpm("replay", tmp_path / "case", "-o", "json")
    assert ran.code == 0
    assert json.loads(ran.out) == wanted


def test_replay_says_where_a_plan_differs(policy: Path, tree: Path, tmp_path: Path) -> None:
    kpm("snapshot", tmp_path / "case", "-f", policy, "--sysfs", tree)
    file = tmp_path / "case" / "objects.json"
    file.write_text(file.read_text().replace("1500", "1600"))
    ran = kpm("replay", tmp_path / "case", "-o", "json")
    assert ran.code == 1
    assert_names(ran.err, ["differs", tmp_path / "case" / "plan.json"])
    *places, last = ran.err.splitlines()[1:]
    assert all(": was " in line and ", is " in line for line in places), ran.err
    assert ": was 1500000, is 1600000" in ran.err
    assert len(places) <= 20, "a plan of many CPUs is no wall of lines"
    assert ", is " in last or last.strip().startswith("and ")
    assert cpus_of(json.loads(ran.out))[1]["maxKHz"] == 1600000


def test_replay_ends_with_1_where_an_object_has_errors(tree: Path, tmp_path: Path) -> None:
    wrong = as_yaml(profile("p", pstates={"min": 9000}), node("n"))
    assert kpm("snapshot", tmp_path / "case", "-f", "-", "--sysfs", tree, stdin=wrong).code == 0
    ran = kpm("replay", tmp_path / "case")
    assert ran.code == 1
    assert "differs" not in ran.err


# --- rights ---


def test_reading_needs_no_root(policy: Path, tree: Path, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    if os.geteuid() == 0:
        os.chown(own, NOBODY, NOBODY)
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree_hash(tree)
    runs: list[tuple[list[object], int]] = [
        (["discover", "--sysfs", tree], 0),
        (["validate", "-f", policy], 0),
        (["plan", "-f", policy, "--sysfs", tree, "-o", "json"], 0),
        (["diff", "-f", policy, "--sysfs", tree], 1),
        (["apply", "-f", policy, "--sysfs", tree, "--dry-run"], 1),
        (["explain", "-f", policy, "--sysfs", tree, "cpu", "1"], 0),
        (["snapshot", own / "case", "-f", policy, "--sysfs", tree], 0),
        (["replay", own / "case", "-o", "json"], 0),
    ]
    for words, code in runs:
        kpm(*words)  # loads what the verb needs
        if words[0] == "snapshot":
            shutil.rmtree(own / "case")
        ran: Ran = run_as_nobody(*words)
        assert ran.code == code, (words, ran)
        assert not ran.complaints or words[0] in ("diff", "apply"), ran.err
    assert unchanged(before, tree)


def test_objects_that_are_not_about_a_node_are_told_by_few_lines(tmp_path: Path) -> None:
    """One for each object and reason, with some of the nodes; JSON has them all."""
    xeon = tmp_path / "xeon.json"
    xeon.write_text('{"model": "xeon"}')
    caps = [
        {
            "apiVersion": "power.openshift.io/v1",
            "kind": "PowerCap",
            "metadata": {"name": f"cap-{number}", "namespace": "power-manager"},
            "spec": {
                "nodeSelector": {"labelSelector": {"matchLabels": {"zone": str(number)}}},
                "source": {"static": {"watts": 100}},
            },
        }
        for number in range(23)
    ]
    file = tmp_path / "caps.yaml"
    file.write_text(as_yaml(*caps))
    machines = [word for name in "abcde" for word in ("--machine", f"{name}={xeon}")]
    told = kpm("plan", "-f", file, *machines)
    lines = [line for line in told.out.splitlines() if "not in force" in line]
    assert lines[0] == (
        "PowerCap/cap-0 is not in force on a, b, c and 2 more: wants zone=0; the node has no label"
        " zone"
    )
    assert lines[20:] == ["3 more objects are not in force; -o json has them all"]
    whole = json.loads(kpm("plan", "-f", file, *machines, "-o", "json").out)
    assert [len(node["notInForce"]) for node in whole["nodes"]] == [23] * 5
    assert whole["nodes"][0]["notInForce"][0] == {
        "object": "PowerCap/cap-0",
        "field": "spec.nodeSelector",
        "reason": "wants zone=0; the node has no label zone",
    }
