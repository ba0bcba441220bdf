"""Discovery of every shape of /sys: what a file does not say is unknown, and costs itself only (R6,
field reports 4, 5, 53).
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import define, evolve, field

from kpm_applier.attributes import CPU_ROOT, UNCORE_ROOT, Kind
from kpm_applier.discovery.clamps import clamps_of
from kpm_applier.discovery.discover import HostError, discover
from kpm_applier.sysfs.host import Watch, differing_one_by_one, read_one_by_one
from kpm_applier.sysfs.tree import SysfsHost
from kpm_planner.model.machine import Machine, UncoreEntry
from tests.applier import rig
from tests.kpm.tree_samples import INTEL, build_tree
from tests.trees import unpack_dump

Files = dict[str, str | int]
DUMPS = Path(__file__).parents[3] / "shared/machines"


@define
class TreeHost:
    """A host of texts below the CPU folder; a number in place of a text
    is the errno of reading it.
    """

    files: Files
    live: bool = False
    links: dict[str, str] = field(factory=dict)

    def read(self, path: str) -> bytes:
        content = self.files.get(self._real(path), errno.ENOENT)
        if isinstance(content, int):
            raise OSError(content, os.strerror(content), path)
        return content.encode("utf-8", "surrogateescape")

    def list(self, path: str) -> tuple[str, ...]:
        prefix = "" if path == CPU_ROOT else f"{self._real(path)}/"
        names = {
            name[len(prefix) :].partition("/")[0] for name in self.files if name.startswith(prefix)
        }
        if not names:
            raise FileNotFoundError(errno.ENOENT, "no such folder", path)
        return tuple(sorted(names))

    def _real(self, path: str) -> str:
        path = path.removeprefix(f"{CPU_ROOT}/")
        for link, target in self.links.items():
            if path == link or path.startswith(f"{link}/"):
                return target + path[len(link) :]
        return path

    def read_all(self, paths: Sequence[str]) -> Sequence[bytes | OSError]:
        return read_one_by_one(self, paths)

    def differing(
        self, paths: Sequence[str], expected: Sequence[bytes]
    ) -> dict[str, bytes | OSError]:
        return differing_one_by_one(self, paths, expected)

    def write(self, path: str, data: bytes) -> None:
        raise NotImplementedError("discovery writes nothing")

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        raise NotImplementedError("discovery writes nothing")

    def wait(self, seconds: float) -> None:
        raise NotImplementedError

    def now(self) -> float:
        return 0.0

    def watch(self, files: Mapping[str, bytes]) -> Watch:
        raise NotImplementedError

    def keep(self, paths: object) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        pass


def tree() -> Files:
    """Four CPUs in two cores with two threads each, intel_pstate, two idle states, two uncore
    entries.
    """
    files: Files = {
        "online": "0-3\n",
        "present": "0-3\n",
        "possible": "0-7\n",
        "offline": "4-7\n",
        "modalias": "cpu:type:x86,ven0000fam0006mod006A:feature:,0000,0001\n",
        "cpuidle/current_driver": "intel_idle\n",
        "intel_pstate/status": "active\n",
        "intel_pstate/no_turbo": "0\n",
    }
    for cpu in range(4):
        files |= {f"cpu{cpu}/{name}": text for name, text in _cpu_files(cpu).items()}
        files |= {
            f"cpufreq/policy{cpu}/{name}": text for name, text in _policy_files(str(cpu)).items()
        }
    for package in (0, 1):
        files |= {
            f"intel_uncore_frequency/package_{package:02d}_die_00/{name}": text
            for name, text in _uncore_files().items()
        }
    return files


def _cpu_files(cpu: int) -> dict[str, str]:
    siblings = f"{cpu % 2},{cpu % 2 + 2}\n"
    states = [("POLL", 0, "enabled"), ("C1", 2, "enabled"), ("C6", 170, "disabled")]
    return {
        "online": "1\n",
        "topology/physical_package_id": f"{cpu % 2}\n",
        "topology/die_id": "0\n",
        "topology/cluster_id": f"{cpu % 2 * 8}\n",
        "topology/core_id": f"{cpu % 2}\n",
        "topology/thread_siblings_list": siblings,
        "topology/core_cpus_list": siblings,
        **{f"cpuidle/state{index}/name": f"{name}\n" for index, (name, _, _) in enumerate(states)},
        **{
            f"cpuidle/state{index}/latency": f"{latency}\n"
            for index, (_, latency, _) in enumerate(states)
        },
        **{f"cpuidle/state{index}/disable": "0\n" for index in range(3)},
        **{
            f"cpuidle/state{index}/default_status": f"{status}\n"
            for index, (_, _, status) in enumerate(states)
        },
    }


def _policy_files(cpus: str, driver: str = "intel_pstate") -> dict[str, str]:
    return {
        "related_cpus": f"{cpus}\n",
        "affected_cpus": f"{cpus}\n",
        "scaling_driver": f"{driver}\n",
        "cpuinfo_min_freq": "800000\n",
        "cpuinfo_max_freq": "4000000\n",
        "scaling_min_freq": "900000\n",
        "scaling_max_freq": "3500000\n",
        "scaling_governor": "powersave\n",
        "scaling_available_governors": "performance powersave \n",
        "energy_performance_preference": "balance_power\n",
        "energy_performance_available_preferences": (
            "default performance balance_performance balance_power power \n"
        ),
    }


def _uncore_files() -> dict[str, str]:
    return {
        "initial_min_freq_khz": "800000\n",
        "initial_max_freq_khz": "2400000\n",
        "min_freq_khz": "900000\n",
        "max_freq_khz": "2000000\n",
    }


def found(files: Files, **more: object) -> Machine:
    return discover(TreeHost(files, **more)).machine  # type: ignore[arg-type]


def edited(**changes: str | int | None) -> Files:
    """The tree with some files changed; None is a file that is not there. Names with __ for / ."""
    files = tree()
    for name, text in changes.items():
        path = name.replace("__", "/")
        if text is None:
            files = {
                known: content
                for known, content in files.items()
                if known != path and not known.startswith(f"{path}/")
            }
        else:
            files[path] = text
    return files


# --- the whole ---


def test_the_whole_tree() -> None:
    """Every file of a small server, in its place."""
    machine = found(tree())
    cpu, domain, entry = machine.cpus[3], machine.domains[1], machine.uncore[1]
    assert (machine.architecture, machine.boost, machine.driver_status, machine.idle_driver) == (
        "x86_64",
        True,
        "active",
        "intel_idle",
    )
    assert (
        cpu.id,
        cpu.online,
        cpu.package,
        cpu.die,
        cpu.cluster,
        cpu.core,
        cpu.siblings,
        cpu.domain,
    ) == (3, True, 1, 0, 8, 1, (1, 3), 3)
    assert [
        (state.index, state.name, state.latency_us, state.enabled, state.default_enabled)
        for state in cpu.idle
    ] == [
        (0, "POLL", 0, True, True),
        (1, "C1", 2, True, True),
        (2, "C6", 170, True, False),
    ]
    assert (domain.id, domain.cpus, domain.driver) == (1, (1,), "intel_pstate")
    assert (domain.hardware_min_khz, domain.hardware_max_khz, domain.limit_max_khz) == (
        800_000,
        4_000_000,
        4_000_000,
    )
    assert (domain.governors, len(domain.epps)) == (("performance", "powersave"), 5)
    assert (
        domain.settings.min_khz,
        domain.settings.max_khz,
        domain.settings.governor,
        domain.settings.epp,
    ) == (900_000, 3_500_000, "powersave", "balance_power")
    assert (
        entry.name,
        entry.package,
        entry.die,
        entry.hardware_min_khz,
        entry.hardware_max_khz,
    ) == ("package_01_die_00", 1, 0, 800_000, 2_400_000)
    assert (entry.min_khz, entry.max_khz) == (900_000, 2_000_000)
    assert len(machine.kinds) == 1


def test_groups_and_their_files() -> None:
    """What is saved, restored and discarded together, with the files of the table."""
    result = discover(TreeHost(tree()))
    assert {group.key: len(group.files) for group in result.groups} == {
        "boost": 1,
        **{f"cpufreq:{number}": 4 for number in range(4)},
        **{f"idle:{number}": 3 for number in range(4)},
        "uncore:package_00_die_00": 2,
        "uncore:package_01_die_00": 2,
    }
    assert {group.key: group.driver for group in result.groups if group.id in (0, "boost")} == {
        "boost": "no_turbo",
        "cpufreq:0": "intel_pstate",
        "idle:0": "intel_idle",
    }
    assert len(result.observed.values) == 1 + 4 * 4 + 4 * 3 + 2 * 2


@pytest.mark.parametrize(
    "text",
    ["", "\n", "x\n", "3-1\n", "0-\n", "0-99999999\n", "-1\n", "0-3-5\n", errno.EACCES, errno.EIO],
)
def test_a_list_of_cpus_that_is_there_and_is_none_is_one_clear_line(text: str | int) -> None:
    """What it should have said cannot be guessed from the rest."""
    with pytest.raises(HostError) as caught:
        found(edited(online=text))
    assert "devices/system/cpu/online" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cpuidle/current_driver": "intel_idle\n"},
        {"present": "0-3\n"},
        {"present": "0-1\n", "cpu0/online": "0\n", "cpu1/online": "0\n"},
        {"cpufreq/policy0/scaling_driver": "intel_pstate\n"},
    ],
)
def test_a_tree_of_which_no_cpu_can_be_said_to_be_online_is_one_clear_line(files: Files) -> None:
    """The one thing that nothing can be done without."""
    with pytest.raises(
        HostError,
        match=(
            r"^devices/system/cpu/online is missing or empty; a /sys tree lists the CPUs there, as"
            r" in 0-3,8$"
        ),
    ):
        found(files)


# --- A: which CPUs there are ---


@pytest.mark.parametrize(
    ("online", "expected"),
    [
        ("0-63\n", set(range(64))),
        ("0-3,8-11\n", {0, 1, 2, 3, 8, 9, 10, 11}),
        ("0\n", {0}),
        ("0,2,4,6\n", {0, 2, 4, 6}),
        ("0-3,8\n", {0, 1, 2, 3, 8}),
        ("0,2-3\n", {0, 2, 3}),
        ("4-7\n", {4, 5, 6, 7}),
        ("0-0\n", {0}),
        ("0", {0}),
        (" 0-1 \n", {0, 1}),
        ("0-255\n", set(range(256))),
        ("1023\n", {1023}),
    ],
)
@pytest.mark.parametrize("present", ["same", "missing", "empty", "garbage", "more"])
def test_cpu_lists(online: str, expected: set[int], present: str) -> None:
    """Field report 4: ids come from the list, whatever its form; not from a count, and not from the
    affinity of this process.
    """
    texts: dict[str, str | int] = {
        "same": online,
        "missing": errno.ENOENT,
        "empty": "\n",
        "garbage": "0..3\n",
        "more": f"{online.strip()},2000\n",
    }
    machine = found({"online": online, "present": texts[present]})
    assert machine.online == expected
    assert set(machine.by_id) == (expected | {2000} if present == "more" else expected)


# --- a tree without the list of those online ---


@pytest.mark.parametrize("present", ["0-3\n", None, "\n", "garbage\n", errno.EACCES])
def test_without_the_list_the_folders_say_which_cpus_there_are(present: str | int | None) -> None:
    """The rest of the machine is as it would be with it."""
    assert found(edited(online=None, present=present)) == found(tree())


def test_without_the_list_a_cpus_own_file_says_whether_it_is_online() -> None:
    """One that is not has idle states and nothing else."""
    machine = found(
        edited(online=None, cpu3__online="0\n", cpu3__topology=None, cpufreq__policy3=None)
    )
    assert machine == found(
        edited(online="0-2\n", cpu3__online="0\n", cpu3__topology=None, cpufreq__policy3=None)
    )
    assert machine.online == {0, 1, 2}


@pytest.mark.parametrize("text", ["", "\n", "x\n", "2\n", "-1\n", errno.EACCES])
def test_without_the_list_a_cpu_whose_own_file_does_not_say_1_is_left_alone(
    text: str | int,
) -> None:
    """It is there, and nothing is asked of it."""
    machine = found(edited(online=None, cpu2__online=text))
    assert (set(machine.online), set(machine.by_id)) == ({0, 1, 3}, {0, 1, 2, 3})


@pytest.mark.parametrize("cpus", [(0,), (1, 2), (0, 1, 2, 3)])
def test_without_the_list_a_cpu_that_has_no_file_of_its_own_is_online(
    cpus: tuple[int, ...],
) -> None:
    """It cannot be turned off: mostly CPU 0, all of them where the kernel was built so."""
    assert found(edited(online=None, **{f"cpu{cpu}__online": None for cpu in cpus})) == found(
        tree()
    )


def test_without_the_list_a_cpu_that_is_present_and_has_no_folder_is_offline() -> None:
    """As one that was never started."""
    machine = found(edited(online=None, present="0-5\n"))
    assert (set(machine.online), set(machine.by_id)) == ({0, 1, 2, 3}, {0, 1, 2, 3, 4, 5})
    assert machine.cpus[:4] == found(tree()).cpus


def test_without_the_list_a_folder_that_is_not_among_those_present_counts() -> None:
    """What is there is there."""
    machine = found(edited(online=None, present="0-2\n"))
    assert machine.online == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "name", ["cpuX", "cpu", "cpu²", "cpu-1", "cpu1x", "cpu١", "cpumap", "cpu123456"]
)
def test_without_the_list_nothing_that_is_not_cpu_and_a_number_is_a_cpu(name: str) -> None:
    """The folder holds others: cpufreq, cpuidle, cpumap."""
    assert found(edited(online=None) | {f"{name}/online": "1\n"}) == found(tree())


# --- the hyperthreads of a core ---


def hyperthreads(**topology: str | int | None) -> tuple[int, ...]:
    """The siblings of CPU 1 where these files are all that tells of them; in the tree they are 1
    and 3.
    """
    told: dict[str, str | int | None] = {
        "thread_siblings_list": None,
        "core_cpus_list": None,
        **topology,
    }
    return (
        found(edited(**{f"cpu1__topology__{name}": text for name, text in told.items()}))
        .by_id[1]
        .siblings
    )


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("00000003\n", {0, 1}),
        ("0000000a\n", {1, 3}),
        ("A\n", {1, 3}),
        ("a", {1, 3}),
        ("00000000,0000000a\n", {1, 3}),
        ("ff,00000000\n", set(range(32, 40))),
        ("ff,0\n", set(range(32, 40))),
        ("1,00000000,80000001\n", {0, 31, 64}),
        (f"{'0,' * 1023}a\n", {1, 3}),
    ],
)
@pytest.mark.parametrize("name", ["thread_siblings", "core_cpus"])
def test_siblings_may_be_a_mask(name: str, mask: str, expected: set[int]) -> None:
    """In words of 32 bits, the highest first; leading noughts may be left out, as dumps do."""
    assert hyperthreads(**{name: mask}) == tuple(sorted(expected))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "0\n",
        "00000000,00000000\n",
        "x\n",
        "0x3\n",
        "3,,3\n",
        ",3\n",
        "3,\n",
        "3 3\n",
        "123456789\n",
        "-1\n",
        "+3\n",
        "1_0\n",
        "٣\n",
        f"{'0,' * 1024}a\n",
        errno.EIO,
    ],
)
@pytest.mark.parametrize("name", ["thread_siblings", "core_cpus"])
def test_what_is_no_mask_says_nothing(name: str, text: str | int) -> None:
    """The CPU is there all the same."""
    assert hyperthreads(**{name: text}) == ()


def test_a_list_of_siblings_goes_before_a_mask_and_an_unusable_one_does_not() -> None:
    """Of the two names the one that all kernels have comes first."""
    assert hyperthreads(
        thread_siblings_list="1,3\n", thread_siblings="2\n", core_cpus_list="0-3\n"
    ) == (1, 3)
    for text in ("\n", "x\n", errno.EIO):
        assert hyperthreads(
            thread_siblings_list=text, thread_siblings="a\n", core_cpus_list="0-3\n"
        ) == (1, 3)
    assert hyperthreads(thread_siblings="0\n", core_cpus_list="1,3\n", core_cpus="f\n") == (1, 3)
    assert hyperthreads(thread_siblings="nonsense\n", core_cpus="a\n") == (1, 3)


def test_the_affinity_of_this_process_does_not_matter() -> None:
    """isolcpus, cpuset and taskset limit where we run, not what there is."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert len(found({"online": "0-63\n"}).online) == 64
    finally:
        os.sched_setaffinity(0, before)


