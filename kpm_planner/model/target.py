"""What is asked of one CPU: a value for each setting, None for baseline.

A setting is a field of `Target`, and the field carries all that the rest must know of it: what it
is called, its unit, whether a CPU has it alone or its frequency domain as a whole, and which of two
values holds in a domain. Whoever shows, compares or explains targets goes over `SETTINGS`. Idle
states are named by the machine, so they stand beside the table.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

from attrs import evolve, field, fields, frozen

from kpm_planner.model.machine import Cpu, FrequencyDomain
from kpm_planner.model.objects import PowerProfile
from kpm_planner.model.problems import Problem, has_errors
from kpm_planner.model.quantities import format_ghz, format_khz
from kpm_planner.model.why import Why


class Scope(StrEnum):
    """Whose a setting is."""

    CPU = "cpu"
    DOMAIN = "domain"


@frozen
class Setting:
    """What is known of a field of `Target`.

    label: in sentences. key: in JSON. spec: the field of a PowerProfile that asks for it. shown:
    the field of a CPU, or of its domain's settings, with what its file holds. group: the kind of
    file, as in the keys of what the applier owns. words: the value in a sentence. column: of the
    plan's table; one that not every plan has is there where it has a value. rank: of a value in a
    domain; the highest holds. said: a value with its unit. kind, about: type and description in a
    node's state, where it is there.
    """

    label: str
    key: str
    spec: str
    shown: str
    group: str
    scope: Scope = Scope.DOMAIN
    said: Callable[[Any], str] = str
    words: str = "{}"
    column: str = ""
    always: bool = True
    rank: Callable[[Any], int] = int
    kind: Any = None
    about: str = ""
    name: str = ""

    def value_on(self, cpu: Cpu, domain: FrequencyDomain | None) -> Any:
        """What its file holds; None where there is none."""
        if self.scope is Scope.CPU:
            text = getattr(cpu, self.shown)
            return int(text) if self.kind == int | None and text is not None else text
        return None if domain is None else getattr(domain.settings, self.shown)


_GOVERNORS = {"powersave": 0, "conservative": 1, "ondemand": 2, "schedutil": 3, "performance": 5}
#: A governor of some vendor: above those that save, below performance.
_OTHER_GOVERNOR = 4
_EPPS = {"power": 0, "balance_power": 1, "balance_performance": 2, "performance": 4}
_OTHER_EPP = 3
#: Largest value of the raw register, where 0 is performance and 255 power, for each word.
_EPP_REGISTER = (
    ("performance", 0),
    ("balance_performance", 128),
    ("balance_power", 192),
    ("power", 10**9),
)


def _by_governor(value: str) -> int:
    return -1 if value == "userspace" else _GOVERNORS.get(value, _OTHER_GOVERNOR)


def _by_epp(value: str) -> int:
    """As high as the next word above it."""
    if value.isdigit():
        return next(_EPPS[word] for word, raw in _EPP_REGISTER if int(value) <= raw)
    return _EPPS.get(value, _OTHER_EPP)


def _setting(
    label: str, key: str, spec: str, shown: str, group: str, **more: Any
) -> dict[str, Setting]:
    return {"setting": Setting(label, key, spec, shown, group, **more)}


@frozen
class Target:
    """What a CPU should be asked to do; None is baseline. Units: kHz, µs.

    idle: wanted states by name, named ones only. latency_us: the longest exit latency of its idle
    states, all states together.
    """

    min_khz: int | None = field(
        default=None,
        metadata=_setting(
            "min",
            "minKHz",
            "spec.pstates.min",
            "min_khz",
            "cpufreq",
            said=format_khz,
            kind=int | None,
            about="Lowest frequency, kHz.",
        ),
    )
    max_khz: int | None = field(
        default=None,
        metadata=_setting(
            "max",
            "maxKHz",
            "spec.pstates.max",
            "max_khz",
            "cpufreq",
            said=format_khz,
            kind=int | None,
            about="Highest frequency, kHz.",
        ),
    )
    governor: str | None = field(
        default=None,
        metadata=_setting(
            "governor",
            "governor",
            "spec.pstates.governor",
            "governor",
            "cpufreq",
            column="governor",
            rank=_by_governor,
            kind=str | None,
            about="Scaling governor.",
        ),
    )
    epp: str | None = field(
        default=None,
        metadata=_setting(
            "epp",
            "epp",
            "spec.pstates.epp",
            "epp",
            "cpufreq",
            column="EPP",
            rank=_by_epp,
            kind=str | None,
            about="Energy performance preference.",
        ),
    )
    idle: tuple[tuple[str, bool], ...] = ()
    latency_us: int | None = field(
        default=None,
        metadata=_setting(
            "latency",
            "maxLatencyUs",
            "spec.cstates.maxLatencyUs",
            "resume_latency",
            "latency",
            scope=Scope.CPU,
            said="{} µs".format,
            words="idle states up to {} µs",
        ),
    )
    epb: int | None = field(
        default=None,
        metadata=_setting(
            "epb",
            "epb",
            "spec.pstates.epb",
            "epb",
            "epb",
            scope=Scope.CPU,
            words="epb {}",
            column="EPB",
            always=False,
            kind=int | None,
            about="Energy performance bias, 0 to 15.",
        ),
    )


BASELINE = Target()
SETTINGS: tuple[Setting, ...] = tuple(
    evolve(item.metadata["setting"], name=item.name)
    for item in fields(Target)
    if "setting" in item.metadata
)
OF_DOMAINS = tuple(item for item in SETTINGS if item.scope is Scope.DOMAIN)
OF_CPUS = tuple(item for item in SETTINGS if item.scope is Scope.CPU)
#: Field of a target → the field of the machine with what its file holds.
SHOWN = {item.name: item.shown for item in SETTINGS}
#: Settings that a node's state tells of.
TOLD = tuple(item for item in SETTINGS if item.about)
#: Settings that are the two ends of one range of frequencies.
RANGES = (("min_khz", "max_khz"),)
_ENDS = frozenset(name for pair in RANGES for name in pair)


def asked_of(target: Target) -> dict[str, Any]:
    """The value of each setting by its name."""
    return {item.name: getattr(target, item.name) for item in SETTINGS}


def of_one_cpu(target: Target) -> dict[str, Any]:
    """What of a target a CPU has alone: idle states, and the settings that are not its domain's."""
    return {"idle": target.idle, **{item.name: getattr(target, item.name) for item in OF_CPUS}}


