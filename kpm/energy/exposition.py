"""Energy as Prometheus reads it: our names, Kepler's present ones, and those of its 0.7 line.

Text is made directly, since the client library takes ten times as long for thousands of series
(docs/developer/bench.md). What is not measured is absent, never 0. Units: joules, watts, seconds.
"""

import platform
from collections.abc import Callable, Iterable, Mapping
from math import inf

from attrs import field, frozen

from kpm import __version__
from kpm.energy.ledger import Account, Ledger, MeterAccount
from kpm.energy.processes import ProcessAccount
from kpm_planner.energy.meters import APART, WHOLE, ZONES, Meter, whole_zone
from kpm_planner.energy.standing import Line
from kpm_planner.model.agent_settings import METRIC_LEVELS, METRIC_NAMES

_KPM, _KEPLER, _KEPLER_07 = METRIC_NAMES
_NODE, _POD, _CONTAINER, _PROCESS = METRIC_LEVELS
#: Zones whose energy the older names add up: those that do not contain each other.
_SUM = (*APART, "other")
_OLD_ZONES = ("core", "package", "dram", "uncore", "other")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def escaped(text: str) -> str:
    """A label's value: what would end it is escaped, and what no text
    format can hold is replaced.
    """
    return text.translate(_ESCAPES).encode("utf-8", "replace").decode()


def labels(**values: str) -> str:
    """Labels without their braces.

    >>> labels(pod='a"b', zone="package")
    'pod="a\\\\"b",zone="package"'
    """
    return ",".join(f'{name}="{escaped(value)}"' for name, value in values.items())


def build_labels() -> str:
    """Labels of kepler_build_info."""
    return labels(
        arch=platform.machine(), branch="", revision="", version=__version__, goversion=""
    )


def _old_build_labels() -> str:
    """Labels of kepler_exporter_build_info."""
    return labels(arch=platform.machine(), branch="", os="linux", revision="", version=__version__)


@frozen
class Exposed:
    """What is to be told. node: its name; levels, names: chosen; most: series, beyond which levels
    are left out, the last first.

    lines: meter id → its power over load.
    """

    node: str
    levels: tuple[str, ...]
    names: tuple[str, ...]
    most: int
    ledger: Ledger
    meters: tuple[Meter, ...] = ()
    processes: Mapping[tuple[int, int], ProcessAccount] = field(factory=dict)
    usage_ratio: float | None = None
    cpu_info: tuple[str, ...] = ()
    build: str = ""
    lines: Mapping[str, Line] = field(factory=dict)


@frozen
class Family:
    """A metric with its samples, without the lines that head it."""

    name: str
    kind: str
    help: str
    lines: list[str]


def expose(what: Exposed) -> tuple[list[Family], tuple[str, ...]]:
    """The families, and the levels that were left out because there would be too many series."""
    made: list[Family] = []
    count = 0
    left_out: list[str] = []
    for level in what.levels:
        families = [
            family for name in what.names for family in _MAKERS[name, level](what) if family.lines
        ]
        size = sum(len(family.lines) for family in families)
        if left_out or count + size > what.most:
            left_out.append(level)
        else:
            made += families
            count += size
    return made, tuple(left_out)


def render(families: Iterable[Family]) -> bytes:
    """The text that a scrape gets."""
    parts: list[str] = []
    for family in families:
        parts.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n")
        parts += family.lines
    return "".join(parts).encode()


def _joules(uj: int) -> str:
    return repr(uj / 1_000_000)


# --- our names ---


