"""kpm init: on whatever machine, a policy that every other verb takes as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kpm.request.first_policy import first_policy, reserved
from kpm.request.machines import MODELS, build_machine
from kpm_applier.kernel_model.model import KernelModel
from tests.kpm.cli_rig import DUMPS, kpm, tree_hash
from tests.kpm.tree_samples import TREES, build_tree
from tests.trees import write_tree


def taken(policy: str, tree: Path, tmp_path: Path) -> None:
    """validate, plan and apply take it, and a second apply writes nothing."""
    file = tmp_path / "policy.yaml"
    file.write_text(policy)
    assert kpm("validate", "-f", file).code == 0
    place = ["--sysfs", tree]
    planned = kpm("plan", "-f", file, *place)
    assert planned.code == 0, planned.out
    assert "error" not in planned.out
    words = ["-f", file, *place, "--state-dir", tmp_path / "state"]
    assert kpm("apply", *words).code == 0
    assert kpm("diff", *words).code == 0


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gets_a_policy_that_fits(name: str, tmp_path: Path) -> None:
    write_tree(KernelModel(build_machine(MODELS[name])), tmp_path)
    ran = kpm("init", "--sysfs", tmp_path / "sys")
    assert ran.code == 0
    taken(ran.out, tmp_path / "sys", tmp_path)


@pytest.mark.parametrize("name", TREES)
def test_every_odd_tree_gets_one_too(name: str, tmp_path: Path) -> None:
    tree = build_tree(tmp_path / "sys", TREES[name])
    ran = kpm("init", "--sysfs", tree)
    assert ran.code == 0
    taken(ran.out, tree, tmp_path)


def test_dumps_of_real_machines_get_one(dump: Path | None, tmp_path: Path) -> None:
    if dump is None:
        assert not DUMPS
        return
    before = tree_hash(dump)
    ran = kpm("init", "--sysfs", dump)
    assert ran.code == 0, ran.err
    assert tree_hash(dump) == before
    file = tmp_path / "policy.yaml"
    file.write_text(ran.out)
    assert kpm("validate", "-f", file).code == 0
    planned = kpm("plan", "-f", file, "--sysfs", dump)
    assert planned.code == 0, planned.out


def documents(text: str) -> dict[str, dict[str, Any]]:
    return {item["kind"]: item for item in yaml.safe_load_all(text) if item}


def test_reserved_cpus_are_the_kubelets_where_they_can_be_read(tmp_path: Path) -> None:
    machine = build_machine(MODELS["xeon"])
    config = tmp_path / "config.yaml"
    config.write_text("kind: KubeletConfiguration\nreservedSystemCPUs: 0-1,40\n")
    kept = reserved(machine, (str(config),))
    assert kept.cpus == tuple(cpu for cpu in (0, 1, 40) if cpu in machine.online)
    assert str(config) in kept.source
    ran = kpm("init", "--sysfs", "/nowhere")
    assert ran.code == 2


@pytest.mark.parametrize("content", ["", "[", "reservedSystemCPUs: x-y", "reservedSystemCPUs: 999"])
def test_a_configuration_that_says_nothing_is_passed_over(tmp_path: Path, content: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content)
    machine = build_machine(MODELS["xeon"])
    assert reserved(machine, (str(config),)).cpus == reserved(machine, ()).cpus


def test_what_is_commented_out_is_valid_too() -> None:
    """Uncore and PowerCap, once somebody takes the marks away."""
    machine = build_machine(MODELS["xeon"])
    text = first_policy(machine, reserved(machine, ()), "x")
    head, mark, rest = text.partition("# Frequencies of what CPUs share")
    assert mark
    lines = [line.removeprefix("# ") for line in rest.splitlines()[1:]
             if not line.startswith("# Power of")]  # fmt: skip
    ran = kpm("validate", "-f", "-", stdin=head + "\n".join(lines) + "\n")
    assert (ran.code, ran.err) == (0, "")
    assert {"Uncore", "PowerCap"} <= documents(head + "\n".join(lines)).keys()


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("mine")
    write_tree(KernelModel(build_machine(MODELS["vm"])), tmp_path)
    ran = kpm("init", "--sysfs", tmp_path / "sys", "-o", file)
    assert ran.code == 2
    assert file.read_text() == "mine"
