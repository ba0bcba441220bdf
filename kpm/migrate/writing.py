"""The folder that a migration leaves: the backup first, then objects, report and steps."""

import json
import os
from collections.abc import Iterator, Sequence

import yaml

from kpm.migrate.findings import Fate, Finding, Migration
from kpm.migrate.sources import Sources
from kpm.process.errors import InputError, one_line

#: Of `kpm migrate -o json`.
VERSION = 1
_FATES = {
    Fate.GONE: "Without an equivalent",
    Fate.CHANGED: "Means something else here",
    Fate.SAME: "Means the same, written otherwise",
}


def write(folder: str, sources: Sources, out: Migration, rivals: Sequence[Finding]) -> list[str]:
    """Names of what was written; the backup is whole before anything else begins.

    Errors: InputError where the folder cannot be written, or holds a migration already.
    """
    objects = {"apiVersion": "v1", "kind": "List", "items": list(sources.objects)}
    files = {"backup/objects.json": json.dumps(objects, indent=1) + "\n"}
    for name, text in sources.profiles:
        files[f"backup/tuned-{name.replace(os.sep, '_')}.conf"] = text
    files["objects.yaml"] = yaml.safe_dump_all(out.objects, sort_keys=False)
    files["report.md"] = "\n".join(report(out)) + "\n"
    files["steps.md"] = "\n".join(steps(rivals)) + "\n"
    try:
        os.makedirs(os.path.join(folder, "backup"))
        for name, text in files.items():
            with open(os.path.join(folder, name), "x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
    except FileExistsError as failure:
        found = one_line(failure.filename)
        raise InputError(f"{found}: is there already; name a new folder") from None
    except OSError as failure:
        raise InputError(f"{one_line(folder)}: cannot write: {failure.strerror}") from None
    return list(files)


def report(out: Migration) -> Iterator[str]:
    """What becomes of everything, for people."""
    yield "# What becomes of what was there"
    yield ""
    kinds = sorted({str(item["kind"]) for item in out.objects})
    counts = [f"{sum(item['kind'] == kind for item in out.objects)} {kind}" for kind in kinds]
    yield f"Written to objects.yaml: {', '.join(counts) or 'nothing'}."
    for fate, title in _FATES.items():
        found = sorted({item for item in out.findings if item.fate is fate})
        if found:
            yield ""
            yield f"## {title}"
            yield ""
            for item in found:
                place = f" {item.field}" if item.field else ""
                yield f"- `{one_line(item.object)}`{one_line(place)}: {one_line(item.text)}"


def steps(rivals: Sequence[Finding]) -> Iterator[str]:
    """The order of steps, each with its check, and the way back."""
    yield "# Steps"
    yield ""
    yield "1. The backup is `backup/`. Check: `kpm migrate -f backup/objects.json` says the same."
    yield "2. `kpm validate -f objects.yaml`, and for a node `kpm discover -o json` there and"
    yield "   `kpm plan -f objects.yaml --machine FILE`. Check: exit status 0, and the frequencies"
    yield "   are those that you know."
    yield "3. End what writes the same files; leave definitions and objects where they are:"
    if rivals:
        for item in rivals:
            yield f"   - `{one_line(item.object)}`: {one_line(item.text)}"
    else:
        yield "   - nothing of that kind was seen in what was given."
    yield "   Check: `kpm migrate --check` in the cluster, exit status 0."
    yield "4. What the earlier agents wrote last is what ours find, and later restore: where that"
    yield "   is not wanted, reboot the node before its first agent of this system runs."
    yield "5. Install the definitions over the old ones and the system beside them:"
    yield "   `kubectl apply --server-side --force-conflicts -k crds`, then `make deploy` or the"
    yield "   chart. Check: `kpm status`, which names the operator."
    yield "6. `kubectl apply -f objects.yaml`. Check: `kpm status --wait 5m`, exit status 0; the"
    yield "   files of a node hold what they held where nothing is said to mean something else."
    yield "7. Delete what is left of the old system: generated PowerWorkloads without the label"
    yield "   power.kpm.dev/generated, and kinds that are not here."
    yield ""
    yield "Back: `kpm leave`, then the old system's own manifests, then `kubectl apply -f"
    yield "backup/objects.json`."


def document(out: Migration, rivals: Sequence[Finding]) -> dict[str, object]:
    """The same as JSON has it."""

    def view(item: Finding) -> dict[str, str]:
        return {
            "object": item.object,
            "field": item.field,
            "fate": item.fate.value,
            "text": item.text,
        }

    return {
        "version": VERSION,
        "objects": out.objects,
        "findings": [view(item) for item in sorted(set(out.findings))],
        "rivals": [view(item) for item in rivals],
    }
