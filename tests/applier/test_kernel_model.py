"""The kernel model, one example a kernel fact (docs/developer/kernel-facts.md: K1 to K19, K23 to
K25); tests/kernel holds it to real kernels.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from attrs import evolve

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.machine import IdleState
from tests.applier import rig
from tests.applier.rig import GHZ

STATUS = f"{CPU_ROOT}/amd_pstate/status"
BOOST = f"{CPU_ROOT}/cpufreq/boost"


def text(model: KernelModel, path: str) -> str:
    return model.read(path).decode().strip()


def put(model: KernelModel, path: str, value: object) -> None:
    model.write(path, f"{value}\n".encode())


def limits(model: KernelModel, number: int = 0) -> tuple[int, int]:
    return int(text(model, rig.min_path(number))), int(text(model, rig.max_path(number)))


@contextmanager
def refused(number: int) -> Iterator[None]:
    """The block must fail with this errno."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]


@pytest.fixture
def intel() -> KernelModel:
    return KernelModel(rig.intel(2))


@pytest.fixture
def amd() -> KernelModel:
    return KernelModel(rig.amd(2))


@pytest.fixture
def table() -> KernelModel:
    return KernelModel(rig.tabled(2))


# --- limits ---


def test_k1_requests_stay_registered(intel: KernelModel) -> None:
    """min=2000000, then max=1500000: both read 1500000; raise max, and min springs back."""
    put(intel, rig.min_path(), 2_000_000)
    put(intel, rig.max_path(), 1_500_000)
    assert limits(intel) == (1_500_000, 1_500_000)
    put(intel, rig.max_path(), 3_000_000)
    assert limits(intel) == (2_000_000, 3_000_000)


def test_k1_what_reads_back_is_the_aggregate_of_all_requests(intel: KernelModel) -> None:
    """Thermal and firmware have requests of their own; ours is in force again when they lift
    theirs.
    """
    put(intel, rig.max_path(), 3_000_000)
    intel.limit(0, 1_000_000)
    assert limits(intel) == (800_000, 1_000_000)
    put(intel, rig.max_path(), 2_000_000)
    assert limits(intel) == (800_000, 1_000_000)
    intel.limit(0, None)
    assert limits(intel) == (800_000, 2_000_000)


def test_k2_the_update_may_come_after_the_write() -> None:
    """A read right after a write may still give the old value."""
    model = KernelModel(rig.intel(1), latency=0.004)
    put(model, rig.max_path(), 2_000_000)
    assert limits(model) == (800_000, 4_000_000)
    model.wait(0.003)
    assert limits(model) == (800_000, 4_000_000)
    model.wait(0.002)
    assert limits(model) == (800_000, 2_000_000)


def test_k3_a_table_rounds(table: KernelModel) -> None:
    """A minimum up and a maximum down: min=2000000 reads 2600000, max=2000001 reads 1800000."""
    put(table, rig.min_path(0), 2_000_000)
    assert limits(table, 0) == (2_600_000, 3_701_000)
    put(table, rig.max_path(1), 2_000_001)
    assert limits(table, 1) == (800_000, 1_800_000)


def test_k3_an_interval_without_entry_collapses_to_one(table: KernelModel) -> None:
    """min=2000000, max=1500000, and 2000000 to 2500000: whatever is shown is one entry of the
    table.
    """
    for low, high in ((2_000_000, 1_500_000), (2_000_000, 2_500_000), (1_900_000, 1_900_000)):
        put(table, rig.min_path(), low)
        put(table, rig.max_path(), high)
        found = limits(table)
        assert found[0] == found[1]
        assert found[0] in rig.K3_TABLE


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(0, 800_000, 800_000), (99_999_999, 4_000_000, 4_000_000), (5 * GHZ, 4_000_000, 4_000_000)],
)
def test_k4_values_beyond_the_hardware_are_taken_and_clamped(
    value: int, low: int, high: int
) -> None:
    """The kernel does not reject them; the plan has to."""
    model = KernelModel(rig.intel(2))
    put(model, rig.min_path(0), value)
    assert limits(model, 0) == (low, 4_000_000)
    put(model, rig.max_path(1), value)
    assert limits(model, 1) == (800_000, high)


@pytest.mark.parametrize("spelling", [b"2000000", b"2000000\n", b"0x1e8480", b"0x1E8480\n"])
def test_k5_accepted_spellings(intel: KernelModel, spelling: bytes) -> None:
    """Decimal with or without a newline, hexadecimal."""
    intel.write(rig.max_path(), spelling)
    assert limits(intel) == (800_000, 2_000_000)


