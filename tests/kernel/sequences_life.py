"""The life of a node as a sequence of events, and the laws that hold after each of them.

A life is a value, drawn from a seed without looking at any machine: plans, restarts, kills at any
step of the agent, a state file that is lost, CPUs that go and come also while the agent looks,
single reads that fail or come late, other writers, reboots, restores. `live` leads it on a world,
which is the kernel model (sequences_model.py) or a kernel's own /sys (sequences_real.py).

What each file would hold without us is known all the time: what it held at first, what others wrote
to it while its group was not ours, what its driver forgot while it was not ours; and what we had
left there, where the state file was lost. From that follow the laws:

- no residue: a group that is not in the state file shows what it would show without us; a baseline
  in the state file is that, too;
- `settled` of a restore is true exactly where nothing is ours any more and nothing is left behind;
- only a group that is in the state file is written, and only one that the plan claims or that was
  ours when the pass began: what was released is not written any more;
- once the world stands still, so does the agent after a few passes: the plan is in force, and a
  further pass, also of a process that has just been started, writes nothing.
"""

import errno
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Protocol

from attrs import define, evolve, field, frozen

from kpm_applier.attributes import CPU_ROOT, RESUME_LATENCY, Kind
from kpm_applier.discovery.discover import HostError, discover
from kpm_applier.session import Applier, Report
from kpm_applier.state.baseline import HARDWARE_LIMIT
from kpm_applier.state.record import State, StateError
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.host import Host
from kpm_planner.caps.zones import CapTarget
from kpm_planner.fabric import FabricTarget
from kpm_planner.model.machine import EPP_FOLLOWS, FrequencyDomain, Machine, PowerZone
from kpm_planner.model.target import BASELINE, Target
from kpm_planner.plan import NodePlan
from kpm_planner.uncore import UncoreTarget
from tests.applier import rig

#: Seconds after which nothing is left alone any more for having been changed a moment ago.
LONG = 1000.0
#: Passes after which an agent must have come to rest.
MOST_PASSES = 8
ERRORS = ("EIO", "EBUSY", "EMFILE", "ENODEV")
LIMITS = ("scaling_min_freq", "scaling_max_freq")
_SWITCHES = ("cpufreq/boost", "no_turbo")
_WATT, _EIGHTH = 1_000_000, 125_000


# --- what a life is made of ---


@frozen
class Part:
    """What some CPUs are asked for, in terms that every machine understands."""

    low: int
    high: int
    governor: int
    epp: int
    idle: int
    latency: int | None


@frozen
class Ask:
    """A plan for any machine. places: which part, 0 for none, each domain, CPU, entry, zone has."""

    parts: tuple[Part, ...] = ()
    places: tuple[int, ...] = (0,)
    boost: bool | None = None
    held: int | None = None

    def part(self, place: int) -> Part | None:
        """The part of a place."""
        number = self.places[place % len(self.places)] % (len(self.parts) + 1)
        return self.parts[number - 1] if number else None


@frozen
class Trouble:
    """Something that happens in the middle of what the agent does.

    at: number of the access to the machine, or of the write or save, that meets it. what: the name
    of an errno, kill, late, or goes, comes, bounces of the CPU.
    """

    what: str
    verb: str
    at: int
    cpu: int = 0


@frozen
class Event:
    """One thing that happens. number, more: choices, taken modulo what there is."""

    what: str
    ask: Ask | None = None
    troubles: tuple[Trouble, ...] = ()
    number: int = 0
    more: int = 0


@frozen
class Life:
    """Events, and the seconds between a write and what its domain shows (kernel-facts K2)."""

    latency: float
    events: tuple[Event, ...]


def life_of(seed: str) -> Life:
    """The life that belongs to a seed."""
    rng = Random(seed)
    begin = [_event(rng, "foreign") for _ in range(rng.choice((0, 0, 2, 6)))]
    names = rng.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()), k=rng.randrange(4, 15))
    return Life(rng.choice((0.0, 0.004)), (*begin, *(_event(rng, name) for name in names)))


_WEIGHTS = {
    "apply": 30, "restart": 10, "restore": 10, "calm": 12, "lose": 4, "reboot": 2,
    "plug": 14, "storm": 4, "foreign": 12, "wait": 2,
}  # fmt: skip
_AGENTS = ("apply", "restart", "restore")


def _event(rng: Random, what: str) -> Event:
    ask = _ask(rng) if what == "apply" else None
    troubles = tuple(_trouble(rng) for _ in range(rng.choice((0, 0, 1, 1, 2))))
    number, more = rng.randrange(10_000), rng.randrange(10_000)
    return Event(what, ask, troubles if what in _AGENTS else (), number, more)


