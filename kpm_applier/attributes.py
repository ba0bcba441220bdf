"""The table of everything that is managed.

There is one diff, one verify and one restore, and all of them read it.

To manage one more file, add a row here: docs/developer/adding-an-attribute.md says what else.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from attrs import field, frozen


class Kind(StrEnum):
    """Kinds of group: what is saved, restored and discarded together."""

    BOOST = "boost"
    CPUFREQ = "cpufreq"
    IDLE = "idle"
    CPU = "cpu"
    UNCORE = "uncore"
    FABRIC = "fabric"
    CAP = "cap"


@frozen
class Attribute:
    """A managed file of a group.

    file: its name below the group's folder; of an idle state, below stateN; of a power limit, the
        name of the limit, for which discovery finds the file.
    order: when it is written: the lower number first, over all groups and inside each (order.py).
    disturbed_by: drivers under which reading the file interrupts the CPU; a pass in which nothing
        changes does not read it then (rule A1).
    limit: "min" or "max" where the file is one end of a range. Which end is written first depends
        on whether the range moves up or down (order.py).
    asks: the field of Target whose value the file holds. spelled: makes that value the file's text.
    prefix, driver: of a file that each CPU has alone: how the group's key begins, and the driver
        that made the file.
    """

    kind: Kind
    file: str
    order: int
    disturbed_by: frozenset[str] = frozenset()
    limit: str = ""
    asks: str = ""
    spelled: Callable[[Any], str] = str
    prefix: str = ""
    driver: str = ""


def _latency(limit: int) -> str:
    """In this file 0 means "no limit"; the limit 0 is written n/a (kernel, power/sysfs.c)."""
    return str(limit) if limit else "n/a"


BOOST = Attribute(Kind.BOOST, "boost", 0)
NO_TURBO = Attribute(Kind.BOOST, "no_turbo", 0)
GOVERNOR = Attribute(Kind.CPUFREQ, "scaling_governor", 1, asks="governor")
#: Reading it takes the value from a register of the CPU itself (kernel source,
#: intel_pstate_get_epp).
EPP = Attribute(
    Kind.CPUFREQ,
    "energy_performance_preference",
    2,
    frozenset({"intel_pstate", "intel_cpufreq"}),
    asks="epp",
)
MIN_FREQ = Attribute(Kind.CPUFREQ, "scaling_min_freq", 3, limit="min", asks="min_khz")
MAX_FREQ = Attribute(Kind.CPUFREQ, "scaling_max_freq", 3, limit="max", asks="max_khz")
IDLE_DISABLE = Attribute(Kind.IDLE, "disable", 4)
#: One value for everybody: CRI-O and TuneD write it too. It bounds all idle states of a CPU, and
#: needs no capability.
RESUME_LATENCY = Attribute(
    Kind.CPU,
    "pm_qos_resume_latency_us",
    4,
    asks="latency_us",
    spelled=_latency,
    prefix="latency",
    driver="pm_qos",
)
#: Reading it interrupts its CPU, whose register holds it (kernel, intel_epb.c: rdmsrl_on_cpu).
ENERGY_BIAS = Attribute(
    Kind.CPU,
    "energy_perf_bias",
    4,
    frozenset({"intel_epb"}),
    asks="epb",
    prefix="epb",
    driver="intel_epb",
)
UNCORE_MIN = Attribute(Kind.UNCORE, "min_freq_khz", 5, limit="min")
UNCORE_MAX = Attribute(Kind.UNCORE, "max_freq_khz", 5, limit="max")
#: Written many times a second by the scaler, which owns it; in no plan, diff or state, and so in
#: none of the rows below.
SETSPEED = Attribute(Kind.CPUFREQ, "scaling_setspeed", 3)

DF_PSTATE = Attribute(Kind.FABRIC, "df_pstate", 6)
#: The short-term limit is never below the long-term one, also while both change: they are ordered
#: as the ends of a range are.
CAP_LONG = Attribute(Kind.CAP, "long_term", 7, limit="min")
CAP_SHORT = Attribute(Kind.CAP, "short_term", 7, limit="max")
CAP_ONLY = Attribute(Kind.CAP, "power_cap", 7)
#: Turned on after the limits are set, turned off before they are put back (order.py), since a limit
#: from before may be nonsense.
CAP_ENABLED = Attribute(Kind.CAP, "enabled", 7)

ATTRIBUTES = (
    BOOST,
    NO_TURBO,
    GOVERNOR,
    EPP,
    MIN_FREQ,
    MAX_FREQ,
    IDLE_DISABLE,
    RESUME_LATENCY,
    ENERGY_BIAS,
    UNCORE_MIN,
    UNCORE_MAX,
    DF_PSTATE,
    CAP_ENABLED,
    CAP_ONLY,
    CAP_LONG,
    CAP_SHORT,
)

#: What a CPU has alone, one file and one group each.
ALONE = tuple(item for item in ATTRIBUTES if item.kind is Kind.CPU)
#: What a frequency domain has.
OF_DOMAINS = tuple(item for item in ATTRIBUTES if item.kind is Kind.CPUFREQ)

CPU_ROOT = "devices/system/cpu"
UNCORE_ROOT = f"{CPU_ROOT}/intel_uncore_frequency"
PLATFORM_ROOT = "devices/platform"
#: Not a folder of sysfs: the mailbox of AMD's firmware, shown as files (hsmp.py).
HSMP_ROOT = "hsmp"


@frozen
class ManagedFile:
    """One file of a group. label: its name in the state file."""

    attribute: Attribute
    path: str
    label: str
    state: int | None = None


@frozen
class Group:
    """Files that are saved, restored and discarded together.

    key: stable name, such as cpufreq:0; driver: whose values these are; files: by order class;
    cpus: the online ones it belongs to; hardware: texts of the limits that count as "hardware
    limit", minimum and maximum.
    """

    key: str
    kind: Kind
    id: int | str
    driver: str
    files: tuple[ManagedFile, ...]
    cpus: tuple[int, ...] = ()
    hardware: tuple[str, str] | None = None
    paths: tuple[str, ...] = field(init=False, eq=False, repr=False)
    labels: tuple[str, ...] = field(init=False, eq=False, repr=False)

    @paths.default
    def _paths(self) -> tuple[str, ...]:
        """Of the files, in step with them."""
        return tuple(item.path for item in self.files)

    @labels.default
    def _labels(self) -> tuple[str, ...]:
        """Of the files, in step with them."""
        return tuple(item.label for item in self.files)