def test_an_offline_cpu_is_present_and_has_nothing() -> None:
    """K17: no topology, no cpufreq; its idle states stay readable."""
    files = edited(online="0-2\n", cpu3__topology=None, cpufreq__policy3=None, cpu3__online="0\n")
    machine = found(files)
    cpu = machine.by_id[3]
    assert (cpu.online, cpu.package, cpu.core, cpu.siblings, cpu.domain, len(cpu.idle)) == (
        False,
        None,
        None,
        (),
        None,
        3,
    )
    assert machine.online == {0, 1, 2}
    assert [domain.id for domain in machine.domains] == [0, 1, 2]


@pytest.mark.parametrize("number", [errno.ENXIO, errno.EBUSY])
def test_cpufreq_files_of_an_offline_sibling_are_skipped(number: int) -> None:
    """Field report 5: with nosmt they exist and cannot be read; the rest is not disturbed."""
    files = edited(online="0-2\n")
    files |= {
        path: number
        for path in files
        if path.startswith("cpufreq/policy3/") and not path.endswith("related_cpus")
    }
    machine = found(files)
    assert [domain.id for domain in machine.domains] == [0, 1, 2]
    assert machine.by_id[3].domain is None


def test_cpu0_needs_no_online_file() -> None:
    """Mostly it has none."""
    assert found(edited(cpu0__online=None)) == found(tree())


