"""Metrics of CPUs and pools: residencies that only grow while CPUs change their pools; coefficients
of estimates by processor.
"""

from __future__ import annotations

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from kpm.energy.coefficients import coefficients_of
from kpm.energy.cpus import CpuTotals
from kpm.request.machines import MODELS, build_machine
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.energy.attribution import EnergyReport
from kpm_planner.energy.estimate import estimate_uw
from kpm_planner.energy.shares import EnergyCpu, WeightPolicy

MACHINE = build_machine(MODELS["xeon"])


@define
class Clocked(KernelModel):
    """A machine whose idle states have been asked for so long."""

    times: dict[str, int] = field(factory=dict)

    def read(self, path: str) -> bytes:
        if path.endswith("/time"):
            return b"%d\n" % self.times.get(path, 0)
        return super().read(path)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 10**6),
            st.sampled_from(["shared", "exclusive", "reserved"]),
        ),
        max_size=30,
    )
)
def test_what_a_pool_asked_for_never_falls_and_adds_up(history: list[tuple[int, int, str]]) -> None:
    """A CPU that changes its pool takes along nothing of what was before; together it is what the
    CPUs were asked.
    """
    model, totals, pools = Clocked(MACHINE), CpuTotals(), dict.fromkeys(range(32), "shared")
    totals.look(model, MACHINE, pools, 0.0)
    before: dict[tuple[str, str], int] = {}
    for step, (cpu, us, pool) in enumerate(history, 1):
        path = f"devices/system/cpu/cpu{cpu}/cpuidle/state3/time"
        model.times[path] = model.times.get(path, 0) + us
        pools[cpu] = pool
        totals.look(model, MACHINE, pools, step * 100.0)
        assert all(totals.residency_us[key] >= value for key, value in before.items())
        before = dict(totals.residency_us)
    assert sum(us for (_, name), us in totals.residency_us.items() if name == "C6") == sum(
        model.times.values()
    )


def test_idle_states_are_looked_at_twice_a_minute_at_most() -> None:
    """Their counters lose nothing meanwhile."""
    model, totals = Clocked(MACHINE), CpuTotals()
    totals.look(model, MACHINE, {}, 0.0)
    model.times["devices/system/cpu/cpu0/cpuidle/state1/time"] = 5
    totals.look(model, MACHINE, {}, 29.0)
    assert not any(totals.residency_us.values())
    totals.look(model, MACHINE, {}, 31.0)
    assert totals.residency_us["", "C1"] == 5


def test_frequencies_are_hertz_and_idle_cpus_have_none() -> None:
    """Base units; a CPU that was idle throughout has no frequency, and
    one without times no share.
    """
    families = CpuTotals().families(
        MACHINE,
        {0: "shared"},
        {0: 2_400_000},
        EnergyReport(1, busy_us={0: 1, 1: 0, 2: 0}, idle_us={0: 3, 1: 4}),
    )
    lines = [line for family in families for line in family.lines]
    assert 'kpm_cpu_frequency_hertz{cpu="0",pool="shared"} 2400000000\n' in lines
    assert not [line for line in lines if line.startswith('kpm_cpu_frequency_hertz{cpu="1"')]
    assert 'kpm_cpu_busy_ratio{cpu="0",pool="shared"} 0.25\n' in lines
    assert 'kpm_cpu_busy_ratio{cpu="1",pool=""} 0.0\n' in lines
    assert not [line for line in lines if line.startswith('kpm_cpu_busy_ratio{cpu="2"')]
    assert 'kpm_domain_limit_hertz{domain="0",pool="shared",limit="max"} 3700000000\n' in lines


CPUINFO = "processor\t: 0\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: x\n"


def test_a_processor_gets_the_coefficients_of_its_kind() -> None:
    """By vendor, family and model; one that is not listed those of its maker, any other those for
    all, each with its error.
    """
    found = [
        coefficients_of(CPUINFO.format(*words)).model
        for words in (
            ("GenuineIntel", 6, 143),
            ("GenuineIntel", 6, 1),
            ("AuthenticAMD", 25, 1),
            ("ARM", 8, 1),
        )
    ]
    assert found == [
        "Intel Sapphire or Emerald Rapids",
        "other Intel",
        "AMD EPYC Zen 3 or Zen 4",
        "other",
    ]
    assert coefficients_of("").model == coefficients_of("no colon\n\x00").model == "other"
    assert all(
        coefficients_of(CPUINFO.format("GenuineIntel", 6, model)).error >= 40
        for model in range(256)
    )


def test_estimates_are_of_the_order_of_such_machines() -> None:
    """A two-socket Ice Lake server of 64 cores, all busy at full speed: between half and one and a
    half times its 2 x 205 W or so.
    """
    cpus = tuple(EnergyCpu(number, number // 32, None, (), 3_000_000) for number in range(64))
    power = estimate_uw(
        coefficients_of(CPUINFO.format("GenuineIntel", 6, 106)),
        cpus,
        dict.fromkeys(range(64), 1_000_000),
        {},
        1_000_000,
        WeightPolicy(),
    )
    assert all(100 < uw / 1e6 < 310 for uw in power.values())
