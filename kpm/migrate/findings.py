"""What becomes of the objects of another system: ours, and a word where they mean something else.

Translating is pure: documents in, documents and findings out. Nothing is passed over in silence: an
object that is not translated has a finding.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from attrs import Factory, define, frozen

Content = Mapping[str, Any]
#: Objects of this system, before they are checked.
Made = dict[str, Any]


class Fate(StrEnum):
    """What becomes of something."""

    SAME = "same"
    CHANGED = "changed"
    GONE = "no equivalent"


@frozen(order=True)
class Finding:
    """One word about one thing. object: kind and name, as in the other system; field: its place."""

    object: str
    field: str
    fate: Fate
    text: str


@define
class Migration:
    """What has been translated so far."""

    objects: list[Made] = Factory(list)
    findings: list[Finding] = Factory(list)

    def say(self, obj: str, field: str, fate: Fate, text: str) -> None:
        """A word about something."""
        self.findings.append(Finding(obj, field, fate, text))

    def add(self, made: Made) -> None:
        """An object; one of its kind, group and name is there once."""
        if all(identity(made) != identity(item) for item in self.objects):
            self.objects.append(made)

    def find(self, kind: str, name: str) -> Made | None:
        """An object that has been made."""
        found = (item for item in self.objects if item["kind"] == kind)
        return next((item for item in found if item["metadata"]["name"] == name), None)


def identity(item: Content) -> tuple[str, str, str]:
    """What tells an object from others."""
    return str(item.get("apiVersion")), str(item.get("kind")), name_of(item)


def group_of(item: Content) -> str:
    """The API group of an object, that of the core's with its version."""
    return str(item.get("apiVersion")).partition("/")[0]


def name_of(item: Content) -> str:
    """metadata.name as text."""
    return str(mapping(item.get("metadata")).get("name") or "")


def label_of(item: Content) -> str:
    """Kind and name, as findings have them."""
    return f"{item.get('kind')}/{name_of(item)}"


def mapping(value: object) -> Mapping[str, Any]:
    """A mapping; an empty one for what is none."""
    return value if isinstance(value, Mapping) else {}


def listed(value: object) -> list[Any]:
    """A list; an empty one for what is none."""
    return list(value) if isinstance(value, list | tuple) else []


def made(group: str, kind: str, name: str, namespace: str, spec: Content) -> Made:
    """An object of this system."""
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }


def names(items: Iterable[object]) -> str:
    """Names in a sentence."""
    return ", ".join(map(str, items))


#: Other systems' number for EPP, as drivers know it → the word.
EPP_NUMBERS = {0: "performance", 128: "balance_performance", 192: "balance_power", 255: "power"}


def epp_word(value: object) -> str | None:
    """An EPP as the word that this system has; None where there is none."""
    if isinstance(value, str) and not value.isdigit():
        return value if value in EPP_NUMBERS.values() else None
    return EPP_NUMBERS.get(int(value)) if isinstance(value, int | str) else None