def _kpm_node(what: Exposed) -> list[Family]:
    known = what.ledger.known(what.meters)
    texts = [
        (labels(zone=meter.zone, place=meter.place, source=meter.source, path=meter.id), account)
        for meter, account in known
    ]

    def total(name: str, text: str, value: Callable[[MeterAccount], int]) -> Family:
        return Family(
            f"kpm_node_{name}_joules_total",
            "counter",
            text,
            [
                f"kpm_node_{name}_joules_total{{{at}}} {_joules(value(item))}\n"
                for at, item in texts
            ],
        )

    measured = [
        (at, meter)
        for (at, item), (meter, _) in zip(texts, known, strict=True)
        if item.power_uw is not None
    ]
    return [
        total(
            "energy",
            "Energy that passed through a meter; zones contain each other, do not add them up.",
            lambda item: item.uj,
        ),
        total("busy", "Energy of what ran.", lambda item: item.busy_uj),
        total("system", "Energy of what ran outside of containers.", lambda item: item.system_uj),
        total("unattributed", "Idle energy that is nobody's.", lambda item: item.unattributed_uj),
        *_of_meters(texts),
        *_standing(what, measured),
        _by_mode(
            "kpm_pool_joules_total",
            "Energy of containers by pool and profile.",
            ((_pool_labels(item), item) for item in what.ledger.pools.values()),
        ),
    ]


def _of_meters(texts: list[tuple[str, MeterAccount]]) -> list[Family]:
    """How each meter does: its power, whether it is read, what was wrong. texts: with labels."""
    return [
        Family(
            "kpm_node_power_watts",
            "gauge",
            "Power over the last interval.",
            [
                f"kpm_node_power_watts{{{at}}} {_joules(item.power_uw)}\n"
                for at, item in texts
                if item.power_uw is not None
            ],
        ),
        Family(
            "kpm_meter_up",
            "gauge",
            "Whether a meter could be read the last time.",
            [f"kpm_meter_up{{{at}}} {int(item.up)}\n" for at, item in texts],
        ),
        Family(
            "kpm_meter_faults_total",
            "counter",
            "Intervals of a meter that are not known, or not for sure, by problem code.",
            [
                f'kpm_meter_faults_total{{{at},code="{code}"}} {times}\n'
                for at, item in texts
                for code, times in item.faults.items()
            ],
        ),
    ]


def _standing(what: Exposed, meters: list[tuple[str, Meter]]) -> list[Family]:
    known = [
        (at, line)
        for at, meter in meters
        if (line := what.lines.get(meter.id)) is not None and line.error_w < inf
    ]
    name, error = "kpm_meter_standing_watts", "kpm_meter_standing_error_watts"
    return [
        Family(
            name,
            "gauge",
            "What a meter shows with nothing running, assumed of the processor (prior) or learned.",
            [f'{name}{{{at},basis="{line.basis}"}} {line.standing_w!r}\n' for at, line in known],
        ),
        Family(
            error,
            "gauge",
            "Standard error of the standing power.",
            [f'{error}{{{at},basis="{line.basis}"}} {line.error_w!r}\n' for at, line in known],
        ),
    ]


def _pool_labels(account: Account) -> str:
    return labels(pool=account.identity.pool, profile=account.identity.profile)


def _by_mode(name: str, text: str, accounts: Iterable[tuple[str, Account]]) -> Family:
    lines = []
    for at, account in accounts:
        for zone, (busy, idle) in account.zones.items():
            lines.append(f'{name}{{{at},zone="{zone}",mode="busy"}} {busy / 1_000_000!r}\n')
            if idle:
                lines.append(f'{name}{{{at},zone="{zone}",mode="idle"}} {idle / 1_000_000!r}\n')
    return Family(name, "counter", text, lines)


def _accounts(
    accounts: Mapping[str, Account], form: str, make: Callable[[Account], str]
) -> list[tuple[str, Account]]:
    """Each account with its labels, which are made once."""
    found = []
    for account in accounts.values():
        text = account.texts.get(form)
        if text is None:
            text = account.texts[form] = make(account)
        found.append((text, account))
    return found


def _state(account: Account) -> str:
    return "running" if account.ended is None else "terminated"


def _kpm_pod_labels(account: Account) -> str:
    who = account.identity
    return labels(
        namespace=who.namespace,
        pod=who.pod,
        pod_uid=who.pod_uid,
        pool=who.pool,
        profile=who.profile,
        state=_state(account),
    )


