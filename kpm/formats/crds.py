"""Custom resource definitions, generated from the attrs classes that the wire format structures.

Types, names, descriptions and bounds come from the classes; what only Kubernetes knows stands here:
rules in CEL, printer columns, short names. `kpm crds` prints them, `crds/` holds them, a test
compares.
"""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from attrs import Attribute, fields, frozen, has

from kpm.formats.wire import EARLIER_FIELDS, api_name
from kpm_planner.model.agent_settings import AgentSettings, MetricSettings, Toleration
from kpm_planner.model.cap_objects import (
    CapEntry,
    CapSource,
    ConfigMapKey,
    ExternalCap,
    MarketCap,
    PowerCap,
    SolarCap,
    StaticCap,
)
from kpm_planner.model.cluster import LABEL_KEY, LABEL_VALUE, OPENSHIFT_GROUP, Requirement
from kpm_planner.model.objects import (
    EPB_WORDS,
    LARGEST_EPB,
    AmdFabric,
    CStates,
    DieSelector,
    PowerConfig,
    PowerNodeConfig,
    PowerProfile,
    PowerWorkload,
    PStates,
    Uncore,
)
from kpm_planner.model.quantities import FREQUENCY_WORDS
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.report.rollup import (
    ErrorsStatus,
    PowerCapStatus,
    PowerConfigStatus,
    PowerWorkloadStatus,
)
from kpm_planner.report.types import PowerNodeStateStatus, PowerNodeStatus

Schema = dict[str, Any]
_BOUNDS = frozenset(
    {"enum", "format", "maxItems", "maxLength", "maxProperties", "maximum", "minimum", "pattern"}
)
_LONGEST_ITEM = 253
_LONGEST_CPU = 65535


@frozen
class Rule:
    """A CEL rule of a schema node, and what it says to whoever breaks it."""

    rule: str
    message: str
    field: str = ""


@frozen
class ResourceKind:
    """One kind: its classes, names and columns (name, type, JSON path, description)."""

    name: str
    plural: str
    short: tuple[str, ...]
    spec: type | None
    status: type
    description: str
    columns: tuple[tuple[str, str, str, str], ...] = ()
    rules: tuple[Rule, ...] = ()


@frozen
class NodeObjectSpec:
    """Which node an object is about."""

    node_name: str | None = None


_SAME_NAME = Rule(
    "!has(self.spec) || !has(self.spec.name) || self.spec.name == self.metadata.name",
    "spec.name must be metadata.name, or be left out",
)
#: What the API server itself takes for a selector of ours, and no node can ever have.
_LABELS = (
    Rule(
        f"self.all(key, size(key) <= 317 && key.matches('{LABEL_KEY}'))",
        "keys must be keys of labels: letters, digits, - _ . and an optional prefix with a slash",
    ),
    Rule(
        f"self.all(key, size(self[key]) <= 63 && self[key].matches('{LABEL_VALUE}'))",
        "values must be values of labels: at most 63 letters, digits, - _ .",
    ),
)
_SHORT_NAME = Rule(
    "size(self.metadata.name) <= 63",
    "metadata.name must have at most 63 characters: it becomes part of an extended resource's name",
)
_NEEDS_PROFILE = Rule(
    "!has(self.spec) || !has(self.spec.allCores) || !self.spec.allCores ||"
    " has(self.spec.powerProfile)",
    "spec.powerProfile is needed where spec.allCores is true",
)
_ERRORS = ("Errors", "string", ".status.errors[0]", "What is wrong; the first of it.")
_SIZES = (
    ("Shared", "integer", ".status.sizes.shared", "CPUs in the shared pool."),
    ("Reserved", "integer", ".status.sizes.reserved", "Reserved CPUs."),
    ("Exclusive", "integer", ".status.sizes.exclusive", "CPUs owned by containers."),
)
_AGE = ("Age", "date", ".metadata.creationTimestamp", "Age.")

