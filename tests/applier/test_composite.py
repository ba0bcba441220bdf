"""Files and mailbox as one host: each path is answered by its own part, in the order of asking."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.sysfs.composite import Composite
from kpm_applier.sysfs.tree import SysfsHost
from tests.applier.test_hsmp import made, mailbox

PSTATE, LIMIT = "hsmp/socket0/df_pstate", "hsmp/socket0/power_limit_mw"
FILES = {"devices/a": b"1\n", "devices/b": b"22\n"}
PATHS = (*FILES, PSTATE, LIMIT, "devices/none", "hsmp/socket9/df_pstate")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composite]:
    folder = tmp_path_factory.mktemp("composite")
    (folder / "sys/devices").mkdir(parents=True)
    for path, content in FILES.items():
        (folder / "sys" / path).write_bytes(content)
    host = Composite(SysfsHost(str(folder / "sys")), mailbox(made(folder)))
    yield host
    host.forget()


def told(answer: bytes | OSError) -> bytes | int:
    return answer.errno or 0 if isinstance(answer, OSError) else answer


def one(host: Composite, path: str) -> bytes | int:
    try:
        return host.read(path)
    except OSError as failure:
        return failure.errno or 0


@given(paths=st.lists(st.sampled_from(PATHS), unique=True))
def test_many_are_read_as_each_alone(both: Composite, paths: list[str]) -> None:
    assert [told(answer) for answer in both.read_all(paths)] == [one(both, path) for path in paths]


@given(paths=st.lists(st.sampled_from(PATHS), unique=True), right=st.sets(st.sampled_from(PATHS)))
def test_those_that_differ_are_those_that_do_not_hold_what_is_expected(
    both: Composite, paths: list[str], right: set[str]
) -> None:
    """A path that cannot be read differs always."""
    now = {path: one(both, path) for path in paths}
    expected = [
        content if path in right and isinstance(content, bytes) else b"other\n"
        for path, content in now.items()
    ]
    found = both.differing(paths, expected)
    assert {path: told(answer) for path, answer in found.items()} == {
        path: content
        for (path, content), wanted in zip(now.items(), expected, strict=True)
        if content != wanted
    }


def test_writes_go_to_their_part_in_order(both: Composite) -> None:
    """A failure costs its own file."""
    failures = both.write_all(
        [("devices/a", b"5\n"), (PSTATE, b"1\n"), (LIMIT, b"x\n"), ("devices/b", b"6\n")]
    )
    assert {path: failure.errno for path, failure in failures.items()} == {LIMIT: errno.EINVAL}
    assert (both.read("devices/a"), both.read(PSTATE), both.read("devices/b")) == (
        b"5\n",
        b"1\n",
        b"6\n",
    )
    both.write_all([("devices/a", b"1\n"), ("devices/b", b"22\n"), (PSTATE, b"auto\n")])


def test_a_watch_sees_both_parts(both: Composite) -> None:
    both.keep(("devices/a", PSTATE))
    watch = both.watch({"devices/a": b"1\n", PSTATE: b"auto\n"})
    assert watch.same()
    both.write(PSTATE, b"2\n")
    assert not watch.same()
    both.write(PSTATE, b"auto\n")
    assert watch.same()
    both.write("devices/a", b"9\n")
    assert not watch.same()
    both.write("devices/a", b"1\n")


def test_names_and_the_rest(both: Composite, tmp_path: Path) -> None:
    """The mailbox is a folder beside those of the tree; a tree that is none is no live /sys."""
    assert both.list("devices") == ("a", "b")
    assert both.list("hsmp") == ("socket0",)
    assert both.refuses_writing("devices/a") == 0
    assert both.refuses_writing(PSTATE) == 0
    assert both.live is False
    assert both.now() <= both.now()