def _kpm_container_labels(account: Account) -> str:
    who = account.identity
    return labels(
        namespace=who.namespace,
        pod=who.pod,
        container=who.name,
        container_id=who.id,
        pool=who.pool,
        profile=who.profile,
        state=_state(account),
    )


def _kpm_consumers(level: str, accounts: list[tuple[str, Account]]) -> list[Family]:
    power, time = f"kpm_{level}_power_watts", f"kpm_{level}_cpu_seconds_total"
    watts = [
        f'{power}{{{at},zone="{zone}"}} {(busy + idle) / 1_000_000!r}\n'
        for at, item in accounts
        if item.ended is None
        for zone, (busy, idle) in item.power_uw.items()
    ]
    return [
        _by_mode(
            f"kpm_{level}_joules_total",
            f"Energy of a {level}: mode busy for what it ran, idle for the CPUs that it owns or"
            " asks for.",
            accounts,
        ),
        Family(power, "gauge", f"Power of a {level} over the last interval, busy and idle.", watts),
        Family(
            time,
            "counter",
            f"CPU time of a {level}.",
            [f"{time}{{{at}}} {item.usage_us / 1_000_000!r}\n" for at, item in accounts],
        ),
    ]


def _kpm_pod(what: Exposed) -> list[Family]:
    return _kpm_consumers("pod", _accounts(what.ledger.pods, "kpm", _kpm_pod_labels))


def _kpm_container(what: Exposed) -> list[Family]:
    return _kpm_consumers(
        "container", _accounts(what.ledger.containers, "kpm", _kpm_container_labels)
    )


def _process_families(
    what: Exposed,
    prefix: str,
    make: Callable[[ProcessAccount], str],
    watts: str = "watts",
    of_time: Callable[[ProcessAccount], str] | None = None,
) -> list[Family]:
    """of_time: labels of CPU time, where they are others than those of energy."""
    known = [(make(item), item) for item in what.processes.values()]
    timed = (
        known if of_time is None else [(of_time(item), item) for item in what.processes.values()]
    )
    energy, time = f"{prefix}_joules_total", f"{prefix.removesuffix('_cpu')}_cpu_seconds_total"
    return [
        Family(
            energy,
            "counter",
            "Busy energy of a process.",
            [
                f'{energy}{{{at},zone="{zone}"}} {uj / 1_000_000!r}\n'
                for at, item in known
                for zone, uj in item.zones.items()
            ],
        ),
        Family(
            f"{prefix}_{watts}",
            "gauge",
            "Busy power of a process over the last interval.",
            [
                f'{prefix}_{watts}{{{at},zone="{zone}"}} {uw / 1_000_000!r}\n'
                for at, item in known
                for zone, uw in item.power_uw.items()
            ],
        ),
        Family(
            time,
            "counter",
            "CPU time of a process.",
            [f"{time}{{{at}}} {item.usage_us / 1_000_000!r}\n" for at, item in timed],
        ),
    ]


def _kpm_process(what: Exposed) -> list[Family]:
    return _process_families(
        what,
        "kpm_process",
        lambda item: labels(pid=str(item.pid), comm=item.comm, container_id=item.container_id),
        "power_watts",
    )


# --- Kepler's names of 0.10 and later ---


def _kepler_node(what: Exposed) -> list[Family]:
    node = what.node
    known = what.ledger.known(what.meters)
    texts = [
        (
            labels(
                zone=meter.zone,
                path=f"/sys/{meter.id}" if meter.source != "estimated" else "",
                node_name=node,
            ),
            account,
        )
        for meter, account in known
    ]
    families = []
    for name, text, energy, power in _KEPLER_PARTS:
        total, watts = f"kepler_node_{name}_joules_total", f"kepler_node_{name}_watts"
        families.append(
            Family(
                total,
                "counter",
                f"{text} by zone.",
                [f"{total}{{{at}}} {_joules(energy(item))}\n" for at, item in texts],
            )
        )
        lines = [
            f"{watts}{{{at}}} {_joules(power(item))}\n"
            for at, item in texts
            if item.power_uw is not None
        ]
        families.append(Family(watts, "gauge", f"{text} over the last interval, as power.", lines))
    return [*families, *_kepler_facts(what)]