KINDS = (
    ResourceKind(
        "PowerConfig",
        "powerconfigs",
        ("pcfg",),
        spec=PowerConfig,
        status=PowerConfigStatus,
        description=(
            "Which nodes are managed, and the settings of their agents. One is in force; a later"
            " one is deleted or marked."
        ),
        columns=(
            ("Nodes", "integer", ".status.nodeCount", "How many nodes have an agent."),
            _ERRORS,
            _AGE,
        ),
    ),
    ResourceKind(
        "PowerProfile",
        "powerprofiles",
        ("pp",),
        spec=PowerProfile,
        status=ErrorsStatus,
        description=(
            "How a CPU should run. A profile that is not shared is an extended resource that"
            " containers ask for."
        ),
        columns=(
            ("Shared", "boolean", ".spec.shared", "Whether it is for the shared pool."),
            ("Min", "string", ".spec.pstates.min", "Lowest frequency."),
            ("Max", "string", ".spec.pstates.max", "Highest frequency."),
            ("Governor", "string", ".spec.pstates.governor", "Governor."),
            ("EPP", "string", ".spec.pstates.epp", "Energy performance preference."),
            _ERRORS,
            _AGE,
        ),
        rules=(_SAME_NAME, _SHORT_NAME),
    ),
    ResourceKind(
        "PowerWorkload",
        "powerworkloads",
        ("pw",),
        spec=PowerWorkload,
        status=PowerWorkloadStatus,
        description=(
            "The shared pool and reserved CPUs of the nodes that it selects. One for each node"
            " and profile is made by the operator."
        ),
        columns=(
            ("Profile", "string", ".spec.powerProfile", "PowerProfile."),
            ("All-Cores", "boolean", ".spec.allCores", "Whether it is the shared pool."),
            ("Nodes", "integer", ".status.nodeCount", "How many nodes it is for."),
            ("CPUs", "integer", ".status.cpuCount", "How many CPUs these have under it."),
            ("CPU-List", "string", ".status.cpus", "Which, where it is one node."),
            _ERRORS,
            _AGE,
        ),
        rules=(_SAME_NAME, _NEEDS_PROFILE),
    ),
    ResourceKind(
        "PowerNodeConfig",
        "powernodeconfigs",
        ("pnc",),
        spec=PowerNodeConfig,
        status=ErrorsStatus,
        description="The shared pool and reserved CPUs of all nodes that match.",
        columns=(
            (
                "Shared-Profile",
                "string",
                ".spec.sharedPowerProfile",
                "PowerProfile of the shared pool.",
            ),
            _ERRORS,
            _AGE,
        ),
    ),
    ResourceKind(
        "Uncore",
        "uncores",
        (),
        spec=Uncore,
        status=ErrorsStatus,
        description=(
            "Uncore frequency limits of the node that it is named after, or of the nodes that it"
            " selects."
        ),
        columns=(
            ("Min", "integer", ".spec.sysMin", "Lowest uncore frequency, kHz."),
            ("Max", "integer", ".spec.sysMax", "Highest uncore frequency, kHz."),
            _ERRORS,
            _AGE,
        ),
    ),
    ResourceKind(
        "PowerCap",
        "powercaps",
        ("pcap",),
        spec=PowerCap,
        status=PowerCapStatus,
        description=(
            "How much power the packages of the nodes that it selects may take, at which time."
        ),
        columns=(
            ("Per", "string", ".spec.per", "Whether node or package is meant."),
            ("Min", "integer", ".spec.minWatts", "Never lower, W."),
            ("Max", "integer", ".spec.maxWatts", "Never higher, W."),
            _ERRORS,
            _AGE,
        ),
    ),
    ResourceKind(
        "PowerNode",
        "powernodes",
        ("pn",),
        spec=None,
        status=PowerNodeStatus,
        description="What runs on a node, in lines for people. Written by the node's agent.",
        columns=(
            *_SIZES,
            ("Unaffected", "string", ".status.unaffectedCores", "CPUs that nothing covers."),
            ("Shared-Pool", "string", ".status.sharedPool", "Profile, maximum, minimum, CPUs."),
            _AGE,
        ),
    ),
    ResourceKind(
        "PowerNodeState",
        "powernodestates",
        ("pns",),
        spec=None,
        status=PowerNodeStateStatus,
        description=(
            "State of a node in fields for programs: pools, requested and effective values,"
            " problems, conditions. Written by the node's agent."
        ),
        columns=(
            ("Node", "string", ".spec.nodeName", "Node."),
            *_SIZES,
            (
                "Ready",
                "string",
                '.status.conditions[?(@.type=="Ready")].status',
                "Whether the plan is in force.",
            ),
            ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why."),
            _AGE,
        ),
    ),
)

