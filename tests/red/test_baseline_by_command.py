"""`kpm apply` while a file of the tree is away a moment, and `kpm restore` after it (A7, R7)."""

from pathlib import Path

import pytest

from kpm.request.machines import IdleStateSpec, MachineSpec, build_machine
from kpm_applier.kernel_model.model import KernelModel
from tests.kpm.cli_rig import Ran, kpm
from tests.trees import write_tree

CPU = "sys/devices/system/cpu"
C6 = (IdleStateSpec("POLL", 0), IdleStateSpec("C6", 133))
SPEC = MachineSpec(cores=2, epp="balance_performance", idle_driver="intel_idle", idle_states=C6)
POLICY = """
apiVersion: power.openshift.io/v1
kind: PowerProfile
metadata: {name: shared}
spec:
  shared: true
  pstates: {min: 1000, max: 2000, governor: powersave, epp: power}
  cstates: {names: {C6: false}}
---
apiVersion: power.openshift.io/v1
kind: PowerWorkload
metadata: {name: w}
spec: {allCores: true, powerProfile: shared, powerNodeSelector: {kubernetes.io/hostname: n}}
"""
AWAY = (
    "cpufreq/policy1",
    "cpufreq/policy1/energy_performance_preference",
    "cpufreq/policy1/scaling_governor",
    "cpufreq/policy1/scaling_max_freq",
    "cpufreq/policy1/scaling_min_freq",
    "cpu1/cpuidle",
    "cpu1/cpuidle/state1/disable",
)


def shown(folder: Path) -> dict[str, str]:
    """Every file of the tree, as text."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): path.read_text(errors="replace") for path in files}


@pytest.mark.parametrize("when", [0, 1], ids=["at first", "later"])
@pytest.mark.parametrize("name", AWAY)
def test_a_file_that_was_away_is_given_back_as_it_was(tmp_path: Path, name: str, when: int) -> None:
    """At the first apply, or at one of those after it: what we had set is never taken for it."""
    write_tree(KernelModel(build_machine(SPEC)), tmp_path)
    (tmp_path / "p.yaml").write_text(POLICY)
    places = ("--sysfs", tmp_path / "sys", "--state-dir", tmp_path / "state")
    file, aside = tmp_path / CPU / name, tmp_path / "aside"
    before = shown(tmp_path / "sys")

    def apply() -> Ran:
        return kpm("apply", "-f", tmp_path / "p.yaml", "--node", "n", *places)

    for number in range(3):
        if number == when:
            file.rename(aside)
        apply()
        if number == when:
            aside.rename(file)
    assert apply().code == 0
    assert shown(tmp_path / "sys") != before
    assert kpm("restore", *places).code == 0
    assert shown(tmp_path / "sys") == before