@pytest.mark.parametrize(
    "text",
    ["-1\n", "65535\n", None, "", "\n", "x\n", "1.5\n", "99999999999999999999999\n", errno.EIO],
)
@pytest.mark.parametrize("name", ["physical_package_id", "die_id", "cluster_id", "core_id"])
def test_odd_ids_are_unknown(name: str, text: str | int | None) -> None:
    """Field report 53, K22: -1, 65535 and missing mean that nobody knows; the CPU is there all the
    same.
    """
    machine, normal = found(edited(**{f"cpu1__topology__{name}": text})), found(tree())
    attribute = name.removesuffix("_id").removeprefix("physical_")
    assert getattr(machine.by_id[1], attribute) is None
    assert [cpu for cpu in machine.cpus if cpu.id != 1] == [
        cpu for cpu in normal.cpus if cpu.id != 1
    ]
    assert (machine.domains, machine.uncore) == (normal.domains, normal.uncore)


def test_large_ids_are_kept() -> None:
    """K22: arm64 has cluster_id 56 and physical_package_id 36."""
    machine = found(
        edited(cpu1__topology__cluster_id="56\n", cpu1__topology__physical_package_id="36\n")
    )
    assert (machine.by_id[1].cluster, machine.by_id[1].package) == (56, 36)


