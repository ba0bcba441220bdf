"""Last valid versions: an edit that cannot be honoured on a node never slows what runs there (rule
R8).

While an object's own content has errors on this node, the version that was last in force here
without any stays in force, judged anew on today's machine. Conflicts with other objects, lost
claims and missing references neither make a version nor end one. Deletion, another uid, and a
selector that leaves the node end it.

Versions are state that the caller keeps: what `current_versions` returns is its argument next time.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, assert_never

from attrs import astuple, evolve, frozen

from kpm_planner.caps.rules import validate_cap
from kpm_planner.model.agent_settings import IdleStates
from kpm_planner.model.cap_objects import PowerCap
from kpm_planner.model.cluster import Node, NodeSelector
from kpm_planner.model.machine import Machine
from kpm_planner.model.objects import Intent, PowerNodeConfig, PowerProfile, Uncore, Unreadable
from kpm_planner.model.problems import Code, Problem, Severity, has_errors, warning
from kpm_planner.model.target import ResolvedProfile
from kpm_planner.pools import definition_faults
from kpm_planner.profiles import resolve_profile
from kpm_planner.selection import Accepted, covers, precedence_key, reference, selector_problems
from kpm_planner.uncore import uncore_faults

Versioned = PowerProfile | PowerNodeConfig | Uncore | PowerCap
_Key = tuple[str, str, str, str]


@frozen
class Version:
    """An object as it was last in force on the node without errors of its own. since: aware; None
    where not known.
    """

    obj: Versioned
    since: datetime | None = None


@frozen
class Versions:
    """What is known of earlier versions. note: what is to be said of an object without one, where
    they are not all known.
    """

    items: tuple[Version, ...] = ()
    note: str = ""


@frozen
class Current:
    """The objects that are in force on a node. versions: for next time; resolved: the profiles of
    the node, by name.

    earlier: of those in force, the versions that are not the ones written now.
    """

    accepted: Accepted
    resolved: Mapping[str, ResolvedProfile]
    versions: tuple[Version, ...]
    problems: tuple[Problem, ...]
    earlier: tuple[Version, ...] = ()


@frozen
class _Judged:
    """One object on the node. obj: what is in force; kept: for next time; told: which version that
    is, where it is an earlier one.
    """

    obj: Versioned
    kept: Version | None = None
    problems: tuple[Problem, ...] = ()
    told: str = ""


def current_versions(
    accepted: Accepted,
    node: Node,
    machine: Machine,
    how: IdleStates,
    versions: Versions,
    instant: datetime | None,
) -> Current:
    """The objects with those that have errors on this node replaced by their last valid versions.

    how: idle states may be set so. instant: since when a version counts that is new.
    """
    return _Judge(node, machine, how, versions, instant).current(accepted)


class _Judge:
    """The judgement of all objects of one node."""

    def __init__(
        self,
        node: Node,
        machine: Machine,
        how: IdleStates,
        versions: Versions,
        instant: datetime | None,
    ) -> None:
        self.node, self.machine, self.how, self.note, self.instant = (
            node,
            machine,
            how,
            versions.note,
            instant,
        )
        self.known = {_key(item.obj): item for item in versions.items}
        self.profiles: dict[int, ResolvedProfile] = {}  # by identity: the values keep them alive

    def current(self, accepted: Accepted) -> Current:
        """See the module."""
        intent = _with_unreadable(accepted.intent, self.known)
        unread = frozenset(map(astuple, intent.unreadable))
        hidden = [
            item
            for item in _kept_of(intent.unreadable, self.known, PowerProfile)
            if item.meta.name not in accepted.profiles
        ]
        profiles = [self.judge(item, unread) for item in (*accepted.profiles.values(), *hidden)]
        configs = [self.judge(item, unread) for item in intent.node_configs]
        uncores, caps = (
            [self.judge(item, unread) for item in items] for items in (intent.uncores, intent.caps)
        )
        claimed = [item for found in (uncores, caps) for item in self.winner(found)]
        judged = [*profiles, *configs, *uncores, *caps]
        in_force = evolve(intent, **_by_kind(judged))
        by_name = {item.meta.name: item for item in in_force.profiles}
        told = {item.obj.meta.name: item.told for item in profiles}
        return Current(
            accepted=evolve(accepted, profiles=by_name, intent=in_force),
            resolved={
                name: _with_reason(self.resolve(item), told[name])
                for name, item in by_name.items()
                if covers(item, self.node)
            },
            versions=self.for_next_time(
                (*profiles, *configs, *claimed), (*uncores, *caps), accepted.unused
            ),
            problems=tuple(
                problem for item in (*profiles, *configs, *claimed) for problem in item.problems
            ),
            earlier=tuple(
                item.kept
                for item in (*profiles, *configs, *claimed)
                if item.told and item.kept is not None
            ),
        )

    def judge(self, obj: Any, unread: frozenset[_Key]) -> _Judged:
        """What is in force of one object."""
        kept = self.known.get(_key(obj))
        broken = bool(selector_problems(obj.node_selector, reference(obj)))
        if not covers(kept.obj if broken and kept is not None else obj, self.node):
            return _Judged(obj)
        selector = kept.obj.node_selector if broken and kept is not None else obj.node_selector
        if _key(obj) in unread:
            return self.keep(obj, kept, selector, (), "cannot be read")
        faults = self.faults(obj)
        if not has_errors(faults):
            same = kept is not None and evolve(kept.obj, meta=obj.meta) == obj
            return _Judged(
                obj, Version(obj, kept.since if same and kept is not None else self.instant)
            )
        return self.keep(obj, kept, selector, faults, "has errors on this node")

    def keep(
        self,
        obj: Versioned,
        kept: Version | None,
        selector: NodeSelector | None,
        faults: tuple[Problem, ...],
        why: str,
    ) -> _Judged:
        """An object that cannot be in force as it is written. selector: the one that it has on the
        node.
        """
        errors = tuple(item for item in faults if item.severity is Severity.ERROR)
        if kept is None:
            note = (
                (warning(Code.VERSION_UNKNOWN, reference(obj), "", self.note),) if self.note else ()
            )
            return _Judged(obj, None, note)
        candidate = evolve(kept.obj, meta=obj.meta, node_selector=selector)
        if candidate == obj and errors:  # the machine has changed, not the object
            return _Judged(obj, kept)
        told = _told(kept)
        if has_errors(self.faults(candidate)):
            message = f"{why}, and so has its last valid version ({told}) today; baseline"
            return _Judged(obj, kept, (warning(Code.LAST_VALID, reference(obj), "", message),))
        message = f"{why}; its last valid version stays in force ({told})"
        return _Judged(
            candidate, kept, (*errors, warning(Code.LAST_VALID, reference(obj), "", message)), told
        )

    def faults(self, obj: Versioned) -> tuple[Problem, ...]:
        """The faults of an object's own content on this node."""
        match obj:
            case PowerProfile():
                return self.resolve(obj).problems
            case PowerNodeConfig():
                return definition_faults(obj)
            case Uncore():
                return uncore_faults(obj, self.machine)
            case PowerCap():
                return validate_cap(obj)
            case _:
                assert_never(obj)

    def resolve(self, profile: PowerProfile) -> ResolvedProfile:
        """A profile on this machine, worked out once."""
        found = self.profiles.get(id(profile))
        if found is None:
            found = resolve_profile(profile, self.machine, self.how)
            self.profiles[id(profile)] = found
        return found

    def winner(self, judged: list[_Judged]) -> list[_Judged]:
        """The one of a kind that holds on the node, none or one."""
        here: list[Any] = [item for item in judged if covers(item.obj, self.node)]
        return sorted(here, key=lambda item: precedence_key(item.obj, self.node))[:1]

    def for_next_time(
        self, judged: Iterable[_Judged], claiming: Iterable[_Judged], unused: Iterable[PowerProfile]
    ) -> tuple[Version, ...]:
        """The versions to keep: new ones of what holds, earlier ones of what lost its claim or is
        in a conflict.
        """
        found = {_key(item.obj): item.kept for item in judged if item.kept is not None}
        lost = [item.obj for item in claiming if item.kept is not None] + [
            item for item in unused if covers(item, self.node)
        ]
        for obj in lost:
            if _key(obj) in self.known:
                found.setdefault(_key(obj), self.known[_key(obj)])
        return tuple(found[key] for key in sorted(found))