@pytest.mark.parametrize(
    "spelling",
    [
        b" 2000000",
        b"2000000 ",
        b"-2000000",
        b"2000000.5",
        b"fast",
        b"2e6",
        b"2000000\n\n",
        b"0x",
        b"\n",
    ],
)
def test_k5_refused_spellings(intel: KernelModel, spelling: bytes) -> None:
    """Blanks around, negative, fraction, words: EINVAL, and nothing changes."""
    with refused(errno.EINVAL):
        intel.write(rig.max_path(), spelling)
    assert limits(intel) == (800_000, 4_000_000)


def test_k5_an_empty_write_succeeds_and_does_nothing(intel: KernelModel) -> None:
    """For limits, governor and EPP alike."""
    before = rig.shown(intel)
    for path in (rig.min_path(), rig.max_path(), rig.governor_path(), rig.epp_path()):
        intel.write(path, b"")
    assert rig.shown(intel) == before


def test_k6_order_does_not_matter_for_success(intel: KernelModel) -> None:
    """From 5.4 on a maximum below the minimum is taken; the interval is narrow for a moment."""
    put(intel, rig.min_path(), 2_000_000)
    put(intel, rig.max_path(), 1_000_000)
    assert limits(intel) == (1_000_000, 1_000_000)
    put(intel, rig.min_path(), 900_000)
    assert limits(intel) == (900_000, 1_000_000)


def test_k7_a_shared_policy_has_one_setting() -> None:
    """related_cpus "0 1"; a write through either CPU's link changes both; affected_cpus is the
    online part.
    """
    model = KernelModel(rig.arm(2, 2))
    folder = f"{CPU_ROOT}/cpu1/cpufreq"
    put(model, f"{folder}/scaling_max_freq", 2_000_000)
    assert limits(model, 0) == (800_000, 2_000_000)
    assert text(model, f"{CPU_ROOT}/cpu0/cpufreq/scaling_max_freq") == "2000000"
    assert limits(model, 2) == (800_000, 2_500_000)
    assert text(model, f"{folder}/related_cpus") == "0 1"
    model.plug(1, online=False)
    assert (
        text(model, rig.cpufreq(0, "related_cpus")),
        text(model, rig.cpufreq(0, "affected_cpus")),
    ) == ("0 1", "0")


# --- governor, EPP, speed ---


def test_k8_a_governor_that_is_not_there_is_refused(intel: KernelModel, table: KernelModel) -> None:
    """Unknown to the kernel or not offered by the driver."""
    for model, word in ((intel, "schedutil"), (intel, "turbo"), (table, "turbo")):
        with refused(errno.EINVAL):
            put(model, rig.governor_path(), word)
    put(table, rig.governor_path(), "ondemand")
    assert text(table, rig.governor_path()) == "ondemand"
    assert text(intel, rig.cpufreq(0, "scaling_available_governors")).split() == [
        "performance",
        "powersave",
    ]


@pytest.mark.parametrize("driver", ["intel_pstate", "amd-pstate-epp"])
def test_k9_under_performance_no_other_epp_is_taken(driver: str) -> None:
    """EBUSY; performance itself is fine; only amd-pstate-epp shrinks the list of preferences."""
    model = KernelModel(rig.machine([rig.domain(driver=driver)]))
    put(model, rig.governor_path(), "performance")
    with refused(errno.EBUSY):
        put(model, rig.epp_path(), "balance_power")
    put(model, rig.epp_path(), "performance")
    words = text(model, rig.cpufreq(0, "energy_performance_available_preferences")).split()
    assert (words == ["performance"]) is (driver == "amd-pstate-epp")
    put(model, rig.governor_path(), "powersave")
    put(model, rig.epp_path(), "balance_power")
    assert text(model, rig.epp_path()) == "balance_power"


@pytest.mark.parametrize(
    ("driver", "left"), [("intel_pstate", "balance_power"), ("amd-pstate-epp", "performance")]
)
def test_k10_the_epp_after_governor_performance(driver: str, left: str) -> None:
    """Both go to performance with the governor; going back, intel_pstate restores and
    amd-pstate-epp does not.
    """
    model = KernelModel(
        rig.machine(
            [rig.domain(driver=driver, settings=(None, None, "powersave", "balance_power"))]
        )
    )
    put(model, rig.governor_path(), "performance")
    assert text(model, rig.epp_path()) == "performance"
    put(model, rig.governor_path(), "powersave")
    assert text(model, rig.epp_path()) == left