# --- any one file missing, empty, wrong or unreadable ---

_CONTENTS: dict[str, str | int | None] = {
    "missing": None,
    "empty": "",
    "newline": "\n",
    "blank": "  \n",
    "garbage": "?!\n",
    "binary": "\x00\udcff\udcfe\n",
    "long": "9" * 4096,
    "negative": "-5\n",
    "eio": errno.EIO,
    "eacces": errno.EACCES,
    "ebusy": errno.EBUSY,
}


@pytest.mark.parametrize("content", _CONTENTS.values(), ids=_CONTENTS)
def test_each_file_costs_only_itself(content: str | int | None) -> None:
    """Each file of the tree in turn: nothing is raised, and everything that is not of the same CPU,
    domain or entry stays as it was.
    """
    normal = found(tree())
    for path in tree():
        if path == "online":
            continue
        machine = found(edited(**{path.replace("/", "__"): content}))
        assert machine.online == normal.online, path
        _check_unhurt(path, machine, normal)


def _check_unhurt(path: str, machine: Machine, normal: Machine) -> None:
    owner = path.partition("/")[0]
    number = int(owner[3:]) if owner[:3] == "cpu" and owner[3:].isdigit() else None
    policy = int(path.split("policy")[1].partition("/")[0]) if "policy" in path else None
    package = path.split("package_")[1][:2] if "package_" in path else None
    odd = {number, policy}
    assert [cpu for cpu in machine.cpus if cpu.id not in odd] == [
        cpu for cpu in normal.cpus if cpu.id not in odd
    ], path
    assert [domain for domain in machine.domains if domain.id != policy] == [
        domain for domain in normal.domains if domain.id != policy
    ], path
    assert [entry for entry in machine.uncore if package is None or package not in entry.name] == [
        entry for entry in normal.uncore if package is None or package not in entry.name
    ]
    if number is not None:
        assert machine.domains == normal.domains, path
    if policy is not None:
        assert machine.by_id[policy].idle == normal.by_id[policy].idle, path


def _uncore_but(package: str | None, machine: Machine) -> list[UncoreEntry]:
    return [entry for entry in machine.uncore if package is None or package not in entry.name]


def test_a_cpu_without_anything() -> None:
    """No topology, no cpufreq, no cpuidle: it exists."""
    machine = found({"online": "0-1\n"})
    assert [(cpu.id, cpu.online, cpu.siblings, cpu.domain, cpu.idle) for cpu in machine.cpus] == [
        (0, True, (), None, ()),
        (1, True, (), None, ()),
    ]
    assert (machine.domains, machine.uncore, machine.boost, machine.idle_driver) == (
        (),
        (),
        None,
        None,
    )


@pytest.mark.parametrize(
    "name", ["policyX", "policy", "policy²", "policy-1", "policy1x", "boost", "stats"]
)
def test_odd_names_in_the_cpufreq_folder(name: str) -> None:
    """Nothing that is not policyN is a policy."""
    files = tree() | {f"cpufreq/{name}/{file}": text for file, text in _policy_files("9").items()}
    assert found(files) == found(tree())


@pytest.mark.parametrize("name", ["stateX", "state", "state²", "state-1", "driver"])
def test_odd_names_in_the_cpuidle_folder(name: str) -> None:
    """Nothing that is not stateN is a state."""
    files = tree() | {
        f"cpu1/cpuidle/{name}/{file}": "0\n" for file in ("name", "disable", "latency")
    }
    assert found(files) == found(tree())


@pytest.mark.parametrize(
    "name",
    ["package_²_die_0", "package_00", "package_xx_die_yy", "uncoreX", "uncore²", "uncore", "notes"],
)
def test_odd_names_in_the_uncore_folder(name: str) -> None:
    """They stop nothing."""
    files = tree() | {
        f"intel_uncore_frequency/{name}/{file}": text for file, text in _uncore_files().items()
    }
    machine = found(files)
    assert {entry.name for entry in machine.uncore} >= {"package_00_die_00", "package_01_die_00"}
    assert {entry.name for entry in machine.uncore} <= {
        "package_00_die_00",
        "package_01_die_00",
        name,
    }
    assert machine.domains == found(tree()).domains


# --- B: cpufreq ---


@pytest.mark.parametrize("name", ["name", "disable"])
@pytest.mark.parametrize("content", [None, errno.EIO])
def test_an_idle_state_without_a_name_or_a_switch_is_none(name: str, content: int | None) -> None:
    """Nobody could ask for the one or turn the other off; the states beside it are as they are."""
    files = edited(**{f"cpu0__cpuidle__state1__{name}": content})
    result = discover(TreeHost(files))
    assert [state.name for state in result.machine.by_id[0].idle] == ["POLL", "C6"]
    (group,) = (group for group in result.groups if group.key == "idle:0")
    assert group.labels == ("state0", "state2")