#: Where a driver's PodResources socket may lie: its folder is mounted into the agents.
CLAIM_SOCKET = "/var/lib/kubelet/(pod-resources|plugins/[A-Za-z0-9._-]+)/[A-Za-z0-9._-]+"
_FREQUENCY_RULE = (
    "type({0}) == int ? int({0}) > 0 : {0}.matches('^((100|[1-9]?[0-9])%|"
    f"{'|'.join(FREQUENCY_WORDS)})$')"
)
_FREQUENCY_WORDING = (
    'MHz below 100000, kHz from there on, a percentage from "0%" to "100%", or min, base or max'
)
#: Two of the words are ends of the range, and so percentages of it; base is none.
_PERCENT = "{0}.replace('min', '0%').replace('max', '100%')"
_LOW, _HIGH = _PERCENT.format("self.min"), _PERCENT.format("self.max")
_ORDER = (
    "!has(self.min) || !has(self.max) || (type(self.min) == int && type(self.max) == int ?"
    " (int(self.min) < 100000 ? int(self.min) * 1000 : int(self.min)) <= (int(self.max) < 100000 ?"
    " int(self.max) * 1000 : int(self.max)) : !(type(self.min) == string && type(self.max) =="
    f" string && {_LOW}.matches('^[0-9]{{1,3}}%$') && {_HIGH}.matches('^[0-9]{{1,3}}%$')) ||"
    f" int({_LOW}.replace('%', '')) <= int({_HIGH}.replace('%', '')))"
)
_DURATION = "'^[0-9]{1,7}(ms|s)$'"
_SAMPLE = "(has(self.samplePeriod) ? duration(self.samplePeriod) : duration('10ms'))"
_COOLDOWN = "(has(self.cooldownPeriod) ? duration(self.cooldownPeriod) : duration('30ms'))"
_FORMATS = (
    f"(!has(self.samplePeriod) || self.samplePeriod.matches({_DURATION})) &&"
    f" (!has(self.cooldownPeriod) || self.cooldownPeriod.matches({_DURATION}))"
)
_BOTH = "both of min and max are needed, as kHz, min or max; min not above max"


def _uncore_order(low: str, high: str) -> str:
    """Both ends are kHz or words, and in order; a word and a number are judged on the machine."""
    words = "type({0}) == int || {0} in ['min', 'max']"
    return (
        f"({words.format(low)}) && ({words.format(high)}) && (type({low}) == int && type({high}) =="
        f" int ? int({low}) <= int({high}) : !({low} == 'max' && {high} == 'min'))"
    )


_NEEDS_WATTS = Rule("has(self.watts)", "watts is needed")