_Uj = Callable[[MeterAccount], int]
#: Kepler's name, what it is, µJ, µW.
_KEPLER_PARTS: tuple[tuple[str, str, _Uj, _Uj], ...] = (
    ("cpu", "Energy", lambda item: item.uj, lambda item: item.power_uw or 0),
    ("cpu_active", "Energy of what ran", lambda item: item.busy_uj, lambda item: item.busy_uw),
    (
        "cpu_idle",
        "Idle energy",
        lambda item: item.uj - item.busy_uj,
        lambda item: (item.power_uw or 0) - item.busy_uw,
    ),
)


def _kepler_facts(what: Exposed) -> list[Family]:
    """How busy the node is, its CPUs, and who says all this."""
    node, families = what.node, []
    if what.usage_ratio is not None:
        line = f'kepler_node_cpu_usage_ratio{{node_name="{escaped(node)}"}} {what.usage_ratio!r}\n'
        families.append(
            Family(
                "kepler_node_cpu_usage_ratio", "gauge", "Share of CPU time that was used.", [line]
            )
        )
    families.append(
        Family(
            "kepler_node_cpu_info",
            "gauge",
            "The CPUs.",
            [f"kepler_node_cpu_info{{{at}}} 1\n" for at in what.cpu_info],
        )
    )
    families.append(
        Family(
            "kepler_build_info",
            "gauge",
            "Who answers by these names.",
            [f"kepler_build_info{{{what.build}}} 1\n"] if what.build else [],
        )
    )
    return families


def _kepler_consumers(level: str, accounts: list[tuple[str, Account]]) -> list[Family]:
    energy, power = f"kepler_{level}_cpu_joules_total", f"kepler_{level}_cpu_watts"
    return [
        Family(
            energy,
            "counter",
            f"Busy energy of a {level}.",
            [
                f'{energy}{{{at},zone="{zone}"}} {busy / 1_000_000!r}\n'
                for at, item in accounts
                for zone, (busy, _) in item.zones.items()
                if zone != "other"
            ],
        ),
        Family(
            power,
            "gauge",
            f"Busy power of a {level} over the last interval.",
            [
                f'{power}{{{at},zone="{zone}"}} {busy / 1_000_000!r}\n'
                for at, item in accounts
                for zone, (busy, _) in item.power_uw.items()
                if zone != "other"
            ],
        ),
    ]


def _kepler_pod(what: Exposed) -> list[Family]:
    def make(item: Account) -> str:
        who = item.identity
        return labels(
            pod_id=who.pod_uid,
            pod_name=who.pod,
            pod_namespace=who.namespace,
            state=_state(item),
            node_name=what.node,
        )

    return _kepler_consumers("pod", _accounts(what.ledger.pods, "kepler", make))


def _kepler_container(what: Exposed) -> list[Family]:
    def make(item: Account) -> str:
        who = item.identity
        return labels(
            container_id=who.id,
            container_name=who.name,
            runtime=who.runtime,
            state=_state(item),
            pod_id=who.pod_uid,
            node_name=what.node,
        )

    accounts = _accounts(what.ledger.containers, "kepler", make)
    time = "kepler_container_cpu_seconds_total"
    lines = [f"{time}{{{at}}} {item.usage_us / 1_000_000!r}\n" for at, item in accounts]
    return [
        *_kepler_consumers("container", accounts),
        Family(time, "counter", "CPU time of a container.", lines),
    ]


def _kepler_process(what: Exposed) -> list[Family]:
    """CPU time has no label of the state, as there."""

    def make(item: ProcessAccount, **state: str) -> str:
        kind = "container" if item.container_id else "regular"
        return labels(
            pid=str(item.pid),
            comm=item.comm,
            exe=item.exe,
            type=kind,
            **state,
            container_id=item.container_id,
            vm_id="",
            node_name=what.node,
        )

    return _process_families(
        what, "kepler_process_cpu", lambda item: make(item, state="running"), of_time=make
    )


