"""The machine as the agent handles it: what it counts, and what it says of files that may not be
written.
"""

import errno
from pathlib import Path

import pytest

from kpm.agent.machine import Tuner
from kpm.process.logs import Log
from kpm.request.machines import IdleStateSpec, MachineSpec, build_machine
from kpm_applier.diff import Repair
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.cluster import Meta, Node
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent, PowerProfile, PowerWorkload, PStates
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.captured import CapturingLog
from tests.trees import write_tree

MACHINE = build_machine(
    MachineSpec(
        cores=4,
        idle_driver="intel_idle",
        idle_states=(IdleStateSpec("POLL", 0), IdleStateSpec("C1", 2)),
    )
)
CPU = "devices/system/cpu"
FILE = "devices/system/cpu/cpufreq/policy2/scaling_max_freq"


def planned(_: Machine) -> NodePlan:
    """All CPUs shared."""
    shared = PowerProfile(Meta("shared"), shared=True, pstates=PStates(max="30%"))
    workload = PowerWorkload(
        Meta("w"), all_cores=True, power_node_selector={"a": "b"}, power_profile="shared"
    )
    return plan_node(Intent((shared,), (workload,)), NodeInput(Node("n", {"a": "b"}), MACHINE))


def nothing(_: Machine) -> NodePlan:
    """Nothing is managed."""
    return NodePlan("n")


def tuner(folder: Path, repair: Repair = Repair.WRITE, log: Log | None = None) -> Tuner:
    """One on a tree of files."""
    write_tree(KernelModel(MACHINE), folder)

    def make() -> Applier:
        host = SysfsHost(str(folder / "sys"))
        return Applier(host, StateStore(str(folder / "state"), host.root, live=False), repair)

    return Tuner(make, log or CapturingLog())


@pytest.mark.parametrize("repair", [Repair.REPORT, Repair.WRITE])
def test_a_foreign_value_counts_once_however_often_it_is_seen(
    tmp_path: Path, repair: Repair
) -> None:
    """Also where it is only reported, and so found again by every pass (field report 49)."""
    made = tuner(tmp_path, repair)
    assert made.ready()
    assert made.apply(planned(MACHINE), planned)[1].settled
    assert made.new_drift() == 0
    for number, text in enumerate(("1500000\n", "1600000\n")):
        (tmp_path / "sys" / FILE).write_text(text)
        found = []
        for _ in range(4):
            made.apply(planned(MACHINE), planned)
            found.append(made.new_drift())
        assert found == [1, 0, 0, 0], number
    made.close()


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EROFS, "read-write"), (errno.EACCES, "privileged overlay")]
)
def test_files_that_may_not_be_written_are_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    """One of each kind, why, and what to do; in Ready too, whether or not anything has to be
    written.
    """
    made = tuner(tmp_path)
    monkeypatch.setattr(SysfsHost, "refuses_writing", lambda _self, _path: number)
    assert made.ready()
    made.prove()
    assert [
        line for line in made.forbidden if errno.errorcode[number] in line and remedy in line
    ] == list(made.forbidden)
    assert {line.partition(":")[0].rpartition("/")[2] for line in made.forbidden} >= {
        "disable",
        "scaling_governor",
        "pm_qos_resume_latency_us",
    }
    went = made.apply(nothing(MACHINE), nothing)[1]
    assert (went.forbidden, went.refused) == (made.forbidden, "")
    made.close()


def test_a_live_tree_is_written_with_what_it_holds_for_opening_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle state opens for everybody and asks for a capability when it is written; limits of
    frequency are never written for a trial.
    """
    tried: dict[str, bytes] = {}

    def write(_self: SysfsHost, path: str, data: bytes) -> None:
        tried[path] = data
        if path.endswith("/disable"):
            raise PermissionError(errno.EPERM, "", path)

    monkeypatch.setattr(SysfsHost, "live", True)
    monkeypatch.setattr(SysfsHost, "write", write)
    made = tuner(tmp_path)
    assert made.ready()
    made.prove()
    assert list(made.forbidden) == [
        (
            f"{CPU}/cpu0/cpuidle/state0/disable: EPERM: needs CAP_SYS_ADMIN: run the helper"
            " container as shipped, or set agent.idleStates: byLatency"
        )
    ]
    assert all((tmp_path / "sys" / path).read_bytes() == data for path, data in tried.items())
    assert not [path for path in tried if path.endswith(("scaling_min_freq", "scaling_max_freq"))]


def test_states_that_are_not_set_by_name_are_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under byLatency and off the helper has no capability for it, and needs none."""
    made = tuner(tmp_path)
    made.names_states = False
    monkeypatch.setattr(
        SysfsHost,
        "refuses_writing",
        lambda _self, path: errno.EPERM if path.endswith("/disable") else 0,
    )
    assert made.ready()
    made.prove()
    assert made.forbidden == ()


def test_files_that_can_be_written_are_no_news(tmp_path: Path) -> None:
    """And trying changes nothing: neither content nor time."""
    made = tuner(tmp_path)
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in (tmp_path / "sys").rglob("*")
        if path.is_file()
    }
    assert made.ready()
    made.prove()
    assert (made.forbidden, made.apply(nothing(MACHINE), nothing)[1].forbidden) == ((), ())
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    made.close()


def test_empty_files_are_said_once(tmp_path: Path) -> None:
    """They have no value and are left alone, as in copies of /sys; nothing else suffers (R6)."""
    log = CapturingLog()
    made = tuner(tmp_path, log=log)
    empty = tmp_path / "sys" / FILE
    empty.write_text("")
    assert made.ready()
    for _ in range(3):
        assert made.apply(planned(made.machine()), planned)[1].settled
        made.look_anew()
    assert [fields for _, event, fields in log.calls if event == "empty files are not managed"] == [
        {"files": 1, "first": FILE}
    ]
    assert empty.read_text() == ""
    assert (tmp_path / "sys" / FILE.replace("policy2", "policy1")).read_text() != "3700000\n"


ACCEPTED = frozenset({("uid-web", "app")})


def test_versions_are_kept_before_the_first_write_under_them_and_known_to_the_next_agent(
    tmp_path: Path,
) -> None:
    """R8: over a restart too; putting everything back forgets them."""
    made = tuner(tmp_path)
    assert made.ready()
    plan = planned(MACHINE)
    assert [item.obj.meta.name for item in plan.versions] == ["shared"]
    assert made.apply(plan, planned, ACCEPTED)[1].settled
    made.close()
    following = tuner(tmp_path)
    assert following.ready()
    assert (following.memory.now.versions, following.memory.now.accepted) == (
        plan.versions,
        ACCEPTED,
    )
    assert following.restore()
    following.close()
    last = tuner(tmp_path)
    assert last.ready()
    assert not last.memory.now.versions
    last.close()


def test_nothing_is_written_under_a_version_that_cannot_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space for it: refused, as without space for the state."""
    made = tuner(tmp_path)
    assert made.ready()
    before = (tmp_path / "sys" / FILE).read_text()

    def full(_path: str, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kpm.process.memory.write_durably", full)
    assert "No space left" in made.apply(planned(MACHINE), planned)[1].refused
    assert (tmp_path / "sys" / FILE).read_text() == before
    monkeypatch.undo()
    assert made.apply(planned(MACHINE), planned)[1].settled
    made.close()
