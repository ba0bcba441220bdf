"""Which CPUs are together in a pool, under which profile, and why."""

from collections.abc import Mapping
from enum import StrEnum

from attrs import frozen

from kpm_planner.model.allocation import ContainerRef
from kpm_planner.model.problems import Problem
from kpm_planner.model.target import ResolvedProfile
from kpm_planner.model.why import Why


class Pool(StrEnum):
    """Why a CPU has its target."""

    EXCLUSIVE = "exclusive"
    RESERVED = "reserved"
    SHARED = "shared"
    UNMANAGED = "unmanaged"
    OFFLINE = "offline"


@frozen
class Assignment:
    """CPUs of one pool with one reason. profile: None for baseline; held: not to be written until
    more is known.

    maker: Kind/name of the object that made the pool, "" where none did.
    """

    cpus: frozenset[int]
    pool: Pool
    profile: ResolvedProfile | None = None
    profile_name: str | None = None
    container: ContainerRef | None = None
    held: bool = False
    because: tuple[Why, ...] = ()
    maker: str = ""


Profiles = Mapping[str, ResolvedProfile]


@frozen
class Pools:
    """The assignments, disjoint and together all present CPUs, and the problems met."""

    assignments: tuple[Assignment, ...]
    problems: tuple[Problem, ...]