def test_k11_default_is_a_word_for_another_one(amd: KernelModel) -> None:
    """It reads back as what it means."""
    put(amd, rig.epp_path(), "power")
    put(amd, rig.epp_path(), "default")
    assert text(amd, rig.epp_path()) in rig.EPP_WORDS


def test_k11_numbers_are_for_intel_pstate(intel: KernelModel, amd: KernelModel) -> None:
    """0 to 255 there, EINVAL under amd-pstate-epp."""
    for number in (0, 128, 255):
        put(intel, rig.epp_path(), number)
        assert text(intel, rig.epp_path()) == str(number)
    for model, word in ((intel, 256), (intel, -1), (amd, 128), (amd, "fast"), (intel, "fast")):
        with refused(errno.EINVAL):
            put(model, rig.epp_path(), word)


@pytest.mark.parametrize("driver", ["acpi-cpufreq", "cppc_cpufreq", "amd-pstate"])
def test_k12_no_epp_file(driver: str) -> None:
    """ENOENT to read and write; intel_cpufreq has it with HWP only."""
    model = KernelModel(
        rig.machine(
            [
                rig.domain(0, driver=driver),
                rig.domain(1, driver="intel_cpufreq"),
                rig.domain(2, driver="intel_cpufreq", has_epp=False),
            ]
        )
    )
    for number in (0, 2):
        for name in ("energy_performance_preference", "energy_performance_available_preferences"):
            with refused(errno.ENOENT):
                model.read(rig.cpufreq(number, name))
        with refused(errno.ENOENT):
            put(model, rig.epp_path(number), "power")
    assert text(model, rig.epp_path(1)) == "balance_performance"


def test_k13_setspeed_is_for_userspace(table: KernelModel) -> None:
    """Elsewhere it reads <unsupported> and refuses; under userspace a value is moved to an entry
    (100 → 800000).
    """
    path = rig.cpufreq(0, "scaling_setspeed")
    assert text(table, path) == "<unsupported>"
    with refused(errno.EINVAL):
        put(table, path, 1_800_000)
    put(table, rig.governor_path(), "userspace")
    for value, expected in (
        (1_800_000, "1800000"),
        (100, "800000"),
        (9_000_000, "3701000"),
        (2_000_000, "2600000"),
    ):
        put(table, path, value)
        assert text(table, path) == expected


# --- idle states ---


def test_k14_disable_takes_a_number(intel: KernelModel) -> None:
    """0 or 1, and 2 reads back as 1; words are refused; empty does nothing."""
    path = rig.idle_path(0, 2)
    for value, expected in ((1, "1"), (0, "0"), (2, "1"), (1, "1")):
        put(intel, path, value)
        assert text(intel, path) == expected
    for word in ("x", "true", "Y"):
        with refused(errno.EINVAL):
            put(intel, path, word)
    intel.write(path, b"")
    assert text(intel, path) == "1"
    assert text(intel, rig.idle_path(1, 2)) == "0"


def test_k25_all_states_can_be_disabled(intel: KernelModel) -> None:
    """The files say so; the kernel uses state 0 all the same."""
    for state in range(3):
        put(intel, rig.idle_path(0, state), 1)
    assert [text(intel, rig.idle_path(0, state)) for state in range(3)] == ["1", "1", "1"]


def test_k15_default_status() -> None:
    """enabled, disabled, or no such file on older kernels."""
    idle = (
        IdleState(0, "POLL", 0, True, True),
        IdleState(1, "C1", 2, True, False),
        IdleState(2, "C6", 100, True, None),
    )
    model = KernelModel(rig.intel(1, idle=idle))
    folder = f"{CPU_ROOT}/cpu0/cpuidle"
    assert [text(model, f"{folder}/state{state}/default_status") for state in (0, 1)] == [
        "enabled",
        "disabled",
    ]
    with refused(errno.ENOENT):
        model.read(f"{folder}/state2/default_status")


def test_k16_states_differ_between_cpus() -> None:
    """POLL has latency 0 on x86; other CPUs may have other sets."""
    machine = rig.intel(2)
    machine = evolve(
        machine,
        cpus=(
            machine.cpus[0],
            evolve(machine.cpus[1], idle=(IdleState(0, "LPI-0", 1), IdleState(1, "LPI-1", 100))),
        ),
    )
    model = KernelModel(machine)
    assert text(model, f"{CPU_ROOT}/cpu0/cpuidle/state0/latency") == "0"
    assert [text(model, f"{CPU_ROOT}/cpu1/cpuidle/state{state}/name") for state in (0, 1)] == [
        "LPI-0",
        "LPI-1",
    ]
    assert model.list(f"{CPU_ROOT}/cpu1/cpuidle") == ("state0", "state1")
    with refused(errno.ENOENT):
        put(model, rig.idle_path(1, 2), 1)


