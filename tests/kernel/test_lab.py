"""The lab boots every machine that it names, and the driver that was asked for is the one that runs
there.
"""

from __future__ import annotations

import json
import platform
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.lab import DRIVERS, LabError, LabMachine, LabResult, prepare, run

pytestmark = pytest.mark.kernel

MACHINES = {name: LabMachine(driver=name, cpus=4, domain_size=2) for name in DRIVERS}
AT_ONCE = 2  # a machine keeps one host CPU busy
REPORT = """
import json, os, pathlib, platform, sys
cpus = pathlib.Path("/sys/devices/system/cpu")
read = lambda path: path.read_text().strip() if path.exists() else None
names = sorted(path.name for path in cpus.glob("cpu[0-9]*"))
pathlib.Path("/tmp/out/written").write_text(os.environ["LAB_TEST"])
print(json.dumps({
    "drivers": [read(cpus / name / "cpufreq/scaling_driver") for name in names],
    "related": [read(cpus / name / "cpufreq/related_cpus") for name in names],
    "status": read(cpus / "amd_pstate/status"),
    "idle states": [len(list((cpus / name / "cpuidle").glob("state*"))) for name in names],
    "python": platform.python_version_tuple()[:2],
    "checkout": os.path.exists(sys.argv[1]),
}))
print("done", file=sys.stderr)
sys.exit(7)
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the result folder of each machine."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def boots(out: Path) -> dict[str, Future[LabResult]]:
    """One boot of each machine, a few at a time."""
    prepare()

    def boot(name: str) -> LabResult:
        machine = MACHINES[name]
        command = [machine.python, "-c", REPORT, machine.path(__file__)]
        return run(machine, command, env={"LAB_TEST": name}, out=out / name)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {name: pool.submit(boot, name) for name in MACHINES}


@pytest.mark.parametrize("name", MACHINES)
def test_the_driver_is_the_one_asked_for(boots: dict[str, Future[LabResult]], name: str) -> None:
    """Every CPU is run by the driver, in the domains that it makes, and has idle states."""
    report = json.loads(boots[name].result().stdout)
    assert report["drivers"] == [DRIVERS[name].scaling_driver] * 4
    own = ["0", "1", "2", "3"]  # amd-pstate makes a policy per CPU whatever the firmware says
    shared = ["0 1", "0 1", "2 3", "2 3"]
    assert report["related"] == {
        "acpi-cpufreq": shared,
        "cppc_cpufreq": shared,
        "none": [None] * 4,
    }.get(name, own)
    assert report["status"] == {
        "amd-pstate": "passive",
        "amd-pstate-guided": "guided",
        "amd-pstate-epp": "active",
    }.get(name)
    assert min(report["idle states"]) >= 2


@pytest.mark.parametrize("name", MACHINES)
def test_the_command_runs_as_it_would_here(
    boots: dict[str, Future[LabResult]], out: Path, name: str
) -> None:
    """Exit status, both streams, environment, result folder, Python and the checkout are what the
    caller gave.
    """
    result = boots[name].result()
    report = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (7, "done\n")
    assert (out / name / "written").read_text(encoding="ascii") == name
    assert report["checkout"]
    assert report["python"][0] == platform.python_version_tuple()[0]
    assert 0 < result.boot_seconds < result.seconds


def test_a_platform_limit_holds_against_a_request() -> None:
    """What firmware forbids stays forbidden when more is asked for."""
    machine = LabMachine(driver="acpi-cpufreq", cpus=1, platform_limit=2)
    folder = "/sys/devices/system/cpu/cpu0/cpufreq"
    result = run(
        machine,
        [
            "sh",
            "-c",
            f"cd {folder}; echo 3701000 >scaling_max_freq; cat cpuinfo_max_freq scaling_max_freq",
        ],
    )
    assert result.stdout.split() == ["3701000", "2600000"]


def test_a_machine_that_does_not_end_is_stopped() -> None:
    """The error names the machine and the time it was given."""
    with pytest.raises(LabError, match=r"acpi-cpufreq machine: it did not end within 0\.5 s"):
        run(replace(MACHINES["acpi-cpufreq"], cpus=1), ["true"], timeout=0.5)


def test_a_kernel_that_dies_leaves_its_last_words() -> None:
    """The error ends with what the console said."""
    with pytest.raises(
        LabError, match=r"(?s)stopped before the command ended.*console.*Kernel panic"
    ):
        run(LabMachine(cpus=1, kernel_arguments="rdinit=/nothing root=/dev/nothing"), ["true"])


def test_a_machine_that_makes_no_sense_is_refused() -> None:
    """Nothing is booted, and the error names the numbers."""
    with pytest.raises(LabError, match="'p4-clockmod' is unknown; there are acpi-cpufreq"):
        LabMachine(driver="p4-clockmod")
    with pytest.raises(LabError, match="3 CPUs cannot be spread over 2 sockets"):
        LabMachine(cpus=3, sockets=2)
    with pytest.raises(LabError, match="a domain of 0 CPUs"):
        LabMachine(domain_size=0)


def test_a_file_that_the_inside_hides_is_refused() -> None:
    """A path below /tmp has no name inside an x86 machine, and one on arm64."""
    with pytest.raises(LabError, match="/tmp/file cannot be seen inside"):
        LabMachine(driver="acpi-cpufreq").path("/tmp/file")
    assert LabMachine(driver="cppc_cpufreq").path("/tmp/file") == "/host/tmp/file"