#: Class → the rules of its schema.
_RULES: Mapping[type, tuple[Rule, ...]] = {
    PStates: (
        Rule(
            f"!has(self.min) || ({_FREQUENCY_RULE.format('self.min')})",
            f"min must be {_FREQUENCY_WORDING}",
            "min",
        ),
        Rule(
            f"!has(self.max) || ({_FREQUENCY_RULE.format('self.max')})",
            f"max must be {_FREQUENCY_WORDING}",
            "max",
        ),
        Rule(_ORDER, "min must not be above max", "min"),
        Rule(
            "!has(self.governor) || self.governor != 'performance' || !has(self.epp) || self.epp =="
            " 'performance'",
            "under governor performance epp must be performance",
            "epp",
        ),
        Rule(
            f"!has(self.epb) || (type(self.epb) == int ? int(self.epb) >= 0 && int(self.epb) <="
            f" {LARGEST_EPB} : self.epb.matches('^({'|'.join(EPB_WORDS)}|[0-9]|1[0-5])$'))",
            f"epb must be 0 to {LARGEST_EPB} or {', '.join(EPB_WORDS)}",
            "epb",
        ),
    ),
    CStates: (
        Rule(
            "!(has(self.names) && has(self.maxLatencyUs))",
            "names and maxLatencyUs are both given; only one of them is allowed",
        ),
    ),
    PowerProfile: (
        Rule(
            "!has(self.cpuCapacity) || (type(self.cpuCapacity) == int ? int(self.cpuCapacity) > 0 :"
            " self.cpuCapacity.matches('^(100|[1-9][0-9]?)%$'))",
            'cpuCapacity must be a number from 1 or a percentage from "1%" to "100%"',
            "cpuCapacity",
        ),
        Rule(
            "!has(self.cpuScalingPolicy) || (has(self.pstates) && has(self.pstates.governor) &&"
            " self.pstates.governor == 'userspace')",
            "cpuScalingPolicy needs pstates.governor userspace",
        ),
    ),
    CpuScalingPolicy: (
        Rule("has(self.workloadType)", "workloadType is needed: polling-dpdk"),
        Rule(_FORMATS, "samplePeriod and cooldownPeriod must be durations such as 10ms or 1s"),
        Rule(
            f"!({_FORMATS}) || ({_SAMPLE} >= duration('10ms') && {_SAMPLE} <= duration('1s'))",
            "samplePeriod must be from 10ms to 1s",
        ),
        Rule(
            f"!({_FORMATS}) || !has(self.cooldownPeriod) || {_COOLDOWN} >= {_SAMPLE}",
            "cooldownPeriod must not be below samplePeriod",
        ),
    ),
    DieSelector: (
        Rule("has(self.__package__)", "package is needed"),
        Rule(f"has(self.min) && has(self.max) && {_uncore_order('self.min', 'self.max')}", _BOTH),
    ),
    Uncore: (
        Rule(
            "has(self.sysMin) == has(self.sysMax) && (!has(self.sysMin) ||"
            f" {_uncore_order('self.sysMin', 'self.sysMax')})",
            f"sysMin, sysMax: {_BOTH}",
        ),
    ),
    AmdFabric: (
        Rule(
            "has(self.dfPstateMin) && has(self.dfPstateMax) && self.dfPstateMax <="
            " self.dfPstateMin",
            "both ends are needed, dfPstateMax not above dfPstateMin: 0 is the fastest",
        ),
    ),
    StaticCap: (_NEEDS_WATTS,),
    CapEntry: (
        Rule("has(self.time)", "time is needed"),
        Rule("has(self.watts) != has(self.percent)", "exactly one of watts and percent is needed"),
    ),
    SolarCap: (
        Rule("has(self.peakWatts)", "peakWatts is needed"),
        Rule(
            "(has(self.sunrise) ? self.sunrise : '04:00') < (has(self.sunset) ? self.sunset :"
            " '20:00')",
            "sunset must be after sunrise",
        ),
    ),
    MarketCap: (
        Rule(
            "has(self.peakWatts) && has(self.volumes) && self.volumes.exists(volume, volume > 0)",
            "peakWatts and volumes, not all 0, are needed",
        ),
    ),
    ConfigMapKey: (
        Rule(
            "has(self.name) && has(self.key) && size(self.name) > 0 && size(self.key) > 0",
            "name and key are needed",
        ),
    ),
    ExternalCap: (
        Rule("has(self.configMap) != has(self.url)", "exactly one of configMap and url is needed"),
        Rule(
            "!has(self.url) || self.url.matches('^https?://.')",
            "url must begin with http:// or https://",
            "url",
        ),
        Rule(
            "!has(self.maxAge) || self.maxAge.matches('^[0-9]{1,7}[smh]$')",
            "maxAge must be a duration such as 10m",
            "maxAge",
        ),
    ),
    CapSource: (
        Rule(
            "(has(self.static) ? 1 : 0) + (has(self.schedule) && size(self.schedule) > 0 ? 1 : 0) +"
            " (has(self.solar) ? 1 : 0) + (has(self.market) ? 1 : 0) + (has(self.external) ? 1 : 0)"
            " == 1",
            "exactly one of static, schedule, solar, market, external is needed",
        ),
    ),
    PowerCap: (
        Rule("has(self.source)", "source is needed"),
        Rule(
            "!has(self.minWatts) || !has(self.maxWatts) || self.minWatts <= self.maxWatts",
            "minWatts must not be above maxWatts",
            "minWatts",
        ),
        Rule(
            "!has(self.period) || (self.period.matches('^[0-9]{1,7}[smh]$') &&"
            " duration(self.period) >= duration('5s') && duration(self.period) <= duration('1h'))",
            "period must be a duration from 5s to 1h",
            "period",
        ),
    ),
    Requirement: (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "In and NotIn need values, Exists and DoesNotExist take none",
        ),
    ),
    AgentSettings: (
        Rule(
            "!has(self.resyncPeriod) || (self.resyncPeriod.matches('^[0-9]{1,7}(s|m)$') &&"
            " duration(self.resyncPeriod) >= duration('5s'))",
            "resyncPeriod must be a duration of at least 5s such as 60s",
            "resyncPeriod",
        ),
        Rule(
            f"!has(self.claimSocket) || (self.claimSocket.matches('^{CLAIM_SOCKET}$') &&"
            " !self.claimSocket.contains('/..'))",
            "claimSocket must be a socket in a folder of its own,"
            " /var/lib/kubelet/plugins/DRIVER/NAME, or in /var/lib/kubelet/pod-resources",
            "claimSocket",
        ),
    ),
    MetricSettings: (
        Rule(
            "!has(self.interval) || (self.interval.matches('^[0-9]{1,2}s$') &&"
            " duration(self.interval) >= duration('1s') && duration(self.interval) <="
            " duration('60s'))",
            "interval must be from 1s to 60s, such as 10s",
            "interval",
        ),
    ),
    Toleration: (
        Rule(
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value)",
            "operator Exists takes no value",
        ),
    ),
}