# --- hotplug ---


def test_k17_an_offline_cpu() -> None:
    """cpufreq of a policy without CPU: EBUSY to read and write; no topology; cpuidle stays; the
    lists say it.
    """
    model = KernelModel(rig.intel(4))
    model.plug(1, online=False)
    for name in (
        "scaling_max_freq",
        "scaling_governor",
        "energy_performance_preference",
        "cpuinfo_max_freq",
    ):
        with refused(errno.EBUSY):
            model.read(rig.cpufreq(1, name))
    with refused(errno.EBUSY):
        put(model, rig.max_path(1), 2_000_000)
    with refused(errno.ENOENT):
        model.read(f"{CPU_ROOT}/cpu1/topology/core_id")
    put(model, rig.idle_path(1, 1), 1)
    assert text(model, rig.idle_path(1, 1)) == "1"
    assert [text(model, f"{CPU_ROOT}/{name}") for name in ("present", "online", "offline")] == [
        "0-3",
        "0,2-3",
        "1",
    ]


def test_k18_back_online_limits_governor_and_idle_states_are_kept() -> None:
    """What the policy had before."""
    model = KernelModel(rig.intel(2))
    put(model, rig.max_path(1), 2_000_000)
    put(model, rig.governor_path(1), "performance")
    put(model, rig.idle_path(1, 2), 1)
    before = rig.shown(model)
    model.plug(1, online=False)
    model.plug(1, online=True)
    assert rig.shown(model) == before


def test_k18_the_remaining_cpu_keeps_a_shared_policy_alive() -> None:
    """Writes made meanwhile hold for the one that returns."""
    model = KernelModel(rig.arm(1, 2))
    model.plug(0, online=False)
    put(model, rig.max_path(0), 2_000_000)
    assert limits(model) == (800_000, 2_000_000)
    model.plug(0, online=True)
    assert text(model, f"{CPU_ROOT}/cpu0/cpufreq/scaling_max_freq") == "2000000"


def test_k19_a_kept_file_survives_offline_and_online() -> None:
    """EBUSY in between, and valid again afterwards."""
    model = KernelModel(rig.intel(2))
    watch = model.watch({rig.max_path(1): b"4000000\n", rig.governor_path(1): b"powersave\n"})
    assert watch.same()
    model.plug(1, online=False)
    with refused(errno.EBUSY):
        watch.same()
    model.plug(1, online=True)
    assert watch.same()
    put(model, rig.max_path(1), 2_000_000)
    assert not watch.same()


# --- modes and boost ---


def test_k23_a_mode_switch_creates_every_policy_anew() -> None:
    """Start values, another list of governors, and kept files give ENODEV for ever, also after
    switching back.
    """
    start = rig.amd(1)
    model = KernelModel(
        start,
        modes={
            "amd-pstate": {0: rig.domain(0, driver="amd-pstate", low=400_000)},
            "amd-pstate-epp": {0: start.domains[0]},
        },
    )
    put(model, rig.max_path(), 2_000_000)
    put(model, rig.epp_path(), "power")
    watch = model.watch({rig.max_path(): b"2000000\n"})
    put(model, STATUS, "passive")
    assert discover(model).machine.driver_status == "passive"
    assert limits(model) == (400_000, 4_000_000)
    assert text(model, rig.cpufreq(0, "scaling_available_governors")) == "performance schedutil"
    with refused(errno.ENOENT):
        model.read(rig.epp_path())
    with refused(errno.ENODEV):
        watch.same()
    put(model, STATUS, "active")
    assert (limits(model), text(model, rig.epp_path())) == (
        (400_000, 4_000_000),
        "balance_performance",
    )
    with refused(errno.ENODEV):
        watch.same()


def test_k23_an_unknown_mode_is_refused(amd: KernelModel) -> None:
    """EINVAL, and everything stays."""
    watch = amd.watch({rig.max_path(): b"4000000\n"})
    with refused(errno.EINVAL):
        put(amd, STATUS, "turbo")
    assert watch.same()


