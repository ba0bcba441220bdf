"""All of it: which translator an object goes to, and whether what comes out is valid here."""

from typing import Any

from kpm.formats.wire import KINDS, WireError, structure_object
from kpm.migrate import balloons, capping, operators, performance, tuned
from kpm.migrate.findings import Fate, Migration, label_of
from kpm.migrate.sources import Sources
from kpm_planner.model.objects import Intent
from kpm_planner.model.problems import Severity
from kpm_planner.validate import validate_intent


def migrate(sources: Sources) -> Migration:
    """Our objects and a finding for everything that is not the same."""
    out = Migration()
    objects: list[Any] = list(sources.objects)
    operators.translate([item for item in objects if operators.is_earlier(item)], out)
    for item in objects:
        if capping.environment(item) is not None:
            capping.translate(item, out)
        elif tuned.is_tuned(item):
            tuned.translate_object(item, out)
        elif balloons.is_policy(item):
            balloons.translate(item, out)
        elif performance.is_profile(item):
            performance.translate(item, out)
    for name, text in sources.profiles:
        tuned.translate(name, text, out)
    performance.accept_annotations(objects, out)
    _check(out)
    return out


def _check(out: Migration) -> None:
    """What of the new objects this system would not take, as findings."""
    found: dict[type, list[Any]] = {kind: [] for kind in KINDS.values()}
    for item in out.objects:
        try:
            obj = structure_object(item)
        except WireError as failure:
            out.say(label_of(item), "", Fate.GONE, f"is not valid here: {failure}")
            continue
        found[type(obj)].append(obj)
    order = (
        "PowerProfile",
        "PowerWorkload",
        "PowerNodeConfig",
        "Uncore",
        "PowerConfig",
        "PowerCap",
    )
    intent = Intent(*(tuple(found[KINDS[name]]) for name in order))
    for problem in validate_intent(intent):
        if problem.severity is Severity.ERROR:
            out.say(
                problem.object, problem.field, Fate.GONE, f"is not valid here: {problem.message}"
            )
