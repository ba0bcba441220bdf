"""Custom resources between API mappings and the planner's values, strictly.

The attrs classes of kpm_planner.model.objects are the one definition; cattrs does the work, with
camelCase names, no unknown field, no wrong scalar. Faults name the field as the user wrote it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from attrs import evolve, fields, fields_dict, has
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from kpm.formats.unread import Unread
from kpm.process.errors import show
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import AMD_GROUP, INTEL_GROUP, OPENSHIFT_GROUP, Meta
from kpm_planner.model.objects import (
    Intent,
    PowerConfig,
    PowerNodeConfig,
    PowerProfile,
    PowerWorkload,
    Uncore,
)
from kpm_planner.model.problems import Code, Problem, error
from kpm_planner.profile_rules import with_pstates

GROUPS = (OPENSHIFT_GROUP, INTEL_GROUP, AMD_GROUP)
KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (PowerProfile, PowerWorkload, PowerNodeConfig, Uncore, PowerConfig, PowerCap)
}


def by_kind(intent: Intent) -> dict[type, tuple[Any, ...]]:
    """The objects of an intent, by kind; its first fields are in the order of KINDS."""
    parts = zip(KINDS.values(), fields_dict(Intent), strict=False)
    return {kind: getattr(intent, name) for kind, name in parts}


def intent_of(objects: Mapping[type, Iterable[Any]], **more: Any) -> Intent:
    """An intent of the objects of each kind. more: its other fields."""
    return Intent(*(tuple(objects[kind]) for kind in KINDS.values()), **more)


_IRREGULAR = {
    "reserved_cpus": "reservedCPUs",
    "min_mhz": "minMHz",
    "max_mhz": "maxMHz",
    "available_mhz": "availableMHz",
    "base_mhz": "baseMHz",
    "pod_uid": "podUID",
    "min_khz": "minKHz",
    "max_khz": "maxKHz",
    "requested_min_khz": "requestedMinKHz",
    "requested_max_khz": "requestedMaxKHz",
    "cpu_list": "cpuIDs",
    "cpu_numbers": "cpuIDs",
    "power_profile_cpus": "powerProfileCPUs",
}
#: Fields of spec that an earlier operator wrote into objects of users: kept, and not used.
EARLIER_FIELDS = {"PowerWorkload": ("workloadNodes",)}
#: Fields that do not come from spec; no user can write these keys.
_INJECTED = {"meta": "\0meta", "group": "\0group"}
_Type = TypeVar("_Type")


class WireError(Exception):
    """A field that cannot be taken. The text: path, value, what is allowed.

    faults: (path, what is wrong) of every field, where more than the first are known.
    """

    def __init__(self, text: str, faults: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(text)
        path, mark, what = text.partition(": ")
        self.faults = faults or ((path if mark else "", what if mark else text),)


class _Wrong(Exception):
    """A scalar of the wrong type, somewhere below a field."""

    def __init__(self, value: object, allowed: str, below: str = "") -> None:
        super().__init__(f"expected {allowed}, got {show(value)}")
        self.below = below


def api_name(attribute: str) -> str:
    """The API's name of a Python attribute.

    >>> api_name("power_node_selector"), api_name("reserved_cpus")
    ('powerNodeSelector', 'reservedCPUs')
    """
    first, *rest = attribute.split("_")
    return _IRREGULAR.get(attribute) or first + "".join(word.capitalize() for word in rest)


def structure_object(document: Mapping[str, Any], *, strict: bool = True) -> Any:
    """An object of one of KINDS from its mapping. Errors: WireError.

    strict: an unknown field is an error, as what users type wants it; else it is passed over, as
    between versions.
    """
    kind = KINDS[document["kind"]]
    unknown = document.keys() - {"apiVersion", "kind", "metadata", "spec", "status"}
    if unknown and strict:
        raise WireError(
            f"{min(unknown, key=str)}: is no field here; allowed are apiVersion, kind, metadata,"
            " spec, status"
        )
    spec = document.get("spec")
    if spec is None:
        spec = {}
    if not isinstance(spec, Mapping):
        raise WireError(f"spec: expected a mapping, got {show(spec)}")
    spec = {
        key: value
        for key, value in spec.items()
        if key not in EARLIER_FIELDS.get(kind.__name__, ())
    }
    hidden = [key for key in spec if key in _INJECTED.values()]
    if hidden:
        raise WireError(
            f"spec.{hidden[0]!r}: is no field here; allowed are {', '.join(_names(kind))}"
        )
    injected = {
        _INJECTED["meta"]: structure_meta(document),
        _INJECTED["group"]: document["apiVersion"].partition("/")[0],
    }
    made: Any = _structure({**_prepared(spec), **injected}, kind, "spec", strict=strict)
    return with_pstates(made) if isinstance(made, PowerProfile) else made


def document_of_object(obj: Any) -> dict[str, Any]:
    """An object of one of KINDS as a document that `structure_object` takes."""
    spec = {
        key: value
        for key, value in converter().unstructure(obj).items()
        if key not in _INJECTED.values() and key != "group"
    }
    meta = obj.meta
    identity = {
        "name": meta.name,
        "namespace": meta.namespace,
        "labels": dict(meta.labels),
        "uid": meta.uid,
        "generation": meta.generation,
        "creationTimestamp": None if meta.created is None else meta.created.isoformat(),
    }
    return {
        "apiVersion": f"{obj.group}/v1",
        "kind": type(obj).__name__,
        "metadata": identity,
        "spec": spec,
    }


def read_object(document: Mapping[str, Any], kind: str, group: str) -> tuple[Any, Problem | None]:
    """An object of one of KINDS as the API server holds it, in a list without kind and apiVersion;
    or why it cannot be read.
    """
    try:
        _check_read(document)
        return (
            structure_object({**document, "kind": kind, "apiVersion": f"{group}/v1"}, strict=False),
            None,
        )
    except WireError as failure:
        name = str((document.get("metadata") or {}).get("name"))
        return None, error(Code.OBJECT_UNREADABLE, f"{kind}/{name}", "", str(failure))


def document_of(value: Any) -> Any:
    """A status as the API has it: what is unknown or empty is left out, but for lists of errors,
    whose emptiness is the news.
    """
    if isinstance(value, tuple):
        return [document_of(item) for item in value]
    if not has(type(value)):
        return str(value) if isinstance(value, str) else value
    found = {item.name: document_of(getattr(value, item.name)) for item in fields(type(value))}
    return {
        api_name(name): item
        for name, item in found.items()
        if item not in (None, "", {}) and (item != [] or name == "errors")
    }


def structure_plain(
    content: Mapping[str, Any], kind: type[_Type], root: str, base: _Type | None = None
) -> _Type:
    """A value of any attrs class from its mapping; fields that are left out come from `base` where
    it is given.

    Errors: WireError.
    """
    value = _structure(
        {key: _without_nulls(item) for key, item in content.items() if item is not None}, kind, root
    )
    if base is None:
        return value
    written: Any = kind
    given = [item.name for item in fields(written) if api_name(item.name) in content]
    merged: Any = base
    return evolve(merged, **{name: getattr(value, name) for name in given})  # type: ignore[no-any-return]


def structure_meta(document: Mapping[str, Any]) -> Meta:
    """Identity of any API object. Errors: WireError."""
    _check_read(document)
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        raise WireError(f"metadata: expected a mapping with a name, got {show(metadata)}")
    name = metadata.get("name")
    if (
        not isinstance(name, str)
        or not name
        or len(name) > 253
        or not all(char.isalnum() or char in "-._" for char in name)
        or not name.isascii()
    ):
        raise WireError(
            f"metadata.name: expected letters, digits, '-' and '.', at most 253, got {show(name)}"
        )
    namespace, uid = (_optional_text(metadata, key) for key in ("namespace", "uid"))
    labels = metadata.get("labels")
    labels = {} if labels is None else labels
    if not isinstance(labels, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in labels.items()
    ):
        raise WireError(
            "metadata.labels: expected a mapping of text to text (quote true, yes and numbers),"
            f" got {show(labels)}"
        )
    created = _optional_text(metadata, "creationTimestamp")
    generation = metadata.get("generation")
    return Meta(
        name,
        namespace,
        dict(labels),
        uid=uid or "",
        created=None if created is None else parse_time(created, "metadata.creationTimestamp"),
        generation=generation if type(generation) is int and 0 <= generation < 1 << 63 else 0,
    )


def _check_read(document: Mapping[str, Any]) -> None:
    """Errors: WireError for an object of which only the identity is known; it is not one whose
    fields are left out.
    """
    if isinstance(document, Unread):
        raise WireError(document.why)


def _optional_text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(key)
    if value is not None and not isinstance(value, str):
        raise WireError(f"metadata.{key}: expected text, got {show(value)}")
    return value


def parse_time(text: str, path: str) -> datetime:
    """A point in time as the API writes it. Errors: WireError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WireError(
            f"{path}: expected a time such as 2026-01-31T08:00:00Z, got {show(text)}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _prepared(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec as the API server would store it: no nulls; the short form of reservedCPUs made
    long.
    """
    clean: dict[str, Any] = {
        key: _without_nulls(value) for key, value in spec.items() if value is not None
    }
    reserved = clean.get("reservedCPUs")
    if isinstance(reserved, list) and reserved and all(type(item) is int for item in reserved):
        clean["reservedCPUs"] = [{"cores": reserved}]
    return clean


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _structure(value: Any, kind: type[_Type], root: str, *, strict: bool = True) -> _Type:
    try:
        return converter(strict=strict).structure(value, kind)
    except (ClassValidationError, IterableValidationError, _Wrong) as failure:
        faults = tuple(_faults(failure, root))
        raise WireError(": ".join(faults[0]), faults) from None


def _faults(failure: BaseException, path: str) -> Iterator[tuple[str, str]]:
    """The faults below a cattrs failure, with paths in the user's names."""
    if isinstance(failure, ClassValidationError):
        with_notes, without = failure.group_exceptions()
        for inner, note in with_notes:
            yield from _faults(inner, f"{path}.{api_name(note.name)}")
        for inner in without:
            yield from _faults(inner, path)
    elif isinstance(failure, IterableValidationError):
        indexed, plain = failure.group_exceptions()
        for inner, item in indexed:
            place = f"[{item.index}]" if isinstance(item.index, int) else f".{item.index}"
            yield from _faults(inner, f"{path}{place}")
        for inner in plain:
            yield from _faults(inner, path)
    elif isinstance(failure, ForbiddenExtraKeysError):
        known = _names(failure.cl)
        for name in sorted(failure.extra_fields, key=str):
            what = f"is no field here; allowed are {', '.join(known)}{_near(name, known)}"
            yield f"{path}.{name}", what
    elif isinstance(failure, KeyError):
        yield f"{path}", "is missing"
    else:
        yield f"{path}{getattr(failure, 'below', '')}", str(failure)


def _near(name: object, known: list[str]) -> str:
    """Which name may be meant."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), known, 1)
    return f"; is {near[0]} meant?" if near else ""


def _names(kind: type | None) -> list[str]:
    return (
        [api_name(item.name) for item in fields(kind) if item.name not in _INJECTED]
        if kind is not None
        else []
    )


@cache
def names_of(kind: type, path: str = "spec") -> Mapping[str, frozenset[str]]:
    """The fields of a kind, and below each that has fields of its own: path → names."""
    hints = get_type_hints(kind)
    found = {path: frozenset(_names(kind))}
    for item in fields(kind):
        for inner in _classes(hints[item.name]):
            if item.name not in _INJECTED:
                found |= names_of(inner, f"{path}.{api_name(item.name)}")
    return found


def _classes(hint: Any) -> Iterator[type]:
    """The attrs classes in a type, such as that of a tuple's items."""
    if isinstance(hint, type) and has(hint):
        yield hint
    for inner in get_args(hint):
        yield from _classes(inner)


@cache
def converter(*, strict: bool = True) -> Converter:
    """The converter of all kinds. strict: no unknown field."""
    conv = Converter(detailed_validation=True)
    for kind, allowed in ((int, "a whole number"), (str, "text"), (bool, "true or false")):
        conv.register_structure_hook(kind, _strict(kind, allowed))
    conv.register_structure_hook_func(lambda hint: hint == int | str | None, _int_or_text)
    conv.register_structure_hook_factory(_is_mapping, _mapping_hook)
    conv.register_structure_hook_factory(_is_tuple, lambda hint: _tuple_hook(conv, hint))
    conv.register_structure_hook_factory(has, lambda kind: _class_hook(conv, kind, strict=strict))
    conv.register_unstructure_hook_factory(
        has,
        lambda kind: make_dict_unstructure_fn(
            kind, conv, _cattrs_omit_if_default=True, **_overrides(kind)
        ),
    )
    return conv


def _strict(kind: type, allowed: str) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise _Wrong(value, allowed)
        return value

    return hook


def _int_or_text(value: Any, _: Any) -> int | str | None:
    if value is not None and type(value) not in (int, str):
        raise _Wrong(value, 'a whole number or a percentage such as "40%"')
    return value  # type: ignore[no-any-return]


def _is_mapping(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is Mapping


def _mapping_hook(hint: Any) -> Callable[[Any, Any], Any]:
    kind = hint.__args__[1]
    allowed = {str: "text (quote true, yes and numbers)", bool: "true or false"}.get(kind, "")

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _Wrong(value, "a mapping")
        for key, item in value.items():
            if not isinstance(key, str):
                raise _Wrong(key, "text as a key")
            if allowed and type(item) is not kind:
                raise _Wrong(item, allowed, f".{key}")
        return dict(value)

    return hook


def _is_tuple(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is tuple and hint.__args__[-1] is Ellipsis


def _tuple_hook(conv: Converter, hint: Any) -> Callable[[Any, Any], Any]:
    inner = conv.get_structure_hook(list[hint.__args__[0]])

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, list):
            raise _Wrong(value, "a list")
        return tuple(inner(value, list[hint.__args__[0]]))

    return hook


def _overrides(kind: type) -> dict[str, Any]:
    return {
        item.name: override(rename=_INJECTED.get(item.name) or api_name(item.name))
        for item in fields(kind)
    }


def _class_hook(conv: Converter, kind: type, *, strict: bool) -> Callable[[Any, Any], Any]:
    if kind is Meta:
        return lambda value, _: value
    overrides = _overrides(kind)
    if "group" in overrides:
        overrides["group"] = override(rename=_INJECTED["group"])
    inner: Any = make_dict_structure_fn(
        kind, conv, _cattrs_forbid_extra_keys=strict, _cattrs_detailed_validation=True, **overrides
    )

    def hook(value: Any, hint: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _Wrong(value, "a mapping")
        return inner(value, hint)

    return hook