def _trouble(rng: Random) -> Trouble:
    what = rng.choice((*ERRORS, *ERRORS, "kill", "kill", "late", "goes", "comes", "bounces"))
    verb = rng.choice(("any", "write", "save")) if what == "kill" else "any"
    if what in ERRORS:
        verb = rng.choice(("read", "read", "list"))
    most = rng.choice((20, 80, 300) if verb in ("any", "read") else (4, 15))
    return Trouble(what, verb, rng.randrange(most), rng.randrange(16))


def _ask(rng: Random) -> Ask:
    if rng.random() < 0.15:
        return Ask()
    parts = tuple(_part(rng) for _ in range(rng.randrange(1, 3)))
    places = tuple(rng.randrange(6) for _ in range(rng.choice((1, 5, 7))))
    held = rng.randrange(16) if rng.random() < 0.08 else None
    return Ask(parts, places, rng.choice((None, None, None, False, True)), held)


def _part(rng: Random) -> Part:
    ends = sorted(rng.choice((0, 10, 35, 50, 90, 100)) for _ in range(2))
    low, high = ends if rng.random() < 0.75 else (-1, -1)
    latency = rng.choice((None, None, 0, 10, 500))
    return Part(low, high, rng.randrange(7), rng.randrange(5), rng.randrange(81), latency)


def seed_of(seed: object, name: str, number: int) -> str:
    """The seed of one life of a run."""
    return f"{seed}/{name}/{number}"


def told(life: Life) -> str:
    """A life as lines of text."""
    return "\n".join([f"latency {life.latency}", *(f"  {line(event)}" for event in life.events)])


def line(event: Event) -> str:
    """An event as a line of text."""
    words = [event.what]
    if event.what in ("plug", "storm", "foreign", "lose", "reboot", "calm", "restart"):
        words.append(f"{event.number}/{event.more}")
    if event.ask is not None:
        words.append(str(event.ask))
    words += [f"[{item.what} {item.verb} {item.at} cpu {item.cpu}]" for item in event.troubles]
    return " ".join(words)


# --- plans ---


