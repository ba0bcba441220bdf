"""A first policy for a machine: its own ranges, governors and idle states, with a comment on each
line that a person may want to change. What it says is a suggestion; nothing reads it but plan.
"""

from collections.abc import Iterator

from attrs import frozen

from kpm.formats.documents import parse_mapping
from kpm.process.errors import InputError
from kpm_planner.model.cluster import OPENSHIFT_GROUP, SYSTEM_NAMESPACE
from kpm_planner.model.cpuset import parse_cpulist
from kpm_planner.model.machine import SCALING_POWERSAVE, FrequencyDomain, Machine
from kpm_planner.model.quantities import format_ghz

#: Where kubelets are configured, first found first.
KUBELET_FILES = ("/var/lib/kubelet/config.yaml", "/etc/kubernetes/kubelet.conf")
_GHZ = 1_000_000
#: Shares of each CPU's own range: of the shared pool at most, of a fast pod at least.
_SLOW, _FAST = "40%", "80%"
#: The deepest idle state that a fast pod may wait for, µs.
_WAKE = 10


@frozen
class Reserved:
    """CPUs that are kept for the system, and who says so."""

    cpus: tuple[int, ...]
    source: str


def reserved(machine: Machine, files: tuple[str, ...] = KUBELET_FILES) -> Reserved:
    """The kubelet's reserved CPUs where its configuration can be read, else the first core."""
    for path in files:
        try:
            with open(path, "rb") as file:
                content = parse_mapping(file.read(1 << 20), path)
            text = str(content.get("reservedSystemCPUs") or "")
            cpus = tuple(sorted(parse_cpulist(text) & machine.online))
        except (OSError, InputError, ValueError):
            continue
        if cpus:
            return Reserved(cpus, f"reservedSystemCPUs in {path}")
    first = min(machine.online, default=0)
    cpu = machine.by_id.get(first)
    core = sorted(machine.online.intersection(cpu.siblings if cpu else ())) or [first]
    return Reserved(tuple(core), "the first core; let it be the kubelet's reservedSystemCPUs")


def first_policy(machine: Machine, kept: Reserved, origin: str) -> str:
    """The policy as YAML with comments. origin: where the machine was seen, for the first line."""
    lines = [*_head(machine, origin), *_config(), *_shared(machine), *_fast(machine)]
    return "\n".join([*lines, *_pools(kept), *_more(machine)]) + "\n"


def _domain(machine: Machine) -> FrequencyDomain | None:
    """A domain whose frequencies can be set; any of them tells what the driver can."""
    return next((item for item in machine.domains if item.managed), None)


def _head(machine: Machine, origin: str) -> Iterator[str]:
    model = machine.cpu_model or "a machine of unknown model"
    yield f"# A first policy for {origin}: {model}, {len(machine.online)} CPUs."
    yield "# Try it:  kpm plan -f THIS_FILE     then  kpm diff -f THIS_FILE"
    yield "# In a cluster:  kubectl apply -f THIS_FILE   (definitions and operator first)"
    domain = _domain(machine)
    if domain is None:
        yield "# No frequency can be set here, so the profiles ask for none: kpm discover says why."
        return
    ends = {
        (item.hardware_min_khz or 0, item.hardware_max_khz or 0)
        for item in machine.domains
        if item.managed
    }
    ranges = [f"{format_ghz(low)} to {format_ghz(high)} GHz" for low, high in sorted(ends)]
    yield f"# Driver {domain.driver}; ranges: {', '.join(ranges)}."
    yield f"# Governors: {', '.join(domain.governors) or 'none is listed'}."
    if domain.epps:
        yield f"# EPP: {', '.join(domain.epps)}."


def _object(kind: str, name: str) -> Iterator[str]:
    yield "---"
    yield f"apiVersion: {OPENSHIFT_GROUP}/v1"
    yield f"kind: {kind}"
    yield f"metadata: {{name: {name}, namespace: {SYSTEM_NAMESPACE[OPENSHIFT_GROUP]}}}"