def test_states_are_in_the_order_of_their_numbers() -> None:
    """state10 comes after state9."""
    files: Files = {"online": "0\n"}
    for index in range(12):
        files[f"cpu0/cpuidle/state{index}/name"] = f"S{index}\n"
        files[f"cpu0/cpuidle/state{index}/disable"] = "0\n"
    assert [state.name for state in found(files).cpus[0].idle] == [
        f"S{index}" for index in range(12)
    ]


@pytest.mark.parametrize(
    "driver", ["intel_idle", "acpi_idle", "haltpoll", "psci_idle", "none", None]
)
def test_idle_drivers(driver: str | None) -> None:
    """Field report 15; "none" is no driver."""
    machine = found(edited(cpuidle__current_driver=None if driver is None else f"{driver}\n"))
    assert machine.idle_driver == (None if driver in (None, "none") else driver)


def test_older_kernels_have_no_default_status() -> None:
    """K15: then it is not known; disabled ones are disabled, also with values other than 1."""
    machine = found(
        edited(cpu0__cpuidle__state1__default_status=None, cpu0__cpuidle__state2__disable="1\n")
    )
    assert [(state.enabled, state.default_enabled) for state in machine.cpus[0].idle] == [
        (True, True),
        (True, None),
        (False, False),
    ]


def test_links_instead_of_policy_folders() -> None:
    """Some trees have cpuN/cpufreq only: the domain is named after its first CPU."""
    files = {
        (
            path.replace("cpufreq/policy", "cpu").replace("/", "/cpufreq/", 1)
            if path.startswith("cpufreq/")
            else path
        ): text
        for path, text in tree().items()
    }
    machine = found(files)
    assert machine.domains == found(tree()).domains
    paths = {
        group.files[0].path
        for group in discover(TreeHost(files)).groups
        if group.kind is Kind.CPUFREQ
    }
    assert paths == {f"{CPU_ROOT}/cpu{cpu}/cpufreq/scaling_governor" for cpu in range(4)}


def test_shared_policies_are_read_once() -> None:
    """K7: related_cpus names the CPUs, in any form of list; cpuN/cpufreq lead to the same files."""
    for form in ("0 1 2 3\n", "0-3\n", "0,1,2,3\n"):
        files = {
            path: text
            for path, text in tree().items()
            if not path.startswith("cpufreq/policy") or path.startswith("cpufreq/policy0/")
        }
        files["cpufreq/policy0/related_cpus"] = form
        machine = found(files, links={f"cpu{cpu}/cpufreq": "cpufreq/policy0" for cpu in range(4)})
        assert [(domain.id, domain.cpus) for domain in machine.domains] == [(0, (0, 1, 2, 3))]
        assert {cpu.domain for cpu in machine.cpus} == {0}


def test_shared_policies_without_policy_folders() -> None:
    """Each CPU's folder shows the same related_cpus: one domain, not four."""
    files: Files = {"online": "0-3\n"}
    for cpu in range(4):
        files |= {
            f"cpu{cpu}/cpufreq/{name}": text
            for name, text in _policy_files("0 1" if cpu < 2 else "2 3", "cppc_cpufreq").items()
        }
    assert [(domain.id, domain.cpus) for domain in found(files).domains] == [
        (0, (0, 1)),
        (2, (2, 3)),
    ]


def test_a_policy_whose_first_cpu_is_offline() -> None:
    """K18: the remaining CPU keeps it alive."""
    files = {
        path: text
        for path, text in tree().items()
        if not path.startswith("cpufreq/policy") or path.startswith("cpufreq/policy0/")
    }
    files |= {
        "online": "1-3\n",
        "cpufreq/policy0/related_cpus": "0 1 2 3\n",
        "cpufreq/policy0/affected_cpus": "1 2 3\n",
    }
    result = discover(TreeHost(files))
    assert [(domain.id, domain.cpus) for domain in result.machine.domains] == [(0, (0, 1, 2, 3))]
    assert next(group.cpus for group in result.groups if group.kind is Kind.CPUFREQ) == (1, 2, 3)


@pytest.mark.parametrize(
    "driver",
    [
        "intel_pstate",
        "intel_cpufreq",
        "acpi-cpufreq",
        "amd-pstate",
        "amd-pstate-epp",
        "cppc_cpufreq",
        "apple-cpufreq",
    ],
)
def test_scaling_drivers(driver: str) -> None:
    """All are discovered and managed; which were tried is the planner's word."""
    machine = found(edited(cpufreq__policy0__scaling_driver=f"{driver}\n"))
    assert machine.domains[0].driver == driver
    assert machine.domains[0].managed


@pytest.mark.parametrize("text", ["", "\n", None])
def test_a_policy_without_driver_is_none(text: str | None) -> None:
    """A virtual machine: no frequency, but everything else."""
    machine = found(edited(cpufreq__policy0__scaling_driver=text))
    assert [domain.id for domain in machine.domains] == [1, 2, 3]
    assert len(machine.cpus[0].idle) == 3


@pytest.mark.parametrize(
    "text", ["performance powersave \n", "performance powersave\n", " performance  powersave\n"]
)
def test_lists_of_governors(text: str) -> None:
    """With or without a trailing blank."""
    assert found(edited(cpufreq__policy0__scaling_available_governors=text)).domains[
        0
    ].governors == ("performance", "powersave")


def test_a_domain_without_epp_has_no_epp_file_to_manage() -> None:
    """K12: ENOENT; the other domains keep theirs."""
    result = discover(TreeHost(edited(cpufreq__policy0__energy_performance_preference=None)))
    assert [domain.settings.epp for domain in result.machine.domains] == [
        None,
        "balance_power",
        "balance_power",
        "balance_power",
    ]
    assert [len(group.files) for group in result.groups if group.kind is Kind.CPUFREQ] == [
        3,
        4,
        4,
        4,
    ]


def test_epp_is_supported_where_its_file_is() -> None:
    """E6: the list of preferences shrinks under performance (K9) or is missing; it does not
    decide.
    """
    assert (
        found(edited(cpufreq__policy0__energy_performance_available_preferences=None))
        .domains[0]
        .settings.epp
        == "balance_power"
    )
    assert (
        found(edited(cpufreq__policy0__energy_performance_preference="128\n"))
        .domains[0]
        .settings.epp
        == "128"
    )


