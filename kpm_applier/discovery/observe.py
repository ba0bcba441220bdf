"""What managed files show: read, compared with what is expected, and kept beside what was seen."""

import errno
from collections.abc import Iterable, Mapping, Sequence

from kpm_applier.attributes import Group
from kpm_applier.sysfs.host import Host
from kpm_planner.model.changes import Observed


def observe(host: Host, groups: Iterable[Group], *, disturbing: bool = True) -> Observed:
    """What the managed files of these groups show. disturbing: also those whose reading interrupts
    a CPU (rule A1).
    """
    return observe_files(
        host,
        [
            item.path
            for group in groups
            for item in group.files
            if disturbing or group.driver not in item.attribute.disturbed_by
        ],
    )


def observe_files(host: Host, paths: Sequence[str]) -> Observed:
    """What these files show."""
    return _taken_apart(dict(zip(paths, host.read_all(paths), strict=True)))


def observe_expected(
    host: Host, paths: Sequence[str], texts: Sequence[str | None]
) -> tuple[Observed, bool]:
    """What these files show, which is probably the texts beside them, and whether all do: only the
    others are taken apart.
    """
    encoded = {text: b"" if text is None else f"{text}\n".encode() for text in set(texts)}
    differing = host.differing(paths, [encoded[text] for text in texts])
    shown = dict(zip(paths, texts, strict=True))
    if not differing:
        if None not in encoded:
            return Observed({**shown}), True  # type: ignore[dict-item]
        return Observed({path: text for path, text in shown.items() if text is not None}), True
    found = _taken_apart(differing)
    values = {
        path: found.values.get(path, text)
        for path, text in shown.items()
        if path not in found.errors
    }
    return (
        Observed({path: text for path, text in values.items() if text is not None}, found.errors),
        False,
    )


def _taken_apart(contents: Mapping[str, bytes | OSError]) -> Observed:
    texts = {
        path: content.decode("ascii", "replace").strip()
        for path, content in contents.items()
        if not isinstance(content, OSError)
    }
    errors = {
        path: failure.errno or errno.EIO
        for path, failure in contents.items()
        if isinstance(failure, OSError)
    }
    # an empty file has no value
    errors |= {path: errno.ENODATA for path, text in texts.items() if not text}
    return Observed({path: text for path, text in texts.items() if text}, errors)


def merged(first: Observed, later: Observed) -> Observed:
    """The first observation with what a later one saw in its place."""
    values = {**first.values, **later.values}
    errors = {**first.errors, **later.errors} if first.errors or later.errors else {}
    for path in later.errors:
        values.pop(path, None)
    for path in later.values.keys() & errors.keys():
        del errors[path]
    return Observed(values, errors)