#: What an earlier operator stored is not pruned when the definitions change.
_KEPT: Schema = {"x-kubernetes-preserve-unknown-fields": True}


def crd(kind: ResourceKind, group: str = OPENSHIFT_GROUP) -> Schema:
    """The CustomResourceDefinition of a kind in an API group."""
    spec = _object(kind.spec) if kind.spec else _object(NodeObjectSpec)
    spec["description"] = (
        f"What is asked: {kind.description[0].lower()}{kind.description[1:]}"
        if kind.spec
        else "Which node the object is about."
    )
    if kind.spec is None:
        spec |= _KEPT
        spec["properties"]["nodeName"] |= {"description": "The node.", "maxLength": _LONGEST_ITEM}
    else:
        for name in EARLIER_FIELDS.get(kind.name, ()):
            spec["properties"][name] = {
                "type": "object",
                "description": "Of an earlier operator; kept, and not used.",
                **_KEPT,
            }
    status = _object(kind.status) | _KEPT
    status["description"] = "What was found; written by the system."
    root: Schema = {
        "type": "object",
        "description": kind.description,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    if kind.rules:
        root["x-kubernetes-validations"] = [_rule(rule) for rule in kind.rules]
    names = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "categories": ["power"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{group}",
            "labels": {"app.kubernetes.io/part-of": "kubernetes-power-manager"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {**names, **({"shortNames": list(kind.short)} if kind.short else {})},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": root},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": column, "jsonPath": path, "description": text}
                        for name, column, path, text in kind.columns
                    ],
                }
            ],
        },
    }


def _rule(rule: Rule) -> Schema:
    return {
        "rule": rule.rule,
        "message": rule.message,
        **({"fieldPath": f".{rule.field}"} if rule.field else {}),
    }


def _object(kind: type) -> Schema:
    """The schema of an attrs class."""
    hints = get_type_hints(kind)
    own = [item for item in fields(kind) if item.name not in ("meta", "group")]
    schema: Schema = {
        "type": "object",
        "properties": {api_name(item.name): _field(item, hints[item.name]) for item in own},
    }
    needed = [api_name(item.name) for item in own if _is_needed(item)]
    if needed:
        schema["required"] = needed
    if kind in _RULES:
        schema["x-kubernetes-validations"] = [_rule(rule) for rule in _RULES[kind]]
    return schema


def _is_needed(item: "Attribute[Any]") -> bool:
    return item.default is fields(Requirement).key.default


def _field(item: "Attribute[Any]", hint: Any) -> Schema:
    schema = {
        **_type(hint),
        **{key: value for key, value in item.metadata.items() if key in _BOUNDS},
    }
    if item.metadata.get("labels"):
        schema["x-kubernetes-validations"] = [_rule(rule) for rule in _LABELS]
    if "items" in item.metadata:
        schema["items"] = {**schema["items"], **item.metadata["items"]}
    if "list_map_keys" in item.metadata:
        schema |= {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": item.metadata["list_map_keys"],
        }
    return (
        {**schema, "description": item.metadata.get("description", "")}
        if item.metadata.get("description")
        else schema
    )


def _type(hint: Any) -> Schema:
    members = (
        [member for member in get_args(hint) if member is not NoneType]
        if get_origin(hint) in (Union, UnionType)
        else [hint]
    )
    if set(members) == {int, str}:
        return {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
        }
    kind = members[0]
    if get_origin(kind) is Mapping:
        inner = _type(get_args(kind)[1])
        return {
            "type": "object",
            "additionalProperties": (
                {**inner, "maxLength": _LONGEST_ITEM} if inner == {"type": "string"} else inner
            ),
        }
    if get_origin(kind) is tuple:
        inner = _type(get_args(kind)[0])
        bounds: Schema = (
            {"maxLength": 4096}
            if inner == {"type": "string"}
            else (
                {"minimum": 0, "maximum": _LONGEST_CPU}
                if inner == {"type": "integer", "format": "int64"}
                else {}
            )
        )
        return {"type": "array", "items": {**inner, **bounds}, "x-kubernetes-list-type": "atomic"}
    if has(kind):
        return _object(kind)
    return {
        bool: {"type": "boolean"},
        int: {"type": "integer", "format": "int64"},
        str: {"type": "string"},
    }[kind]