def test_hybrid_and_favoured_cores_have_their_own_range() -> None:
    """Field report 13: limits are each domain's own."""
    machine = found(
        edited(
            cpufreq__policy2__cpuinfo_max_freq="4300000\n",
            cpufreq__policy3__cpuinfo_max_freq="4500000\n",
        )
    )
    assert [domain.hardware_max_khz for domain in machine.domains] == [
        4_000_000,
        4_000_000,
        4_300_000,
        4_500_000,
    ]
    assert len(machine.kinds) == 3


def test_the_limit_is_the_highest_that_any_file_names() -> None:
    """E3: with boost on, whatever the driver calls it."""
    for name, text, expected in (
        ("amd_pstate_max_freq", "4700000\n", 4_700_000),
        ("scaling_boost_frequencies", "4200000 4100000 \n", 4_200_000),
        ("scaling_available_frequencies", "4000001 3700000 800000 \n", 4_000_001),
        ("amd_pstate_max_freq", "3000000\n", 4_000_000),
        ("scaling_boost_frequencies", "\n", 4_000_000),
    ):
        assert (
            found(edited(**{f"cpufreq__policy0__{name}": text})).domains[0].limit_max_khz
            == expected
        )


@pytest.mark.parametrize("text", ["0\n", "00\n"])
def test_a_maximum_of_0_is_none(text: str) -> None:
    """Some machines show it for all CPUs; the range is not known then, whatever the minimum is."""
    domain = found(edited(cpufreq__policy0__cpuinfo_max_freq=text)).domains[0]
    assert (
        domain.hardware_min_khz,
        domain.hardware_max_khz,
        domain.limit_max_khz,
        domain.managed,
    ) == (800_000, None, None, False)
    named = found(
        edited(
            cpufreq__policy0__cpuinfo_max_freq=text,
            cpufreq__policy0__scaling_available_frequencies="2000000 1000000 \n",
        )
    ).domains[0]
    assert (named.hardware_max_khz, named.limit_max_khz, named.managed) == (None, 2_000_000, False)


def test_a_minimum_of_0_is_one() -> None:
    """It is a number like any other."""
    domain = found(edited(cpufreq__policy0__cpuinfo_min_freq="0\n")).domains[0]
    assert (domain.hardware_min_khz, domain.managed) == (0, True)


@pytest.mark.parametrize(
    ("no_turbo", "highest", "limit", "named"),
    [
        ("1\n", "4700000\n", 4_700_000, True),
        ("1\n", "4000000\n", 4_000_000, False),
        ("1\n", "3500000\n", 4_000_000, False),
        ("1\n", "\n", 4_000_000, False),
        ("1\n", None, 4_000_000, False),
        ("0\n", "4700000\n", 4_000_000, True),
        (None, "4700000\n", 4_000_000, True),
    ],
)
def test_a_maximum_above_the_hardwares_while_turbo_is_off_was_set_while_it_was_on(
    no_turbo: str | None, highest: str | None, limit: int, named: bool
) -> None:
    """So it names how far turbo goes; with turbo on, the hardware's own is that."""
    domain = found(
        edited(intel_pstate__no_turbo=no_turbo, cpufreq__policy0__scaling_max_freq=highest)
    ).domains[0]
    assert (domain.hardware_max_khz, domain.limit_max_khz, domain.limit_named) == (
        4_000_000,
        limit,
        named,
    )


CPPC: Files = {
    "cpu0/acpi_cppc/highest_perf": "60\n",
    "cpu0/acpi_cppc/nominal_perf": "40\n",
    "cpu0/acpi_cppc/nominal_freq": "4000\n",
}


TABLE = "cpufreq/policy0/scaling_available_frequencies"
NOMINAL: Files = {"cpu0/acpi_cppc/nominal_freq": "2250\n"}


@pytest.mark.parametrize(
    ("files", "base"),
    [
        ({}, None),
        ({"cpufreq/policy0/base_frequency": "2600000\n"} | NOMINAL, 2_600_000),
        ({"cpufreq/policy0/base_frequency": errno.EIO} | NOMINAL, 2_250_000),
        ({"cpu0/acpi_cppc/nominal_freq": "0\n"}, None),
        (NOMINAL | {TABLE: "2000000 800000 \n"}, 2_250_000),
        ({TABLE: "2400000 1600000 800000 \n"}, 2_400_000),
        ({TABLE: "2401000 2400000 1600000 \n"}, 2_400_000),  # the first stands for turbo
        (
            {
                TABLE: "2400000 1600000 \n",
                "cpufreq/policy0/scaling_boost_frequencies": "3700000 \n",
            },
            2_400_000,
        ),
        ({TABLE: "\n"}, None),
    ],
)
def test_the_base_frequency_is_the_drivers_the_firmwares_or_the_tables(
    files: Files, base: int | None
) -> None:
    """In this order; 0 and what cannot be read are none."""
    assert found(edited() | files).domains[0].base_khz == base


@pytest.mark.parametrize("no_turbo", ["0\n", "1\n", None])
@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({}, False),
        (CPPC, True),
        ({"cpufreq/policy0/amd_pstate_max_freq": "4700000\n"}, True),
        ({"cpufreq/policy0/amd_pstate_max_freq": "0\n"}, False),
        ({"cpufreq/policy0/amd_pstate_max_freq": "\n"}, False),
        ({"cpufreq/policy0/amd_pstate_max_freq": errno.EIO}, False),
        ({"cpufreq/policy0/scaling_boost_frequencies": "4200000 4100000 \n"}, True),
        ({"cpufreq/policy0/scaling_boost_frequencies": "\n"}, False),
        ({"cpufreq/policy0/scaling_available_frequencies": "4000000 800000 \n"}, True),
    ],
)
def test_a_limit_is_named_where_a_file_says_how_far_turbo_goes_while_it_is_off(
    no_turbo: str | None, files: Files, named: bool
) -> None:
    """While it is on, or there is no switch, the hardware's own maximum is that.

    The other domains have their own files.
    """
    machine = found(edited(intel_pstate__no_turbo=no_turbo) | files)
    off = no_turbo == "1\n"
    assert [domain.limit_named for domain in machine.domains] == [
        named or not off,
        not off,
        not off,
        not off,
    ]


