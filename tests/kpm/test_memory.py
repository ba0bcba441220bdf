"""What a node remembers of objects over the end of a process and of a boot: last valid versions,
CPU counts found right (R8).
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm.process.memory import (
    OFFLINE,
    Memory,
    Remembered,
    decode,
    encode,
    known_offline,
    memory_beside,
    versions_from,
    versions_view,
)
from kpm_applier.state.record import StateError
from kpm_planner.versions import Version, Versions
from tests.kpm.cli_rig import kpm
from tests.kpm.object_samples import as_yaml, node, profile
from tests.planner.build import moment, node_config, power_cap, reserved, uncore
from tests.planner.build import profile as made_profile
from tests.strategies.scenarios import Scenario, scenarios

VERSIONS = (
    Version(
        made_profile(min=1000, max="80%", names={"C6": False}, meta_created=moment(7)), moment(8)
    ),
    Version(uncore(sys_min=1_000_000, sys_max=2_000_000), None),
    Version(power_cap(150), moment(9)),
    Version(node_config(uses="shared", reserved=[reserved("0-1", "slow")], turbo=False), moment(9)),
)
ACCEPTED = frozenset({("uid-1", "app")})


def test_what_was_kept_is_known_again(tmp_path: Path) -> None:
    """In a file of its own, private, beside the state; nothing is left of it when nothing is in
    force any more.
    """
    memory = memory_beside(str(tmp_path / "state/sys.json"))
    memory.keep(VERSIONS, ACCEPTED)
    path = tmp_path / "state/sys.versions"
    assert path.stat().st_mode & 0o777 == 0o600
    assert Memory(str(path)).now == Remembered(VERSIONS, ACCEPTED)
    memory.forget()
    assert not path.exists()


@given(scenarios())
def test_every_version_is_what_it_was_after_being_kept(scenario: Scenario) -> None:
    """Whatever objects users write."""
    kept = Remembered(scenario.plan().versions)
    assert decode(encode(kept)) == kept
    held = Versions(kept.versions, "lost")
    assert versions_from(json.loads(json.dumps(versions_view(held))), "here") == held


DAMAGED = (
    b"",
    b"[]",
    b"{",
    b'{"version": 2}',
    b'{"version": 1, "versions": {}, "accepted": []}',
    b"[" * 100_000,
    b'{"version":1,"versions":[{"object":{"kind":"Pod"},"since":null}],"accepted":[]}',
)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_memory_that_is_damaged_is_lost_and_said_to_be(tmp_path: Path, content: bytes) -> None:
    """Baseline with a problem, not a failure; it is written anew."""
    path = tmp_path / "sys.versions"
    path.write_bytes(content)
    memory = Memory(str(path))
    assert memory.now == Remembered()
    assert "is lost" in memory.versions.note
    memory.keep(VERSIONS, ACCEPTED)
    assert Memory(str(path)).versions == Versions(VERSIONS)


@given(st.binary(max_size=200))
def test_no_content_is_a_failure(content: bytes) -> None:
    """Any bytes are a memory or are none."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        decode(content)


def test_what_is_too_large_is_left_out() -> None:
    """The file is bounded, whatever objects hold."""
    large = Version(
        made_profile("large", names={f"C{number}{'x' * 5000}": True for number in range(30)})
    )
    assert decode(encode(Remembered((large, VERSIONS[1])))) == Remembered((VERSIONS[1],))
    many = tuple(Version(made_profile(f"p{number}")) for number in range(50_000))
    assert (
        len(
            encode(
                Remembered(many, frozenset((f"uid-{number}", "app") for number in range(50_000)))
            )
        )
        < 4 << 20
    )


def test_a_link_is_not_followed_and_a_folder_that_cannot_be_written_stops_all(
    tmp_path: Path,
) -> None:
    """What is not kept is not in force over a restart, so nothing is written under it."""
    (tmp_path / "elsewhere").write_bytes(encode(Remembered(VERSIONS)))
    (tmp_path / "sys.versions").symlink_to("elsewhere")
    assert Memory(str(tmp_path / "sys.versions")).now == Remembered()
    (tmp_path / "plain").write_text("")
    memory = Memory(str(tmp_path / "plain/sys.versions"))
    with pytest.raises(StateError, match="nothing was written"):
        memory.keep(VERSIONS, ACCEPTED)
    assert memory.now == Remembered()


def test_an_offline_plan_does_not_know(tmp_path: Path) -> None:
    """Unless there is a memory to read."""
    assert known_offline(Memory(str(tmp_path / "sys.versions"))).note == OFFLINE
    (tmp_path / "sys.versions").write_bytes(encode(Remembered(VERSIONS)))
    assert known_offline(Memory(str(tmp_path / "sys.versions"))) == Versions(VERSIONS)


def _shared(maximum: int) -> str:
    spec = {"nodeSelector": {"labelSelector": {}}, "sharedPowerProfile": "shared"}
    pools = {
        "apiVersion": "power.openshift.io/v1",
        "kind": "PowerNodeConfig",
        "metadata": {"name": "pools"},
        "spec": spec,
    }
    return as_yaml(
        profile("shared", shared=True, pstates={"min": 800, "max": maximum}), pools, node("n")
    )


def test_the_command_line_keeps_the_last_valid_version_too(tree: Path, tmp_path: Path) -> None:
    """Apply, an edit that cannot be honoured, a new process, a diff, a snapshot, and back; one
    error and exit 1, and nothing is written.
    """
    place: tuple[Any, ...] = ("-f", "-", "--sysfs", tree, "--state-dir", tmp_path / "state")
    limit = tree / "devices/system/cpu/cpufreq/policy0/scaling_max_freq"
    before = limit.read_text()
    assert kpm("apply", *place, stdin=_shared(1500)).code == 0
    bad = _shared(9000)
    for verb in ("diff", "apply", "plan"):
        ran = kpm(verb, *place, stdin=bad)
        assert "stays in force (valid here since " in ran.out + ran.err
        assert limit.read_text().strip() == "1500000"
    assert kpm("diff", *place, stdin=bad).code == 2
    assert kpm("apply", *place, stdin=bad).code == 1
    assert kpm("snapshot", tmp_path / "case", *place, stdin=bad).code == 0
    replayed = kpm("replay", tmp_path / "case")
    assert "last-valid" in replayed.out
    assert "differs" not in replayed.err
    assert kpm("restore", "--sysfs", tree, "--state-dir", tmp_path / "state").code == 0
    assert limit.read_text() == before
    assert not list((tmp_path / "state").glob("*.versions"))
    assert kpm("apply", *place, stdin=bad).code == 1
    assert limit.read_text() == before
