"""A Host in memory that behaves as the kernel's cpufreq, cpuidle and uncore files do.

For tests and simulation. It is built from a machine and holds requests apart from what is shown, as
the kernel does; tests/kernel runs the same operations on it and on real drivers, and where they
differ this module is wrong. Numbers in comments are the kernel facts that
docs/developer/kernel-facts.md lists.

Energy counters are there, and go on, where `energy.on` says so (energy.py). It cannot do:
scaling_cur_freq and other measured values, driver modules coming and going, and the intervals in
which a real policy is half-way between two settings.
"""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import Factory, define, evolve, field

from kpm_applier.attributes import CPU_ROOT, ENERGY_BIAS, RESUME_LATENCY, UNCORE_ROOT
from kpm_applier.kernel_model.devices import read_idle, read_topology, read_uncore
from kpm_applier.kernel_model.energy import EnergyFiles
from kpm_applier.kernel_model.paths import parse_path
from kpm_applier.kernel_model.policy import EPP_WORDS, Policy
from kpm_applier.kernel_model.power import PowerFiles
from kpm_applier.kernel_model.texts import (
    UNLIMITED,
    fail,
    first_word,
    parse_bias,
    parse_integer,
    parse_latency,
    parse_request,
    parse_switch,
)
from kpm_applier.sysfs.host import differing_one_by_one, read_one_by_one, write_one_by_one
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import (
    KERNEL_GOVERNORS,
    SCALING_POWERSAVE,
    CpufreqSettings,
    FrequencyDomain,
    IdleState,
    Machine,
    UncoreEntry,
)

_LONGEST_WRITE = 4096
_UNCORE_STEP_KHZ = 100_000
_UNCORE_STEPS = 127
#: Drivers with a boost file in each policy.
_POLICY_BOOST = frozenset({"cppc_cpufreq", "amd-pstate", "amd-pstate-epp"})
_ROOT_WRITABLE = frozenset(
    {("cpufreq", "boost"), ("intel_pstate", "no_turbo"), ("amd_pstate", "status")}
)
_WRITABLE = frozenset(
    {
        "scaling_min_freq",
        "scaling_max_freq",
        "scaling_governor",
        "energy_performance_preference",
        "scaling_setspeed",
        "boost",
    }
)
#: The kernel compares so many letters of a mode's name.
_SHORTEST_MODE = 6
_AMD_MODES = {"active": "amd-pstate-epp", "passive": "amd-pstate", "guided": "amd-pstate"}
_UNSUPPORTED = "<unsupported>"
#: Files of a CPU alone: name → the field of a CPU that it begins with, and how a text is taken.
_ALONE: dict[str, tuple[str, Callable[[str, str], str]]] = {
    RESUME_LATENCY.file: ("resume_latency", parse_latency),
    ENERGY_BIAS.file: ("epb", parse_bias),
}


@define
class _ModelWatch:
    model: "KernelModel"
    files: dict[str, bytes]
    generations: dict[int, int]
    returns: dict[int, int]

    def same(self) -> bool:
        """Whether every file still has its content; ENODEV once a policy or the idle states of a
        CPU are made anew (K23).
        """
        for cpu, times in self.returns.items():
            if self.model.returns.get(cpu, 0) != times:
                raise fail(errno.ENODEV, f"cpu{cpu}/cpuidle")
        for number, generation in self.generations.items():
            policy = self.model.policies.get(number)
            if policy is None or policy.generation != generation:
                raise fail(errno.ENODEV, f"policy{number}")
        read = self.model.read
        return all(read(path) == content for path, content in self.files.items())