def test_firmware_names_how_far_turbo_goes_while_it_is_off() -> None:
    """Its highest performance, by the frequency of the nominal one; with turbo on, the hardware's
    own maximum is that.
    """
    assert found(edited(intel_pstate__no_turbo="1\n") | CPPC).domains[0].limit_max_khz == 6_000_000
    assert found(tree() | CPPC).domains[0].limit_max_khz == 4_000_000


def test_what_the_driver_names_goes_before_what_firmware_does() -> None:
    """amd-pstate says how far turbo goes in a file of its own; firmware's highest performance is
    asked only where it does not.
    """
    files = edited(intel_pstate__no_turbo="1\n", cpufreq__policy0__amd_pstate_max_freq="4700000\n")
    assert found(files | CPPC).domains[0].limit_max_khz == 4_700_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50\n", 50),
        ("100\n", 100),
        ("0\n", 0),
        ("", None),
        ("\n", None),
        ("half\n", None),
        (None, None),
        (errno.EIO, None),
    ],
)
def test_the_range_of_intel_pstate_as_a_whole(text: str | int | None, expected: int | None) -> None:
    """Each end by itself; it is read and never set, so it is in no group."""
    for name in ("min_perf_pct", "max_perf_pct"):
        result = discover(TreeHost(edited(**{f"intel_pstate__{name}": text})))
        ends = {
            "min_perf_pct": result.machine.min_percent,
            "max_perf_pct": result.machine.max_percent,
        }
        assert ends == {"min_perf_pct": None, "max_perf_pct": None, name: expected}
        assert not [
            item.path
            for group in result.groups
            for item in group.files
            if item.path.endswith("_perf_pct")
        ]


def test_a_table_is_ascending_and_without_doubles() -> None:
    """As K3 was measured: 3701000 3700000 2600000 1800000 800000."""
    machine = found(
        edited(
            cpufreq__policy0__scaling_available_frequencies=(
                "3701000 3700000 2600000 1800000 1800000 800000 \n"
            )
        )
    )
    assert machine.domains[0].available_khz == (800_000, 1_800_000, 2_600_000, 3_700_000, 3_701_000)


@pytest.mark.parametrize(
    ("no_turbo", "boost", "expected", "file"),
    [
        ("0\n", None, True, "no_turbo"),
        ("1\n", None, False, "no_turbo"),
        (None, "1\n", True, "boost"),
        (None, "0\n", False, "boost"),
        (None, None, None, None),
    ],
)
def test_boost_switches(
    no_turbo: str | None, boost: str | None, expected: bool | None, file: str | None
) -> None:
    """Field report 51: the node's switch, and whether it is on."""
    result = discover(TreeHost(edited(intel_pstate__no_turbo=no_turbo, cpufreq__boost=boost)))
    assert result.machine.boost is expected
    assert [group.driver for group in result.groups if group.kind is Kind.BOOST] == (
        [] if file is None else [file]
    )


def test_a_cpb_file_is_no_node_wide_switch() -> None:
    """acpi-cpufreq has one a CPU."""
    assert found(edited(intel_pstate__no_turbo=None, cpufreq__policy0__cpb="1\n")).boost is None


@pytest.mark.parametrize(
    ("modalias", "expected"),
    [
        ("cpu:type:x86,ven0000:feature:\n", "x86_64"),
        ("cpu:type:aarch64:feature:\n", "aarch64"),
        (None, None),
        ("of:N\n", None),
        ("cpu:type:s390:f", None),
    ],
)
def test_architecture(modalias: str | None, expected: str | None) -> None:
    """A tree from elsewhere says it itself, or nobody does; other
    architectures start all the same.
    """
    assert found(edited(modalias=modalias)).architecture == expected


# --- uncore ---


def _tpmi(count: int = 2) -> Files:
    files: Files = {}
    for number in range(count):
        files |= {
            f"intel_uncore_frequency/uncore{number:02d}/{name}": text
            for name, text in _uncore_files().items()
        }
        files |= {
            f"intel_uncore_frequency/uncore{number:02d}/{name}": f"{value}\n"
            for name, value in (("package_id", 0), ("domain_id", number), ("fabric_cluster_id", 0))
        }
    return files


def test_tpmi_is_preferred() -> None:
    """Field report 41: both layouts at once describe the same hardware, and writing both would
    conflict.
    """
    result = discover(TreeHost(tree() | _tpmi()))
    assert [
        (entry.name, entry.package, entry.die, entry.domain, entry.cluster)
        for entry in result.machine.uncore
    ] == [
        ("uncore00", 0, None, 0, 0),
        ("uncore01", 0, None, 1, 0),
    ]
    paths = {
        item.path for group in result.groups if group.kind is Kind.UNCORE for item in group.files
    }
    assert paths == {
        f"{UNCORE_ROOT}/uncore{number:02d}/{end}_freq_khz"
        for number in range(2)
        for end in ("min", "max")
    }


def test_uncore_entries_have_their_own_range() -> None:
    """Limits are per entry, not those of package 0."""
    machine = found(
        edited(intel_uncore_frequency__package_01_die_00__initial_max_freq_khz="1800000\n")
    )
    assert [entry.hardware_max_khz for entry in machine.uncore] == [2_400_000, 1_800_000]


def test_package_and_die_come_from_the_name() -> None:
    """package_01_die_02; the older layout has no id files."""
    files = tree() | {
        f"intel_uncore_frequency/package_01_die_02/{name}": text
        for name, text in _uncore_files().items()
    }
    assert [(entry.package, entry.die) for entry in found(files).uncore] == [(0, 0), (1, 0), (1, 2)]


# --- what makes a machine another one (A2) ---


def test_sentinels() -> None:
    """Driver, status, boost, the list of CPUs, and one maximum a domain."""
    files = tree()
    for cpu in range(4):
        files |= {
            f"cpu{cpu}/cpufreq/{name}": text for name, text in _policy_files(str(cpu)).items()
        }
    names = sorted({path.rpartition("/")[2] for path in discover(TreeHost(files)).sentinels})
    assert names == ["cpuinfo_max_freq", "no_turbo", "online", "scaling_driver", "status"]
    assert (
        len(
            [
                path
                for path in discover(TreeHost(files)).sentinels
                if path.endswith("cpuinfo_max_freq")
            ]
        )
        == 4
    )