def plan_for(ask: Ask, found: Machine) -> NodePlan:
    """The plan of a machine: consistent in itself, as the planner's are."""
    frequency = {}
    for place, domain in enumerate(found.domains):
        part = ask.part(place)
        if part is not None and domain.driver is not None:
            frequency[domain.id] = _frequency(domain, part)
    targets = {}
    for cpu in found.cpus:
        base = BASELINE if cpu.domain is None else frequency.get(cpu.domain, BASELINE)
        part = ask.part(cpu.id + 1)
        if part is not None:
            ways = [(state.name, part.idle // 3**index % 3) for index, state in enumerate(cpu.idle)]
            idle = tuple((name, way == 1) for name, way in ways if way)
            base = evolve(base, idle=idle, latency_us=part.latency)
        if base != BASELINE and cpu.online:
            targets[cpu.id] = base
    uncore = []
    for place, entry in enumerate(found.uncore):
        part = ask.part(place + 2)
        if part is not None and part.low >= 0:
            ends = _ends(entry.hardware_min_khz, entry.hardware_max_khz, part, 100_000)
            uncore.append(UncoreTarget(entry, *ends))
    caps = [_cap(zone, ask.part(place + 3)) for place, zone in enumerate(found.power_zones)]
    fabrics = []
    for place, fabric in enumerate(found.fabrics):
        part = ask.part(place + 4)
        pstates = None if part is None else ("0", "2", "2 0", "1 0")[part.epp % 4]
        fabrics.append(FabricTarget(fabric, pstates))
    online = sorted(found.online)
    held = () if ask.held is None else (online[ask.held % len(online)],)
    boost = None if found.boost is None else ask.boost
    return rig.plan(
        found, targets, boost=boost, held=held, uncore=uncore, caps=caps, fabrics=fabrics
    )


def _ends(low: int | None, high: int | None, part: Part, step: int = 1) -> tuple[int, int]:
    bottom, top = low or 0, high or 0
    first, last = (bottom + (top - bottom) * end // 100 for end in (part.low, part.high))
    return first // step * step, last // step * step


def _frequency(domain: FrequencyDomain, part: Part) -> Target:
    low: int | None = None
    high: int | None = None
    if part.low >= 0:
        low, high = _ends(domain.hardware_min_khz, domain.hardware_max_khz, part)
    governor = ([None, *domain.governors])[part.governor % (len(domain.governors) + 1)]
    epp = None
    if domain.settings.epp is not None and governor is not None:
        epp = ([None, *rig.EPP_WORDS])[part.epp]
        if governor == "performance" and domain.driver in ("intel_pstate", "amd-pstate-epp"):
            epp = "performance"
    return Target(low, high, governor, epp)


def _cap(zone: PowerZone, part: Part | None) -> CapTarget:
    """Limits from 10 W to what the zone had, in the register's eighths of a watt."""
    if part is None or part.low < 0 or not zone.limits:
        return CapTarget(zone, (None,) * len(zone.limits))
    low, high = _ends(10 * _WATT, zone.limits[0].limit_uw, part, _EIGHTH)
    return CapTarget(zone, (low, high)[-len(zone.limits) :])


def claims(plan: NodePlan, found: Machine) -> set[str]:
    """Keys of the groups of which a plan asks something."""
    keys: set[str] = set()
    for group in plan.groups:
        target = group.target
        for cpu in group.cpus:
            domain = found.by_id[cpu].domain
            asks = (target.min_khz, target.max_khz, target.governor, target.epp)
            if domain is not None and any(item is not None for item in asks):
                keys.add(f"cpufreq:{domain}")
            keys |= {f"idle:{cpu}"} if target.idle else set()
            keys |= {f"latency:{cpu}"} if target.latency_us is not None else set()
    keys |= {f"uncore:{item.entry.name}" for item in plan.uncore if item.min_khz is not None}
    keys |= {f"cap:{item.zone.name}" for item in plan.caps if any(item.limits)}
    keys |= {f"fabric:{item.fabric.package}" for item in plan.fabrics if item.pstates is not None}
    return keys


def texts(plan: NodePlan, found: Machine) -> dict[str, str]:
    """What a plan asks of files, by path."""
    wanted = rig.texts(plan, found)
    for group in plan.groups:
        limit = group.target.latency_us
        for cpu in group.cpus if limit is not None and not group.held else ():
            path = f"{CPU_ROOT}/cpu{cpu}/power/{RESUME_LATENCY.file}"
            wanted[path] = str(limit) if limit else "n/a"
    return wanted


# --- the world ---


class World(Protocol):
    """A machine, seen from outside.

    removable: CPUs that can be taken away. turbo: whether it can be turned on and off.
    """

    driver: str
    removable: tuple[int, ...]

    @property
    def turbo(self) -> bool: ...

    @property
    def host(self) -> Host:
        """The machine as an agent sees it; another one after a reboot."""
        ...

    @property
    def offline(self) -> set[int]:
        """CPUs that are away."""
        ...

    def text(self, path: str) -> str | None:
        """What a file shows at this moment; None where it cannot be read."""
        ...

    def settle(self) -> None:
        """Let the kernel finish what it does late."""
        ...

    def differing(self, wanted: Mapping[str, frozenset[str]]) -> dict[str, str]:
        """Files that can be read and show nothing of what they should, once all has settled."""
        ...

    def plug(self, cpu: int, *, online: bool) -> None:
        """Take a CPU away, or bring it back."""
        ...

    def write(self, path: str, text: str) -> None:
        """Somebody else writes, or tries to."""
        ...

    def pass_time(self, seconds: float) -> None:
        """For the agent's clock."""
        ...

    def late(self) -> None:
        """An access takes its time."""
        ...

    def reboot(self) -> None:
        """The machine starts anew, with the values of its start."""
        ...


#: Something that an agent does; None where it could not be done.
_Doing = Callable[[], Report | None]


class Broken(AssertionError):
    """A law that does not hold."""


@define
class Disk:
    """What of the state file outlives processes. keys: of its groups; boot: id of the boot."""

    folder: str
    boot: int = 0
    state: State = State()

    @property
    def keys(self) -> set[str]:
        return set(self.state.groups)


class _Store(StateStore):
    """The state file on a machine that can boot; `step` is told of every save, before and after."""

    def __init__(self, disk: Disk, root: str, step: Callable[[str, str], object]) -> None:
        super().__init__(disk.folder, root, live=True)
        self.disk, self.step = disk, step

    def load(self) -> State:
        self.disk.state = super().load()
        return self.disk.state

    def save(self, state: State) -> None:
        self.step("save", self.path)
        super().save(state)
        self.disk.state = state
        self.step("save", self.path)

    def _boot_id(self) -> str:
        return f"boot {self.disk.boot}"


@define
class _Agent:
    """A process of the agent: it ends by `kill` at any step."""

    handle: Applier
    eyes: rig.Probe


@define
class Living:
    """A life that is being led."""

    world: World
    disk: Disk
    counts: Counter[str] = field(factory=Counter)
    group_of: dict[str, str] = field(factory=dict)
    path_of: dict[tuple[str, str], str] = field(factory=dict)
    label_of: dict[str, str] = field(factory=dict)
    domain_cpus: dict[str, tuple[int, ...]] = field(factory=dict)
    tabled: bool = False
    #: Path → what the file may show once it is not ours.
    expected: dict[str, frozenset[str]] = field(factory=dict)
    #: Files that could not be read when what we had left there became what is expected.
    unseen: set[str] = field(factory=set)
    #: Limits that were first seen while turbo was ours: without it the hardware may end below them.
    veiled: set[str] = field(factory=set)
    #: Limits of domains that came back while turbo was ours, and showed the end of the hardware
    #: without it: whether somebody had asked for just that nobody can know, and acpi-cpufreq
    #: forgets it itself when turbo comes back (K24); or more than they did without it, which is
    #: what had been asked for. Path → what it showed.
    hidden: dict[str, str] = field(factory=dict)
    #: What a driver forgot of files that are ours, in the pass that may be giving them back.
    forgotten: dict[str, str] = field(factory=dict)
    #: Limits of domains that have been away: cppc_cpufreq forgets that they were boosted (K18).
    unboosted: set[str] = field(factory=set)
    ask: Ask = Ask()
    agent: _Agent | None = None
    busy: bool = False
    before: set[str] = field(factory=set)
    claimed: set[str] | None = None
    plugged: set[int] = field(factory=set)
    troubles: list[Trouble] = field(factory=list)
    steps: Counter[str] = field(factory=Counter)

    # --- what is expected ---

    def begin(self) -> None:
        """Look at the machine before anybody has touched it."""
        found = discover(self.world.host)
        self.world.host.forget()
        files = [(group.key, item) for group in found.groups for item in group.files]
        self.group_of = {item.path: key for key, item in files}
        self.path_of = {(key, item.label): item.path for key, item in files}
        self.label_of = {item.path: item.label for _, item in files}
        self.domain_cpus = {f"cpufreq:{item.id}": item.cpus for item in found.machine.domains}
        self.tabled = any(item.available_khz for item in found.machine.domains)
        self.expect_what_is_there(self.group_of)

    def expect_what_is_there(self, paths: Sequence[str] | Mapping[str, str]) -> None:
        """From now on these files should hold what they hold now."""
        self.world.settle()
        for path in paths:
            text = self.world.text(path)
            if text is None:
                self.unseen.add(path)
            else:
                self.expected[path] = frozenset({text})
                self.unseen.discard(path)

    def paths_of(self, key: str) -> list[str]:
        """Files of a group."""
        return [path for path, group in self.group_of.items() if group == key]

    def plain(self, path: str) -> str:
        """The path of a file by its domain, where it is named by one of its CPUs."""
        folder, _, name = path.rpartition("/")
        head, _, last = folder.rpartition("/")
        if last != "cpufreq" or head == CPU_ROOT:
            return path
        cpu = int(head.removeprefix(f"{CPU_ROOT}/cpu"))
        key = next(key for key, cpus in self.domain_cpus.items() if cpu in cpus)
        return self.path_of.get((key, name), path)

    def is_ours(self, path: str) -> bool:
        """Whether a file is in the state file, with its group or of its group alone."""
        record = self.disk.state.groups.get(self.group_of[path])
        return record is not None and self.label_of[path] in record.labels

    @property
    def owns_turbo(self) -> bool:
        """Whether the switch is ours, which moves the limits of all domains."""
        return any(key.partition(":")[0] == Kind.BOOST for key in self.disk.keys)

    @property
    def boosted(self) -> bool:
        """Whether turbo is on without us."""
        return "1" in self.expected.get(self.path_of.get(("boost", "boost"), ""), ())

    def plug(self, cpu: int, *, online: bool) -> None:
        """A CPU goes or comes; what its driver forgot of what is not ours, is so from now."""
        if online is (cpu not in self.world.offline):
            return
        if not online and len(self.world.offline) + 1 > len(self.world.removable):
            return
        self.world.plug(cpu, online=online)
        self.plugged.add(cpu)
        self.counts["CPUs come" if online else "CPUs go"] += 1
        if online:
            self.world.settle()
            keys = (key for key, cpus in self.domain_cpus.items() if cpu in cpus)
            self._came_back(next(keys, ""))

    def _came_back(self, key: str) -> None:
        """A domain may have a CPU again: what it shows that nobody has put there, is its own."""
        if self.world.driver == "cppc_cpufreq":
            self.unboosted |= {self.path_of.get((key, name), "") for name in LIMITS}
        for path in self.paths_of(key) if key else ():
            text = self.world.text(path)
            if text is None:
                continue
            limit = path.endswith(LIMITS)
            if path in self.unseen:
                if self._known_baseline(key, path):
                    continue  # it shows what we asked for
                if limit and self.owns_turbo and text in self._hardware(path):
                    continue  # what it is without our turbo, it will show then
                self.veiled |= {path} if limit and self.owns_turbo else set()
                self.expected[path] = frozenset({self._without_us(path, text)})
                self.unseen.discard(path)
            elif self._known_baseline(key, path):
                self.forgotten |= {path: text} if self.busy else {}
            elif self.owns_turbo and limit:
                above = all(int(text) > int(item) for item in self.expected[path])
                if above or text in self._hardware(path):
                    self.hidden[path] = text
            else:
                known = self.expected[path] if self.busy else frozenset[str]()
                self.expected[path] = known | {text}

    def _without_us(self, path: str, text: str) -> str:
        """What a file shows, or the EPP that its governor had before us leaves no choice of."""
        governor = f"{path.rpartition('/')[0]}/scaling_governor"
        follows = path.endswith("preference") and self.world.driver in EPP_FOLLOWS
        forced = follows and self.expected.get(governor) == frozenset({"performance"})
        return "performance" if forced else text

    def _hardware(self, path: str) -> set[str | None]:
        """The ends of a domain's range, as it is now."""
        folder = path.rpartition("/")[0]
        return {self.world.text(f"{folder}/cpuinfo_{end}_freq") for end in ("min", "max")}

    def _unknown(self, path: str) -> bool:
        """Whether a file of ours was not written yet since what it held could not be read: what
        somebody else writes to it meanwhile is what was there before us.
        """
        record = self.disk.state.groups.get(self.group_of[path])
        known = (None, None) if record is None else record.of(self.label_of[path])[:2]
        return self.is_ours(path) and known == (None, None)

    def _known_baseline(self, key: str, path: str) -> bool:
        """Whether the state file says what a file held; what was not read, a driver forgets."""
        record = self.disk.state.groups.get(key)
        return record is not None and record.of(self.label_of[path])[0] is not None

    # --- the agent ---

    def step(self, verb: str, path: str) -> int | None:
        """An access of the agent, and what goes wrong with it."""
        self.steps[verb] += 1
        self.steps["any"] += 1
        found = None
        for trouble in self.troubles:
            if trouble.verb in (verb, "any") and self.steps[trouble.verb] == trouble.at + 1:
                found = self._meet(trouble, verb) or found
        return found

    def _meet(self, trouble: Trouble, verb: str) -> int | None:
        self.counts[f"met: {trouble.what}"] += 1
        cpus = self.world.removable
        cpu = cpus[trouble.cpu % len(cpus)] if cpus else 0
        match trouble.what:
            case "kill":
                raise rig.Crash
            case "late":
                self.world.late()
            case "goes":
                self.plug(cpu, online=False)
            case "comes":
                self.plug(cpu, online=True)
            case "bounces":
                self.plug(cpu, online=False)
                self.plug(cpu, online=True)
            case name:
                return int(getattr(errno, name))
        return None

    def check_write(self, path: str, text: str) -> None:
        """Only what is in the state file is written, and what is asked for or was ours before."""
        key = self.group_of.get(self.plain(path))
        if key is None or key not in self.disk.keys:
            raise Broken(f"{path}={text} is written, and {key} is not in the state file")
        if self.claimed is None or key in self.before or key in self.claimed:
            return
        turbo = self.owns_turbo or any(item.startswith(Kind.BOOST) for item in self.before)
        if key.startswith("cpufreq:") and turbo:
            return
        raise Broken(f"{path}={text} is written, though nobody asks for {key} and it was not ours")

    def open(self) -> Applier | None:
        """The agent's applier; None where the machine cannot be looked at now."""
        if self.agent is None:
            eyes = rig.Probe(self.world.host, before_write=self.check_write, deny=self.step)
            handle = Applier(eyes, _Store(self.disk, "/model", self.step))
            self.agent = _Agent(handle, eyes)
            try:
                handle.open()
            except (StateError, HostError, OSError):
                self.end()
                return None
        return self.agent.handle

    def end(self) -> None:
        """The agent's process ends, by itself or not."""
        if self.agent is not None:
            self.agent.handle.close()
            self.agent = None

    def look(self) -> Applier | None:
        """As the agent does before each pass."""
        handle = self.open()
        if handle is None:
            return None
        handle.came_back(self.plugged)
        self.plugged = set()
        if handle.changed():
            try:
                handle.discover()
            except (HostError, OSError):
                self.end()
                return None
        return handle

    def planned(self, found: Machine) -> NodePlan:
        """What is asked for now, on this machine."""
        plan = plan_for(self.ask, found)
        self.claimed = (self.claimed or set()) | claims(plan, found)
        self.claimed |= {"boost"} if plan.boost is not None else set()
        self.claimed |= {f"boost:{item.id}" for item in found.domains if plan.boost is not None}
        return plan

    def bring(self) -> Report | None:
        """A pass; None where it was refused."""
        handle = self.look()
        if handle is None:
            return None
        self.before, self.claimed = set(self.disk.keys), set()
        with suppress(StateError, HostError, OSError):
            return handle.bring(self.planned)[1]
        return None

    def doing(self, what: _Doing, troubles: tuple[Trouble, ...]) -> Report | None:
        """What the agent does among troubles, of which a kill ends it."""
        self.troubles, self.busy = list(troubles), True
        self.steps.clear()
        try:
            return what()
        except rig.Crash:
            self.end()
        finally:
            self.troubles, self.busy, self.claimed = [], False, None
            for path, text in self.forgotten.items():
                if not self.is_ours(path):  # it was right again before, or might have been
                    self.expected[path] |= {text}
            self.forgotten = {}
        return None

    def restore(self, troubles: tuple[Trouble, ...] = ()) -> Report | None:
        """Everything is put back; it says so exactly where that is true."""

        def put_back() -> Report | None:
            handle = self.look()
            if handle is None:
                return None
            self.before, self.claimed = set(self.disk.keys), set()
            with suppress(StateError, HostError, OSError):
                return handle.restore()
            return None

        report = self.doing(put_back, troubles)
        if report is not None:
            left = self.residue()
            done = not self.disk.keys and not left
            if report.settled is not done:
                ours = sorted(self.disk.keys)
                said = f"restore says settled: {report.settled}; ours are {ours}"
                raise Broken(f"{said}, left behind {left}; outcomes {report.outcomes}")
        return report

    # --- laws ---

    def residue(self) -> dict[str, tuple[str, frozenset[str]]]:
        """Files of groups that are not ours and do not show what they would without us."""
        turbo = self.owns_turbo
        wanted = {
            path: self.expected[path]
            for path, key in self.group_of.items()
            if not self.is_ours(path)
            and path not in self.unseen
            and not (self.boosted and path in self.unboosted)
            and not (turbo and path.endswith(LIMITS) and key.startswith("cpufreq:"))
        }
        off = self.world.differing(wanted).items()
        return {path: (text, wanted[path]) for path, text in off if not self._clipped(path, text)}

    def _clipped(self, path: str, text: str) -> bool:
        """Whether a veiled limit shows the hardware's maximum, which is less than it asks for; or a
        hidden one the end that it had then, or that turbo has now; or a minimum the maximum, which
        is less, and which has laws of its own (K1).
        """
        if path in self.hidden and text in {self.hidden[path], *self._hardware(path)}:
            return True
        if path.endswith(LIMITS[0]) and text == self.hidden.get(path.replace(*LIMITS)):
            return True  # it ends at such a maximum
        if not path.endswith(LIMITS):
            return False
        cut = path.endswith(LIMITS[0]) and text == self.world.text(path.replace(*LIMITS))
        veiled = path in self.veiled and text in self._hardware(path)
        return (cut or veiled) and all(int(item) > int(text) for item in self.expected[path])

    def check(self) -> None:
        """The laws that hold at any time."""
        left = self.residue()
        if left:
            raise Broken(f"left behind (shown, expected): {left}; ours: {sorted(self.disk.keys)}")
        for key, record in self.disk.state.groups.items():
            for label, base in zip(record.labels, record.baseline, strict=True):
                path = self.path_of.get((key, label))
                if path is None or base in (None, HARDWARE_LIMIT) or path in self.unseen:
                    continue
                known = {*self.expected[path], self.hidden.get(path)}
                if base not in known and not (self.boosted and path in self.unboosted):
                    raise Broken(f"baseline of {path} is {base}, expected {self.expected[path]}")

    def calm(self, *, restart: bool) -> None:
        """The world stands still: so does the agent, with its plan in force, and writes nothing."""
        for _ in range(MOST_PASSES):
            self.world.pass_time(LONG)
            report = self.bring()
            if _idle(report) and self.agent is not None and not self.agent.handle.changed():
                break
        else:
            last = None if self.agent is None else self.agent.eyes.writes[-8:]
            raise Broken(f"does not come to rest: {report}, last written {last}")
        if restart:
            self.end()
        report = self.bring()
        if self.agent is None or not _idle(report):
            raise Broken(f"a pass over a machine that is right: {report}")
        found = self.agent.handle.machine
        plan = plan_for(self.ask, found)
        if not any(group.held for group in plan.groups):
            self._check_in_force(texts(plan, found))

    def _check_in_force(self, wanted: Mapping[str, str]) -> None:
        rounded = [path for path in wanted if self.tabled and path.endswith(LIMITS)]
        sure = wanted.keys() - rounded
        asked = {self.plain(path): frozenset({wanted[path]}) for path in sure}
        off = self.world.differing(asked)
        if off:
            wrong = {path: (text, asked[path]) for path, text in off.items()}
            raise Broken(f"not in force (shown, asked): {wrong}")

    # --- events ---

    def happen(self, event: Event) -> None:
        """One event, and the laws after it."""
        self.counts[event.what] += 1
        match event.what:
            case "apply":
                self.ask = event.ask or Ask()
                if not self.world.turbo:
                    self.ask = evolve(self.ask, boost=None)
                self.doing(self.bring, event.troubles)
            case "restart":
                self.end()
                self.doing(self._opened, event.troubles)
            case "restore":
                self.restore(event.troubles)
            case "calm":
                self.calm(restart=event.more % 2 == 0)
            case "lose":
                self.end()
                self._lose()
            case "reboot":
                self._reboot(lose=event.more % 3 == 0)
            case "plug" | "storm":
                self._hotplug(event)
            case "foreign":
                self._somebody_writes(event)
            case _:
                self.world.pass_time(float(event.number % 100))
        self.check()

    def _opened(self) -> Report | None:
        self.look()
        return None

    def _lose(self) -> None:
        for path in Path(self.disk.folder).glob("*.json*"):
            path.unlink()
        ours, self.disk.state = self.disk.keys, State()
        # What is the hardware's limit now, others have left: it is theirs to give back.
        left = [path for path, key in self.group_of.items() if key in ours]
        self.expect_what_is_there(left)
        # A minimum that ends at its maximum may be a higher one, and springs back with it (K1).
        self.unseen |= {
            path
            for path in left
            if path.endswith(LIMITS[0])
            and self.world.text(path) == self.world.text(path.replace(*LIMITS))
        }
        if any(key.partition(":")[0] == Kind.BOOST for key in ours):
            self.expect_what_is_there(self.group_of)

    def _reboot(self, *, lose: bool) -> None:
        self.end()
        if lose:
            self._lose()
        self.disk.boot += 1
        self.disk.state = State()
        self.world.reboot()
        self.plugged, self.unboosted = set(), set()
        self.veiled, self.hidden = set(), {}
        self.expect_what_is_there(self.group_of)

    def _hotplug(self, event: Event) -> None:
        cpus = self.world.removable
        for turn in range(1 if event.what == "plug" else 2 + event.number % 5):
            if cpus:
                cpu = cpus[(event.number + turn * event.more) % len(cpus)]
                self.plug(cpu, online=cpu in self.world.offline)

    def _somebody_writes(self, event: Event) -> None:
        """A value of theirs: for what is not ours it counts, what is ours is put back."""
        readable = [path for path in sorted(self.group_of) if path not in self.unseen]
        path = readable[event.number % len(readable)]
        key = self.group_of[path]
        intel = self.world.driver.startswith("intel") and path.endswith("preference")  # rule A1
        if intel or (path.endswith(_SWITCHES) and (self.disk.keys or self.world.offline)):
            return
        moved = key.startswith("cpufreq:") and key not in self.disk.keys and self.owns_turbo
        text = None if moved else self.foreign_text(path, event.more)
        if text is None:  # limits that our turbo moves, of a domain that is not ours yet
            return
        self.world.write(path, text)
        epp = path.replace("scaling_governor", "energy_performance_preference")
        if epp != path and epp in self.group_of and self._unknown(epp):
            self.expect_what_is_there([epp])  # it goes along with some governors (K10)
        if path.endswith(_SWITCHES):
            self.expect_what_is_there(self.group_of)
        elif self._unknown(path):
            self.expect_what_is_there([path])
        elif not self.is_ours(path):
            others = [item for item in self.paths_of(key) if not self.is_ours(item)]
            self.expect_what_is_there(others)

    def foreign_text(self, path: str, number: int) -> str | None:
        """A text that the kernel takes for a file; None where it cannot be said now."""
        folder, _, name = path.rpartition("/")
        if name in ("disable", "enabled", "boost", "no_turbo"):
            return str(number % 2)
        if name == RESUME_LATENCY.file:
            return ("0", "n/a", "20", "300")[number % 4]
        if name == "df_pstate":
            return ("auto", "0", "2 1")[number % 3]
        if "uncore" in path:
            return str((8 + number % 17) * 100_000)
        if "power" in name:
            return str((80 + number % 1500) * (125 if name.endswith("mw") else _EIGHTH))
        if name == "scaling_governor":
            words = (self.world.text(f"{folder}/scaling_available_governors") or "").split()
            return words[number % len(words)] if words else None
        if name == "energy_performance_preference":
            return rig.EPP_WORDS[number % 4]
        low, high = (self.world.text(f"{folder}/cpuinfo_{end}_freq") for end in ("min", "max"))
        if low is None or high is None:
            return None
        return str(int(low) + (int(high) - int(low)) * (number % 11) // 10)

    def rest(self) -> None:
        """The end: every CPU is there, and everything is put back at once and for good."""
        for cpu in sorted(self.world.offline):
            self.plug(cpu, online=True)
        self.world.pass_time(LONG)
        report = self.restore()
        if report is None or not report.settled:
            raise Broken(f"the last restore: {report}; ours: {sorted(self.disk.keys)}")
        self.check()
        self.ask = Ask()
        for again in (self.restore, self.bring):
            report = again()
            if report is None or report.writes or not report.settled:
                raise Broken(f"after the last restore: {report}")


def _idle(report: Report | None) -> bool:
    """Whether a pass found everything right."""
    return report is not None and report.settled and not report.writes and not report.drift


@frozen
class Fault:
    """A law that a life broke: after so many of its events, and how."""

    life: Life
    after: int
    why: str


def live(world: World, life: Life, counts: Counter[str]) -> Fault | None:
    """Lead a life to its end; what went wrong."""
    with rig.state_folder() as folder:
        led = Living(world, Disk(folder), counts)
        done = 0
        try:
            led.begin()
            for event in life.events:
                led.happen(event)
                done += 1
            led.rest()
        except Exception as failure:  # noqa: BLE001 - whatever a life ends by is told with it
            return Fault(life, done, f"{type(failure).__name__}: {failure}")
        finally:
            led.end()
    return None


def shortest(fault: Fault, again: Callable[[Life], Fault | None]) -> Fault:
    """The fault with every event and trouble left out without which a life still goes wrong."""
    best, kind = fault, fault.why.split(":")[0]
    progress = True
    while progress:
        progress = False
        for life in _shorter(best.life):
            found = again(life)
            if found is not None and found.why.split(":")[0] == kind:
                best, progress = found, True
                break
    return best


def _shorter(life: Life) -> list[Life]:
    """The same life with one thing less."""
    found = []
    events = life.events
    for number in range(len(events)):
        found.append(evolve(life, events=events[:number] + events[number + 1 :]))
    for number, event in enumerate(events):
        for place in range(len(event.troubles)):
            troubles = event.troubles[:place] + event.troubles[place + 1 :]
            less = evolve(event, troubles=troubles)
            found.append(evolve(life, events=(*events[:number], less, *events[number + 1 :])))
        for ask in _smaller(event.ask):
            less = evolve(event, ask=ask)
            found.append(evolve(life, events=(*events[:number], less, *events[number + 1 :])))
    if life.latency:
        found.append(evolve(life, latency=0.0))
    return found


def _smaller(ask: Ask | None) -> list[Ask]:
    """The same ask with one thing less."""
    if ask is None:
        return []
    found = [evolve(ask, boost=None)] if ask.boost is not None else []
    found += [evolve(ask, held=None)] if ask.held is not None else []
    for index, place in enumerate(ask.places):
        if place:
            found.append(evolve(ask, places=(*ask.places[:index], 0, *ask.places[index + 1 :])))
    for index, part in enumerate(ask.parts):
        for change in _LESS:
            less = evolve(part, **change)
            parts = (*ask.parts[:index], less, *ask.parts[index + 1 :])
            found += [evolve(ask, parts=parts)] if less != part else []
    return found


_LESS: tuple[dict[str, Any], ...] = (
    {"low": -1, "high": -1}, {"governor": 0}, {"epp": 0}, {"idle": 0}, {"latency": None},
)  # fmt: skip