def test_k24_boost_moves_the_hardware_limits() -> None:
    """cppc_cpufreq, 0 → 1: cpuinfo_max_freq from 2500000 to 2956522, and an unlimited maximum with
    it.
    """
    model = KernelModel(
        rig.machine(
            [rig.domain(number, driver="cppc_cpufreq", high=2_500_000) for number in range(2)],
            boost=False,
        ),
        boosted={0: 2_956_522, 1: 2_956_522},
    )
    put(model, BOOST, 1)
    assert text(model, rig.cpufreq(0, "cpuinfo_max_freq")) == "2956522"
    assert limits(model, 0) == limits(model, 1) == (800_000, 2_956_522)
    put(model, BOOST, 0)
    assert (text(model, rig.cpufreq(0, "cpuinfo_max_freq")), limits(model, 0)) == (
        "2500000",
        (800_000, 2_500_000),
    )


def test_k24_a_domain_may_have_a_boost_file_of_its_own() -> None:
    """cppc_cpufreq: it moves that domain alone."""
    model = KernelModel(
        rig.machine(
            [rig.domain(number, driver="cppc_cpufreq", high=2_500_000) for number in range(2)],
            boost=False,
        ),
        boosted={0: 2_956_522, 1: 2_956_522},
    )
    put(model, BOOST, 1)
    put(model, rig.cpufreq(1, "boost"), 0)
    assert [text(model, rig.cpufreq(number, "cpuinfo_max_freq")) for number in (0, 1)] == [
        "2956522",
        "2500000",
    ]


def test_k24_boost_that_the_hardware_lacks_is_refused() -> None:
    """The file may be there all the same: EINVAL."""
    model = KernelModel(
        rig.machine([rig.domain(driver="cppc_cpufreq", high=2_500_000)], boost=False),
        boosted={0: 2_500_000},
        unboosted={0: 2_500_000},
    )
    with refused(errno.EINVAL):
        put(model, BOOST, 1)
    assert text(model, BOOST) == "0"


def test_no_turbo_is_the_opposite_of_boost() -> None:
    """intel_pstate's name for it (field report 51)."""
    model = KernelModel(rig.intel(1, boost=True), unboosted={0: 2_900_000})
    path = f"{CPU_ROOT}/intel_pstate/no_turbo"
    assert text(model, path) == "0"
    put(model, path, 1)
    assert discover(model).machine.boost is False
    assert text(model, rig.cpufreq(0, "cpuinfo_max_freq")) == "2900000"
    with refused(errno.ENOENT):
        model.read(BOOST)


# --- the model itself ---


def test_only_writes_that_were_taken_are_in_the_log(intel: KernelModel) -> None:
    """In order, as text; refused and faulty ones are not."""
    put(intel, rig.max_path(), 2_000_000)
    with refused(errno.EINVAL):
        put(intel, rig.max_path(), "x")
    intel.faults[rig.min_path()] = errno.EIO
    with refused(errno.EIO):
        put(intel, rig.min_path(), 900_000)
    with refused(errno.EIO):
        intel.read(rig.min_path())
    assert intel.log == [(rig.max_path(), "2000000")]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        CPU_ROOT,
        f"{CPU_ROOT}/cpu9/cpufreq/scaling_max_freq",
        rig.max_path(9),
        f"{CPU_ROOT}/cpufreq/policyx/scaling_max_freq",
        rig.cpufreq(0, "nothing"),
    ],
)
def test_what_is_not_there_is_enoent(intel: KernelModel, path: str) -> None:
    """To read, to write, to list."""
    with refused(errno.ENOENT):
        intel.read(path)
    with refused(errno.ENOENT):
        put(intel, path, 1)
    with refused(errno.ENOENT):
        intel.list(path)


@pytest.mark.parametrize(
    "name", ["scaling_driver", "cpuinfo_max_freq", "related_cpus", "scaling_available_governors"]
)
def test_read_only_files_are_read_only(intel: KernelModel, name: str) -> None:
    """EACCES, and nothing changes."""
    before = intel.read(rig.cpufreq(0, name))
    with refused(errno.EACCES):
        put(intel, rig.cpufreq(0, name), 1)
    assert intel.read(rig.cpufreq(0, name)) == before


def test_uncore_takes_multiples_of_100_mhz() -> None:
    """What lies between is rounded down; 0 is refused."""
    model = KernelModel(rig.intel(1, uncore=(rig.package_entry(),)))
    path = rig.uncore_path("package_00_die_00", "max")
    put(model, path, 1_250_000)
    assert text(model, path) == "1200000"
    with refused(errno.EINVAL):
        put(model, path, 0)