@define
class KernelModel:
    """The kernel of one machine.

    latency: seconds between a write and the update of what its policy shows (K2). boosted,
    unboosted: hardware maximum of each domain with boost on and off, where the machine does not
    tell (K24). modes: what the domains look like under another driver mode. modules: governors that
    load when they are named. Every write that is taken is in `log`; `faults` maps paths to an errno
    that using them gives.
    """

    machine: Machine
    latency: float = 0.0
    boosted: Mapping[int, int] = field(factory=dict)
    unboosted: Mapping[int, int] = field(factory=dict)
    modes: Mapping[str, Mapping[int, FrequencyDomain]] = field(factory=dict)
    log: list[tuple[str, str]] = field(factory=list)
    faults: dict[str, int] = field(factory=dict)
    policies: dict[int, Policy] = field(factory=dict)
    offline: set[int] = field(factory=set)
    boost: bool | None = None
    status: str | None = None
    clock: float = 0.0
    returns: dict[int, int] = field(factory=dict)
    default_epp: str = "performance"
    modules: frozenset[str] = KERNEL_GOVERNORS
    power: PowerFiles = field(factory=PowerFiles)
    energy: EnergyFiles = field(
        default=Factory(lambda self: EnergyFiles(self.machine), takes_self=True)
    )
    _disabled: dict[int, int] = field(factory=dict)
    _alone: dict[tuple[int, str], str] = field(factory=dict)
    _uncore: dict[str, UncoreEntry] = field(factory=dict)
    _policy_of: dict[int, int] = field(factory=dict)
    _absent: dict[int, int] = field(factory=dict)
    _mode: str = ""
    _left_epp: dict[int, str] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.boost, self.status = self.machine.boost, self.machine.driver_status
        self.offline = {cpu.id for cpu in self.machine.cpus if not cpu.online}
        self.power = PowerFiles.of(self.machine)
        self._uncore = {entry.name: entry for entry in self.machine.uncore}
        for cpu in self.machine.cpus:
            self._disabled[cpu.id] = sum(
                1 << state.index for state in cpu.idle if not state.enabled
            )
            for name, (kept, _) in _ALONE.items():
                text = getattr(cpu, kept)
                if text is not None:
                    self._alone[cpu.id, name] = text
        for domain in self.machine.domains:
            self._add_policy(domain, 0)

    # --- Host ---

    @property
    def live(self) -> bool:
        """It is never the running kernel."""
        return False

    def now(self) -> float:
        """Seconds of its own time."""
        return self.clock

    def wait(self, seconds: float) -> None:
        """Let its own time pass."""
        self.clock += seconds
        if self.energy.on:
            self.energy.pass_time(
                seconds,
                {cpu: float(khz) for cpu, khz in self.frequencies().items()},
                self.allowed_states(),
                self.offline,
            )

    def allowed_states(self) -> dict[int, list[IdleState]]:
        """CPU → the idle states that it may use: neither disabled nor slower than its limit."""
        return {
            cpu.id: [state for state in cpu.idle if self._allows(cpu.id, state)]
            for cpu in self.machine.cpus
        }

    def shown_by(self, cpu: int, policy: Policy) -> dict[str, Any]:
        """The settings that a CPU's files show, by the names of a target's fields."""
        low, high = policy.shown
        limit = self._alone.get((cpu, RESUME_LATENCY.file))
        bias = self._alone.get((cpu, ENERGY_BIAS.file))
        return {
            "min_khz": low,
            "max_khz": high,
            "governor": policy.governor,
            "epp": policy.epp,
            "latency_us": None if limit in (None, "0") else 0 if limit == "n/a" else int(limit),
            "epb": None if bias is None else int(bias),
        }

    def _allows(self, cpu: int, state: IdleState) -> bool:
        limit = self._alone.get((cpu, RESUME_LATENCY.file), "0")
        slow = limit != "0" and state.latency_us > (0 if limit == "n/a" else int(limit))
        return not slow and not self._disabled[cpu] >> state.index & 1

    def frequencies(self) -> dict[int, int]:
        """CPU → kHz at its load: governor userspace and performance know one frequency, the others
        go with the busiest CPU of the domain.
        """
        found = {}
        for policy in self.policies.values():
            low, high = policy.shown
            if policy.governor == "userspace":
                khz = policy.speed()
            elif policy.governor == "performance":
                khz = high
            else:
                khz = round(
                    low
                    + (high - low)
                    * max(min(self.energy.loads.get(cpu, 0.0), 1.0) for cpu in policy.spec.cpus)
                )
            found.update(dict.fromkeys(policy.spec.cpus, khz))
        return found

    def watch(self, files: Mapping[str, bytes]) -> _ModelWatch:
        """Keep files; policies that are created anew are gone for it."""
        numbers = {
            self._number(area, number)
            for area, number, _, _ in map(parse_path, files)
            if area in ("policy", "cpu-cpufreq")
        }
        generations = {
            number: self.policies[number].generation
            for number in numbers
            if number in self.policies
        }
        idle = {number for area, number, _, _ in map(parse_path, files) if area == "cpu-idle"}
        return _ModelWatch(
            self, dict(files), generations, {cpu: self.returns.get(cpu, 0) for cpu in idle}
        )

    def forget(self) -> None:
        """Nothing is kept open."""

    def list(self, path: str) -> tuple[str, ...]:
        """Names in a folder."""
        if path == f"{CPU_ROOT}/cpufreq" and self.policies:
            return tuple(
                sorted(
                    [
                        *(f"policy{number}" for number in self.policies),
                        *(["boost"] if self._has_boost_file() else []),
                    ]
                )
            )
        if path == UNCORE_ROOT and self._uncore:
            return tuple(sorted(self._uncore))
        words = path.removeprefix(f"{CPU_ROOT}/").split("/")
        if len(words) == 2 and words[1] == "cpuidle" and words[0][3:].isdigit():
            cpu = self.machine.by_id.get(int(words[0][3:]))
            if cpu is not None and cpu.idle:
                return tuple(sorted(f"state{state.index}" for state in cpu.idle))
        if names := {*self.power.names(path), *self.energy.names(path)}:
            return tuple(sorted(names))
        raise fail(errno.ENOENT, path)

    def read(self, path: str) -> bytes:
        """The content of a file as the kernel gives it."""
        if path in self.faults:
            raise fail(self.faults[path], path)
        return f"{self._read(path)}\n".encode()

    def read_all(self, paths: Sequence[str]) -> Sequence[bytes | OSError]:
        """The contents of many files, or why they cannot be read."""
        return read_one_by_one(self, paths)

    def differing(
        self, paths: Sequence[str], expected: Sequence[bytes]
    ) -> dict[str, bytes | OSError]:
        """Of many files, the contents of those that do not hold what is expected, or why they
        cannot be read.
        """
        return differing_one_by_one(self, paths, expected)

    def keep(self, paths: Iterable[str]) -> None:
        """There is nothing to open."""

    def write(self, path: str, data: bytes) -> None:
        """Hand data to a file; OSError with the kernel's errno."""
        if path in self.faults:
            raise fail(self.faults[path], path)
        self._write(path, data[:_LONGEST_WRITE].decode("ascii", "replace"))
        self.log.append((path, data[:_LONGEST_WRITE].decode("ascii", "replace").strip()))

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        """Hand data to many files, in order; the failures by path."""
        return write_one_by_one(self, writes)

    # --- what only the world outside does ---

    def settle(self) -> None:
        """Let every update that is due take place."""
        self.clock += self.latency
        for policy in self.policies.values():
            self._catch_up(policy)

    def limit(self, domain: int, max_khz: int | None) -> None:
        """Somebody else (thermal, firmware) limits a domain; None lifts it."""
        policy = self.policies[domain]
        policy.foreign_max = max_khz
        self._refresh(policy)

    def plug(self, cpu: int, *, online: bool) -> None:
        """Take a CPU offline or bring it back (K17, K18).

        A policy that had no CPU left comes back with its limits and governor, and without what its
        driver forgets: the EPP of amd-pstate-epp, a boosted maximum, a requested speed.
        """
        if online is (cpu not in self.offline) or cpu not in self.machine.by_id:
            return
        policy = self.policies.get(self._policy_of.get(cpu, -1))
        was_dead = policy is not None and self.offline.issuperset(policy.spec.cpus)
        (self.offline.discard if online else self.offline.add)(cpu)
        if online:
            self.returns[cpu] = self.returns.get(cpu, 0) + 1
        if online and was_dead and policy is not None:
            self._revive(policy)
        number = self._policy_of.get(cpu, -1)
        if online and number in self._absent:
            self._add_policy(self.modes[self._mode][number], self._absent.pop(number))

    def _revive(self, policy: Policy) -> None:
        if policy.spec.driver == "amd-pstate-epp" and policy.governor != "performance":
            policy.epp = "balance_power"
        if policy.spec.driver == "cppc_cpufreq":
            policy.hardware_max = self._base_max(policy)
        elif self.boost is not None:  # the driver looks at its table anew, by the boost of now
            policy.hardware_max = (
                self._boosted_max(policy) if self.boost else self._base_max(policy)
            )
        policy.speed_request = None
        self._refresh(policy)

    # --- reading ---

    def _read(self, path: str) -> str:
        if self.energy.knows(path):
            return self.energy.read(path)
        if self.power.knows(path):
            return self.power.read(path)
        area, number, state, name = parse_path(path)
        if area in ("policy", "cpu-cpufreq"):
            policy = self._policy_with(area, number, name, path)
            if self._dead(policy):
                raise fail(errno.EBUSY, path)
            self._catch_up(policy)
            return str(_POLICY_FILES[name](self, policy))
        if area == "cpu-idle":
            return read_idle(
                self.machine, self._disabled, number, state=state, name=name, path=path
            )
        if area == "cpu-power" and (number, name) in self._alone:
            return self._alone[number, name]
        if area == "cpu-acpi_cppc":
            return self._read_cppc(number, name, path)
        if area == "cpu-topology":
            return read_topology(self.machine, self.offline, number, name, path)
        if area.startswith("uncore:"):
            return read_uncore(self._uncore, area[7:], name, path)
        return self._read_root(area, number, name, path)

    def _read_cppc(self, number: int, name: str, path: str) -> str:
        """What firmware says of a CPU: its base frequency, where neither driver nor table does."""
        domain = self.machine.domain_by_id.get(self._policy_of.get(number, -1))
        base = None if domain is None else domain.base_khz
        if name != "nominal_freq" or domain is None or not base or _names_base(domain):
            raise fail(errno.ENOENT, path)
        if base == max(domain.available_khz, default=None):
            raise fail(errno.ENOENT, path)
        return str(base // 1000)

    def _read_root(self, area: str, number: int, name: str, path: str) -> str:
        present = self.machine.by_id.keys()
        match area, name:
            case "root", "present" | "possible":
                return format_cpulist(present)
            case "root", "online":
                return format_cpulist(present - self.offline)
            case "root", "offline":
                return format_cpulist(self.offline)
            case "cpu-online", _ if number in present and (
                number != 0 or self.machine.architecture == "aarch64"
            ):
                return "0" if number in self.offline else "1"
            case "cpuidle", "current_driver":
                return self.machine.idle_driver or "none"
            case "cpufreq", "boost" if self._has_boost_file():
                return "1" if self.boost else "0"
            case "intel_pstate", "no_turbo" if self._has_no_turbo():
                return "0" if self.boost else "1"
            case (("intel_pstate" | "amd_pstate"), "status") if self._status_folder() == area:
                return str(self.status)
        raise fail(errno.ENOENT, path)

    def epps(self, policy: Policy) -> str | None:
        """The preferences that the driver lists: under amd-pstate-epp and governor performance only
        that one.
        """
        if policy.epp is None:
            return None
        only = policy.spec.driver == "amd-pstate-epp" and policy.governor == "performance"
        return (
            "performance"
            if only
            else " ".join(policy.spec.epps if len(policy.spec.epps) > 1 else EPP_WORDS)
        )

    # --- writing ---

    def _write(self, path: str, text: str) -> None:
        """A write; one to a file that cannot be opened fails whatever it says, an empty one does
        nothing else.
        """
        if self.power.knows(path):
            self.power.write(path, text)
            return
        area, number, state, name = parse_path(path)
        if area in ("policy", "cpu-cpufreq"):
            policy = self._policy_with(area, number, name, path)
            self._must_be(name in _WRITABLE, path)
            if text:
                self._write_policy(policy, name, text, path)
        elif area in ("cpu-idle", "cpu-power"):
            self._read(path)
            self._must_be(name == "disable" or name in _ALONE, path)
            if text:
                self._write_idle(area, number, state, name=name, text=text, path=path)
        elif area.startswith("uncore:"):
            read_uncore(self._uncore, area[7:], name, path)
            self._must_be(name in ("min_freq_khz", "max_freq_khz"), path)
            if text:
                self._write_uncore(area[7:], name, text, path)
        else:
            self._read(path)
            self._must_be((area, name) in _ROOT_WRITABLE or area == "cpu-online", path)
            if text:
                self._write_root(area, number, name, text, path)

    def _write_idle(
        self, area: str, number: int, state: int, name: str, text: str, path: str
    ) -> None:
        if area == "cpu-power":
            _, parse = _ALONE[name]
            self._alone[number, name] = parse(text, path)
        else:
            on = parse_integer(text, path, largest=2**32 - 1) != 0
            self._disabled[number] = self._disabled[number] & ~(1 << state) | on << state

    def _load(self, governor: str, policy: Policy) -> None:
        """Load the module of a governor that is named and not there; it is there for every policy
        then, and stays.
        """
        if (
            governor in policy.spec.governors
            or governor not in self.modules
            or policy.spec.driver in SCALING_POWERSAVE
        ):
            return
        for other in self.policies.values():
            if other.spec.driver not in SCALING_POWERSAVE and governor not in other.spec.governors:
                other.spec = evolve(other.spec, governors=(*other.spec.governors, governor))

    def _must_be(self, writable: bool, path: str) -> None:
        if not writable:
            raise fail(errno.EACCES, path)

    def _write_root(self, area: str, number: int, name: str, text: str, path: str) -> None:
        match area, name:
            case "cpu-online", _:
                online = parse_switch(text, path)
                if not online and not self.machine.by_id.keys() - self.offline - {number}:
                    raise fail(errno.EBUSY, path)
                self.plug(number, online=online)
            case "cpufreq", "boost":
                self._set_boost(parse_switch(text, path), path)
            case "intel_pstate", "no_turbo":
                self._set_boost(parse_integer(text, path) == 0, path)
            case _:
                self._switch_mode(text.partition("\n")[0], path)

    def _write_policy(self, policy: Policy, name: str, text: str, path: str) -> None:
        if self._dead(policy):
            raise fail(errno.EBUSY, path)
        match name:
            case "scaling_min_freq":
                self._request(policy, parse_request(text, path, released=0), policy.max_request)
            case "scaling_max_freq":
                self._request(
                    policy, policy.min_request, parse_request(text, path, released=UNLIMITED)
                )
            case "scaling_governor":
                self._load(first_word(text).lower(), policy)
                policy.set_governor(first_word(text).lower(), path)
                policy.update()
            case "energy_performance_preference":
                policy.set_epp(first_word(text), path)
            case "scaling_setspeed":
                self._catch_up(policy)
                policy.set_speed(text, path)
            case _:
                self._set_policy_boost(policy, text, path)

    def _write_uncore(self, entry: str, name: str, text: str, path: str) -> None:
        found = self._uncore.get(entry)
        if found is None:
            raise fail(errno.ENOENT, path)
        steps = parse_integer(text, path) // _UNCORE_STEP_KHZ
        if not 0 < steps <= _UNCORE_STEPS:
            raise fail(errno.EINVAL, path)
        khz = steps * _UNCORE_STEP_KHZ
        self._uncore[entry] = (
            evolve(found, min_khz=khz) if name == "min_freq_khz" else evolve(found, max_khz=khz)
        )

    # --- policies ---

    def _add_policy(self, domain: FrequencyDomain, generation: int) -> None:
        settings = domain.settings
        low = 0 if settings.min_khz in (None, domain.hardware_min_khz) else settings.min_khz or 0
        high = (
            UNLIMITED
            if settings.max_khz in (None, domain.hardware_max_khz)
            else settings.max_khz or 0
        )
        policy = Policy(
            domain,
            low,
            high,
            governor=settings.governor or "",
            epp=settings.epp,
            hardware_max=domain.hardware_max_khz or 0,
            generation=generation,
        )
        policy.default_epp = self._left_epp.get(domain.id, self.default_epp)
        policy.shown = policy.aggregate()
        self.policies[domain.id] = policy
        self._policy_of.update(dict.fromkeys(domain.cpus, domain.id))

    def _number(self, area: str, number: int) -> int:
        return number if area == "policy" else self._policy_of.get(number, -1)

    def _policy_with(self, area: str, number: int, name: str, path: str) -> Policy:
        """The policy that has a file, whether a CPU of it is online or not."""
        policy = self.policies.get(self._number(area, number))
        file = _POLICY_FILES.get(name)
        if policy is None or file is None or file(self, policy) is None:
            raise fail(errno.ENOENT, path)
        return policy

    def _dead(self, policy: Policy) -> bool:
        return self.offline.issuperset(policy.spec.cpus)

    def _request(self, policy: Policy, low: int, high: int) -> None:
        """Register both requests; the policy is updated only where one of them changes."""
        if (low, high) != (policy.min_request, policy.max_request):
            policy.min_request, policy.max_request = low, high
            self._refresh(policy)

    def _refresh(self, policy: Policy) -> None:
        policy.due = self.clock + self.latency
        self._catch_up(policy)

    def _catch_up(self, policy: Policy) -> None:
        if policy.due is not None and self.clock >= policy.due:
            policy.due = None
            policy.update()

    def _set_boost(self, on: bool, path: str) -> None:
        """Boost moves the hardware's maximum; a driver with a boost file overwrites the request for
        it (K24).
        """
        if on == self.boost:
            return
        alive = [
            policy
            for policy in self.policies.values()
            if not self.offline.issuperset(policy.spec.cpus)
        ]
        if on and not any(
            self._boosted_max(policy) > self._base_max(policy) for policy in self.policies.values()
        ):
            raise fail(errno.EINVAL, path)
        self.boost = on
        for policy in alive:
            self._boost_policy(policy, on)

    def _set_policy_boost(self, policy: Policy, text: str, path: str) -> None:
        on = parse_switch(text, path)
        if not self.boost:
            raise fail(errno.EINVAL, path)
        if on != policy.boost:
            self._boost_policy(policy, on)

    def _boost_policy(self, policy: Policy, on: bool) -> None:
        """The driver asks for the new maximum itself; where that was asked for already, only the
        maximum is shown anew.
        """
        policy.boost = on
        policy.hardware_max = self._boosted_max(policy) if on else self._base_max(policy)
        if self._has_no_turbo():
            policy.shown = policy.aggregate()
        elif policy.max_request == policy.hardware_max:
            policy.speed_held = policy.speed()
            policy.shown = (policy.shown[0], policy.hardware_max)
        else:
            policy.max_request = policy.hardware_max
            policy.update()

    def _boosted_max(self, policy: Policy) -> int:
        known = policy.spec.limit_max_khz or policy.spec.hardware_max_khz or 0
        return self.boosted.get(policy.spec.id, known)

    def _base_max(self, policy: Policy) -> int:
        top = policy.spec.hardware_max_khz or 0
        return self.unboosted.get(policy.spec.id, top * 4 // 5 if self.machine.boost else top)

    def _switch_mode(self, word: str, path: str) -> None:
        """Every policy is destroyed and created with the driver's start values, but passive and
        guided are one (K23).
        """
        word = next(
            (mode for mode in _AMD_MODES if mode.startswith(word) and len(word) >= _SHORTEST_MODE),
            "",
        )
        driver = _AMD_MODES.get(word)
        if driver is None or (driver not in self.modes and driver != self._driver()):
            raise fail(errno.EINVAL, path)
        before, self.status = self._driver(), word
        if driver == before:
            return
        self._mode = driver
        # it leaves this in the register, where the next one to bind finds it
        if before == "amd-pstate-epp":
            self._left_epp = dict.fromkeys(self.policies, "balance_power")
        for number, policy in list(self.policies.items()):
            if self._dead(policy):  # it is made again once it has a CPU
                self._absent[number] = self.policies.pop(number).generation + 1
            else:
                self._add_policy(self.modes[driver][number], policy.generation + 1)

    def _driver(self) -> str | None:
        return next((policy.spec.driver for policy in self.policies.values()), None)

    def _has_boost_file(self) -> bool:
        return self.boost is not None and not self._has_no_turbo()

    def _has_no_turbo(self) -> bool:
        return self.boost is not None and any(
            (policy.spec.driver or "").startswith("intel_") for policy in self.policies.values()
        )

    def _status_folder(self) -> str:
        if self.status is None:
            return ""
        return (
            "amd_pstate"
            if any(
                (policy.spec.driver or "").startswith("amd-") for policy in self.policies.values()
            )
            else "intel_pstate"
        )


def _boost_word(model: KernelModel, policy: Policy) -> int | None:
    return (
        int(policy.boost)
        if policy.spec.driver in _POLICY_BOOST and model.boost is not None
        else None
    )


def _names_base(domain: FrequencyDomain) -> bool:
    """Whether the driver has a file for the base frequency."""
    return (domain.driver or "").startswith("intel_")


def _base_word(_: KernelModel, policy: Policy) -> int | None:
    return policy.spec.base_khz if _names_base(policy.spec) else None


def _amd_max(_: KernelModel, policy: Policy) -> int | None:
    return (
        policy.spec.limit_max_khz if (policy.spec.driver or "").startswith("amd-pstate") else None
    )


#: The files of a policy with what they show; None for one that its driver does not have.
_POLICY_FILES: dict[str, Callable[[KernelModel, Policy], object]] = {
    "scaling_min_freq": lambda _, policy: policy.shown[0],
    "scaling_max_freq": lambda _, policy: policy.shown[1],
    "scaling_governor": lambda _, policy: policy.governor,
    "energy_performance_preference": lambda _, policy: policy.epp,
    "energy_performance_available_preferences": lambda model, policy: model.epps(policy),
    "scaling_setspeed": lambda _, policy: (
        policy.speed() if policy.governor == "userspace" else _UNSUPPORTED
    ),
    "cpuinfo_min_freq": lambda _, policy: policy.spec.hardware_min_khz,
    "cpuinfo_max_freq": lambda _, policy: policy.hardware_max,
    "related_cpus": lambda _, policy: " ".join(map(str, policy.spec.cpus)),
    "affected_cpus": lambda model, policy: " ".join(
        str(cpu) for cpu in policy.spec.cpus if cpu not in model.offline
    ),
    "scaling_driver": lambda _, policy: policy.spec.driver,
    "scaling_available_governors": lambda _, policy: " ".join(policy.spec.governors),
    "scaling_available_frequencies": lambda _, policy: (
        " ".join(str(khz) for khz in sorted(policy.spec.available_khz, reverse=True)) or None
    ),
    "amd_pstate_max_freq": _amd_max,
    "base_frequency": _base_word,
    "boost": _boost_word,
}


def start_values(domain: FrequencyDomain, governor: str, epp: str | None) -> FrequencyDomain:
    """A domain as its driver creates it: unlimited, with this governor and EPP."""
    return evolve(
        domain,
        settings=CpufreqSettings(domain.hardware_min_khz, domain.hardware_max_khz, governor, epp),
    )