def _config() -> Iterator[str]:
    yield from _object("PowerConfig", "power-config")
    yield "spec:"
    yield "  # Nodes that get an agent; as it stands, all of them."
    yield '  # powerNodeSelector: {feature.node.kubernetes.io/power-node: "true"}'
    yield "  agent: {}"


def _shared(machine: Machine) -> Iterator[str]:
    yield from _object("PowerProfile", "shared")
    yield "spec:"
    yield "  # For CPUs that no container owns; pods cannot ask for it."
    yield "  shared: true"
    yield from _pstates(machine, ("max", _SLOW), "powersave", "power")


def _fast(machine: Machine) -> Iterator[str]:
    yield from _object("PowerProfile", "fast")
    yield "spec:"
    yield f"  # Pods ask for {OPENSHIFT_GROUP}/fast, as many as whole CPUs, and are Guaranteed."
    yield from _pstates(machine, ("min", _FAST), "performance", "performance")
    states = [state for name in machine.idle_names for state in _states(machine, name)]
    if states:
        yield f"  # Idle states here: {', '.join(states)}."
        yield f"  # None that needs more than {_WAKE} µs to wake up; by name: names: {{C6: false}}."
        yield f"  cstates: {{maxLatencyUs: {_WAKE}}}"
    yield "  # At most so many CPUs of a node at once; left out: all."
    yield '  # cpuCapacity: "75%"'


def _states(machine: Machine, name: str) -> list[str]:
    """A state as people know it, with its latency."""
    latency = next(
        (state.latency_us for cpu in machine.cpus for state in cpu.idle if state.name == name), None
    )
    return [f"{name} ({latency} µs)"] if latency is not None else []


def _pstates(machine: Machine, limit: tuple[str, str], governor: str, epp: str) -> Iterator[str]:
    """What the driver can do of it."""
    domain = _domain(machine)
    if domain is None:
        return
    end, share = limit
    low, high = domain.hardware_min_khz or 0, domain.hardware_max_khz or 0
    khz = low + (high - low) * int(share[:-1]) // 100
    yield "  pstates:"
    yield f'    {end}: "{share}"  # of each CPU\'s own range, here {khz / _GHZ:.1f} GHz; or MHz'
    scales = governor != "powersave" or domain.driver in SCALING_POWERSAVE
    word = governor if scales else "schedutil"
    if domain.may_have(word):
        yield f"    governor: {word}"
    if domain.settings.epp is not None or domain.epps:
        yield f"    epp: {epp}"


def _pools(kept: Reserved) -> Iterator[str]:
    yield from _object("PowerNodeConfig", "nodes")
    yield "spec:"
    yield "  # An empty selector is all nodes; matchLabels names some."
    yield "  nodeSelector: {labelSelector: {}}"
    yield "  sharedPowerProfile: shared"
    yield "  reservedCPUs:"
    yield f"  # From {kept.source}."
    yield "  # They stay as they are; powerProfile: NAME gives them one."
    yield f"  - cores: [{', '.join(map(str, kept.cpus))}]"


def _more(machine: Machine) -> Iterator[str]:
    """What else this machine can, ready to be taken out of its comment."""
    entry = next((item for item in machine.uncore if item.hardware_max_khz), None)
    if entry is not None:
        ends = f"sysMin: {entry.hardware_min_khz}, sysMax: {entry.hardware_max_khz}"
        yield from _commented("Uncore", "Frequencies of what CPUs share, kHz", ends)
    limits = (limit for zone in machine.power_zones for limit in zone.limits[:1])
    watts = sum(limit.max_uw or 0 for limit in limits) // 1_000_000
    if watts:
        source = f"source: {{static: {{watts: {max(watts * 8 // 10, 1)}}}}}"
        yield from _commented("PowerCap", "Power of all packages together, W", source)


def _commented(kind: str, what: str, spec: str) -> Iterator[str]:
    yield f"# {what}:"
    for line in _object(kind, "nodes"):
        yield f"# {line}"
    yield f"# spec: {{nodeSelector: {{labelSelector: {{}}}}, {spec}}}"