# --- Kepler's names up to 0.9 ---


def _old_node(what: Exposed) -> list[Family]:
    """Dies of a package, and power supplies of a machine, are one series together: these names tell
    them not apart.
    """
    sums: dict[tuple[str, str], list[int]] = {}
    known = [
        (meter, account) for meter, account in what.ledger.known(what.meters) if meter.zone in ZONES
    ]
    whole = whole_zone({meter.zone for meter, _ in known})
    for meter, account in known:
        if meter.zone in WHOLE and meter.zone != whole:
            continue
        zone = "platform" if meter.zone == whole else meter.zone
        at = labels(
            instance=what.node,
            package="" if meter.package is None else str(meter.package),
            source=meter.source,
        )
        both = sums.setdefault((zone, at), [0, 0])
        both[0] += account.busy_uj
        both[1] += account.uj - account.busy_uj
    if any(what.ledger.other_uj):
        sums["other", labels(instance=what.node, package="", source=_sources(what))] = (
            what.ledger.other_uj
        )
    lines: dict[str, list[str]] = {}
    for (zone, at), both in sums.items():
        name = f"kepler_node_{zone}_joules_total"
        lines.setdefault(name, []).extend(
            f'{name}{{{at},mode="{mode}"}} {_joules(uj)}\n'
            for mode, uj in zip(("dynamic", "idle"), both, strict=True)
        )
    who = [f"kepler_exporter_build_info{{{_old_build_labels()}}} 1\n"] if what.build else []
    return [
        *(Family(name, "counter", "Energy of the node.", found) for name, found in lines.items()),
        Family("kepler_exporter_build_info", "gauge", "Who answers by these names.", who),
    ]


def _sources(what: Exposed) -> str:
    """The source that the older names have room for."""
    return what.meters[0].source if what.meters else ""


def _old_container(what: Exposed) -> list[Family]:
    source = _sources(what)

    def make(item: Account) -> str:
        who = item.identity
        return labels(
            container_id=who.id,
            container_name=who.name,
            container_namespace=who.namespace,
            pod_name=who.pod,
            source=source,
        )

    accounts = _accounts(what.ledger.containers, f"kepler-0.7 {source}", make)
    families = [
        _old_family("kepler_container_joules_total", "Energy of a container.", accounts, _SUM)
    ]
    return [
        *families,
        *(
            _old_family(
                f"kepler_container_{zone}_joules_total",
                "Energy of a container in a zone.",
                accounts,
                (zone,),
            )
            for zone in _OLD_ZONES
        ),
    ]


def _old_family(
    name: str, text: str, accounts: list[tuple[str, Account]], zones: tuple[str, ...]
) -> Family:
    lines = []
    for at, account in accounts:
        found = [account.zones[zone] for zone in zones if zone in account.zones]
        if found:
            lines.append(
                f'{name}{{{at},mode="dynamic"}} {sum(busy for busy, _ in found) / 1_000_000!r}\n'
            )
            lines.append(
                f'{name}{{{at},mode="idle"}} {sum(idle for _, idle in found) / 1_000_000!r}\n'
            )
    return Family(name, "counter", text, lines)


def _nothing(_what: Exposed) -> list[Family]:
    """The older names had no pods, and processes by metrics that are not measured here."""
    return []


_MAKERS: dict[tuple[str, str], Callable[[Exposed], list[Family]]] = {
    (_KPM, _NODE): _kpm_node,
    (_KPM, _POD): _kpm_pod,
    (_KPM, _CONTAINER): _kpm_container,
    (_KPM, _PROCESS): _kpm_process,
    (_KEPLER, _NODE): _kepler_node,
    (_KEPLER, _POD): _kepler_pod,
    (_KEPLER, _CONTAINER): _kepler_container,
    (_KEPLER, _PROCESS): _kepler_process,
    (_KEPLER_07, _NODE): _old_node,
    (_KEPLER_07, _POD): _nothing,
    (_KEPLER_07, _CONTAINER): _old_container,
    (_KEPLER_07, _PROCESS): _nothing,
}