def ranges_of(values: Mapping[str, Any]) -> Iterable[str]:
    """The ranges that have an end, such as 0.8..baseline GHz."""
    for low, high in RANGES:
        text = frequency_range(values.get(low), values.get(high))
        if text:
            yield text


def frequency_range(low_khz: int | None, high_khz: int | None) -> str:
    """A range of frequencies in words; nothing where it has no end."""
    ends = [None if khz is None else format_ghz(khz) for khz in (low_khz, high_khz)]
    text = ends_text(*ends)
    return f"{text} GHz" if text else ""


def ends_text(low: str | None, high: str | None) -> str:
    """A range without its unit; nothing where it has no end."""
    if low is None and high is None:
        return ""
    return "..".join("baseline" if end is None else end for end in (low, high))


def words_of(values: Mapping[str, Any]) -> Iterable[tuple[Setting, str]]:
    """The settings that have a value and are no end of a range, each with its words."""
    for item in SETTINGS:
        value = values.get(item.name)
        if value is not None and value != "" and item.name not in _ENDS:
            yield item, item.words.format(value)


@frozen(cache_hash=True)  # of one profile it is compared once for each pod
class Resolved:
    """A target with the reasons of its values, one line each."""

    target: Target
    because: tuple[Why, ...] = ()


@frozen
class ResolvedProfile:
    """A profile on one machine: its target for each of machine.kinds (empty where invalid) and its
    problems.
    """

    profile: PowerProfile
    by_kind: tuple[Resolved, ...]
    problems: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        """Whether the profile can be used on this machine."""
        return not has_errors(self.problems)