def _key(obj: Versioned) -> _Key:
    """What an object is known by, in step with the fields of Unreadable."""
    return type(obj).__name__, obj.group, obj.meta.name, obj.meta.uid


def since_text(kept: Version) -> str | None:
    """Since when a version is valid here, in UTC; None where that is not known."""
    if kept.since is None:
        return None
    utc = kept.since - (kept.since.utcoffset() or timedelta())
    return f"{utc:%Y-%m-%dT%H:%M:%SZ}"


def _told(kept: Version) -> str:
    """Which version this is."""
    stamp = since_text(kept)
    since = "valid here before" if stamp is None else f"valid here since {stamp}"
    return f"generation {kept.obj.meta.generation}, {since}" if kept.obj.meta.generation else since


def _with_reason(resolved: ResolvedProfile, told: str) -> ResolvedProfile:
    """A profile whose targets say that they come from an earlier version."""
    if not told:
        return resolved
    by_kind = tuple(
        evolve(
            item,
            # the first is the profile itself
            because=tuple(
                line if line.field or line.setting else line + f", {told}" for line in item.because
            ),
        )
        for item in resolved.by_kind
    )
    return evolve(resolved, by_kind=by_kind)


def _kept_of(
    unreadable: Iterable[Unreadable], known: Mapping[_Key, Version], kind: type
) -> list[Any]:
    """The kept versions of one kind's objects that cannot be read now."""
    return [
        known[key].obj
        for key in map(astuple, unreadable)
        if key in known and type(known[key].obj) is kind
    ]


def _with_unreadable(intent: Intent, known: Mapping[_Key, Version]) -> Intent:
    """The node-wide objects, with those in force that cannot be read now."""
    if not intent.unreadable:
        return intent
    configs, uncores, caps = (
        _kept_of(intent.unreadable, known, kind) for kind in (PowerNodeConfig, Uncore, PowerCap)
    )
    return evolve(
        intent,
        node_configs=(*intent.node_configs, *configs),
        uncores=(*intent.uncores, *uncores),
        caps=(*intent.caps, *caps),
    )


def _by_kind(judged: Iterable[_Judged]) -> dict[str, Any]:
    """The objects in force, as fields of an Intent."""
    kinds = {
        "profiles": PowerProfile,
        "node_configs": PowerNodeConfig,
        "uncores": Uncore,
        "caps": PowerCap,
    }
    return {
        name: tuple(item.obj for item in judged if isinstance(item.obj, kind))
        for name, kind in kinds.items()
    }