# --- real machines ---


@pytest.fixture(scope="session")
def dump() -> Iterator[Callable[[str], Path]]:
    known: dict[str, Path] = {}
    with ExitStack() as folders:

        def get(name: str) -> Path:
            if not (DUMPS / name).is_file():
                pytest.skip(
                    f"{DUMPS / name} is not here: dumps of real machines lie beside the repository"
                )
            if name not in known:
                known[name] = unpack_dump(
                    DUMPS / name, Path(folders.enter_context(rig.state_folder()))
                )
            return known[name]

        yield get


Dump = Callable[[str], Path]


def test_an_acpi_cpufreq_server(dump: Dump) -> None:
    """2 × EPYC 7451: 96 CPUs, one policy each, a frequency table, no EPP, no default_status, no die
    ids.
    """
    result = discover(SysfsHost(str(dump("x86_64-epyc_7451.tar.gz"))))
    machine = result.machine
    assert (
        len(machine.cpus),
        len(machine.online),
        len(machine.domains),
        len(machine.shared_cores),
    ) == (96, 96, 96, 48)
    assert {cpu.package for cpu in machine.cpus} == {0, 1}
    assert {
        (domain.driver, domain.available_khz, domain.settings.epp) for domain in machine.domains
    } == {("acpi-cpufreq", (1_200_000, 1_800_000, 2_300_000), None)}
    assert {domain.governors for domain in machine.domains} == {
        ("conservative", "userspace", "powersave", "ondemand", "performance", "schedutil")
    }
    assert (machine.idle_driver, set(machine.idle_names), machine.boost, machine.architecture) == (
        "acpi_idle",
        {"POLL", "C1", "C2"},
        True,
        "x86_64",
    )
    assert {state.default_enabled for cpu in machine.cpus for state in cpu.idle} == {None}
    assert len(machine.kinds) == 1
    assert len(result.groups) == 96 * 2 + 1


def test_an_intel_pstate_laptop(dump: Dump) -> None:
    """8 CPUs with EPP, ACPI idle states with default_status."""
    machine = discover(SysfsHost(str(dump("x86_64-64cpu-linux6.2.tar.gz")))).machine
    assert (len(machine.cpus), len(machine.domains), len(machine.shared_cores)) == (8, 8, 4)
    assert {
        (domain.driver, domain.settings.epp, domain.settings.governor) for domain in machine.domains
    } == {("intel_pstate", "balance_power", "powersave")}
    assert {(domain.hardware_min_khz, domain.hardware_max_khz) for domain in machine.domains} == {
        (400_000, 4_700_000)
    }
    assert machine.idle_names == ("POLL", "C1_ACPI", "C2_ACPI", "C3_ACPI")
    assert {state.default_enabled for cpu in machine.cpus for state in cpu.idle} == {True}
    assert (machine.boost, machine.driver_status, machine.architecture) == (
        True,
        "active",
        "x86_64",
    )


def test_what_has_throttled_a_real_laptop(dump: Dump) -> None:
    """CPU 0 of the dump: its core 49 times, its package 156 times."""
    host = SysfsHost(str(dump("x86_64-64cpu-linux6.2.tar.gz")))
    core, package = clamps_of(host, discover(host).machine, [0])
    assert core.text == (
        "the core was throttled for heat 49 times since the machine started, 215 ms in all"
    )
    assert "the package was throttled for heat 156 times" in package.text


def test_a_hybrid_machine(dump: Dump) -> None:
    """6 cores with two threads, of which two are favoured, and 8 single ones: three kinds, no
    cpuidle in the dump.
    """
    machine = discover(SysfsHost(str(dump("20em64t-hybrid-1p6c2t+2ca4co1t.tar.bz2")))).machine
    assert (len(machine.cpus), len(machine.domains), len(machine.shared_cores)) == (20, 20, 6)
    assert {
        (kind.frequency.hardware_max_khz if kind.frequency else None): len(cpus)
        for kind, cpus in machine.kinds
    } == {5_000_000: 8, 5_200_000: 4, 3_900_000: 8}
    assert {domain.settings.epp for domain in machine.domains} == {"balance_performance"}
    assert (machine.idle_driver, machine.idle_names, machine.boost, machine.driver_status) == (
        None,
        (),
        True,
        "active",
    )


@pytest.mark.parametrize(
    "name",
    [
        "x86_64-epyc_7451.tar.gz",
        "x86_64-64cpu-linux6.2.tar.gz",
        "20em64t-hybrid-1p6c2t+2ca4co1t.tar.bz2",
    ],
)
def test_discovering_a_dump_writes_nothing(dump: Dump, name: str) -> None:
    """Not a byte, not a mode, not a name."""
    root = dump(name)

    def snapshot() -> set[tuple[str, int, int]]:
        return {
            (str(path), path.lstat().st_mtime_ns, stat.S_IMODE(path.lstat().st_mode))
            for path in (root / CPU_ROOT).rglob("*")
        }

    before = snapshot()
    assert discover(SysfsHost(str(root))).machine == discover(SysfsHost(str(root))).machine
    assert snapshot() == before


@pytest.mark.parametrize("file", ["cpuinfo_max_freq", "scaling_driver"])
@pytest.mark.parametrize(
    "text", ["", "0", "-1", "none", " 3700000 ", "9" * 30, "3700000\n3700000", "\xff"]
)
def test_a_machine_that_does_not_change_is_never_another_one(
    tmp_path: Path, file: str, text: str
) -> None:
    """Whatever a file says that tells of another machine by its change: as long as it says so,
    nothing is discovered again (A1, A2).
    """
    root = build_tree(tmp_path, evolve(INTEL, cpus=2))
    for path in root.rglob(file):
        path.write_bytes(f"{text}\n".encode("latin-1"))
    host = SysfsHost(str(root))
    found = discover(host)
    assert not host.differing(tuple(found.sentinels), tuple(found.sentinels.values()))
