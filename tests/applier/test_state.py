"""The state file: private, atomic, void when it must be, and never a reason to write on a guess
(A6, A7).
"""

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from kpm_applier.attributes import CPU_ROOT
from kpm_applier.discovery.discover import HostError, discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state import store as state_module
from kpm_applier.state.baseline import HARDWARE_LIMIT, baseline_text, new_group_state, with_baseline
from kpm_applier.state.record import GroupState, State, StateError
from kpm_applier.state.store import VERSION, StateStore, decode, encode
from kpm_planner.model.machine import Machine
from kpm_planner.model.target import Target
from kpm_planner.uncore import UncoreTarget
from tests.applier import rig
from tests.applier.rig import GHZ

REPO = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "data/state-v1.json"
ROOT = "/model"
POWERSAVE = GroupState(
    "intel_pstate",
    ("scaling_governor", "energy_performance_preference", "scaling_min_freq", "scaling_max_freq"),
    ("powersave", "balance_performance", HARDWARE_LIMIT, HARDWARE_LIMIT),
    ("powersave", "power", "1000000", "2000000"),
    ("powersave", "power", "1000000", "1800000"),
)
IDLE = GroupState("intel_idle", ("state0", "state1"), ("0", "1"), ("0", None), ("0", None))
STATE = State(
    {
        "cpufreq:5": POWERSAVE,
        "cpufreq:6": POWERSAVE,
        "cpufreq:9": POWERSAVE,
        "idle:3": IDLE,
        "uncore:package_00_die_00": evolve(IDLE, driver="x"),
        "boost": IDLE,
    },
    None,
)
Damage = Callable[[Path], object]


def store(folder: Path, *, live: bool = False) -> StateStore:
    return StateStore(str(folder), ROOT, live=live)


def saved(folder: Path, state: State = STATE) -> Path:
    """A state file in the folder; its path."""
    where = store(folder)
    where.save(state)
    return Path(where.path)


# --- what it looks like ---


def test_the_file_is_private(tmp_path: Path) -> None:
    """0600 in a folder of 0700, whatever the umask lets through."""
    before = os.umask(0)
    try:
        path = saved(tmp_path / "state")
        locked = store(tmp_path / "state")
        locked.lock()
        locked.unlock()
    finally:
        os.umask(before)
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {
        path.name: 0o600,
        path.with_suffix(".lock").name: 0o600,
    }
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """By another process, which is another StateStore here."""
    saved(tmp_path)
    assert store(tmp_path).load() == STATE


def test_no_file_is_an_empty_state(tmp_path: Path) -> None:
    """Also where the folder does not exist yet; loading creates nothing."""
    assert store(tmp_path / "none").load() == State()
    assert not (tmp_path / "none").exists()


def test_every_root_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Two trees of the same name are two states; /sys has a name that a person finds."""
    paths = {
        StateStore(str(tmp_path), root, live=False).path for root in ("/a/sys", "/b/sys", "/a/sys2")
    }
    assert len(paths) == 3
    assert StateStore(str(tmp_path), "/sys", live=True).path == str(tmp_path / "sys.json")


def test_equal_records_are_stored_once(tmp_path: Path) -> None:
    """256 CPUs of one profile are one record with a CPU list, so that a person can read it."""
    path = saved(tmp_path, State({f"cpufreq:{number}": POWERSAVE for number in range(256)}))
    content = json.loads(path.read_bytes())
    assert [record["groups"] for record in content["records"]] == [["cpufreq:0-255"]]
    assert (content["version"], content["root"]) == (VERSION, ROOT)


def test_a_state_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    """A restart of the agent on a machine that is right touches no disk."""
    path = saved(tmp_path)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    again = store(tmp_path)
    again.save(again.load())
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


# --- round trips ---

_TEXTS = (
    st.none()
    | st.text(max_size=12)
    | st.sampled_from([HARDWARE_LIMIT, "0", "1", "3700000", "performance"])
)
_LABELS = st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=4)
_KEYS = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(["cpufreq", "idle", "x y"]), st.integers(0, 65535)),
    st.sampled_from(["boost", "uncore:package_00_die_00", "uncore:uncore01"]),
)


@st.composite
def records(draw: st.DrawFn) -> GroupState:
    labels = tuple(draw(_LABELS))
    columns = [tuple(draw(_TEXTS) for _ in labels) for _ in range(3)]
    return GroupState(draw(st.text(max_size=12)), labels, *columns)


@given(
    st.builds(
        State, st.dictionaries(_KEYS, records(), max_size=6), st.none() | st.text(max_size=36)
    )
)
def test_decode_undoes_encode(state: State) -> None:
    """Any state comes back as it was, whatever its texts are; the file is ASCII with a newline at
    its end.
    """
    data = encode(state, ROOT)
    assert decode(data, "f") == state
    assert data.isascii()
    assert data.endswith(b"}\n")


@given(st.dictionaries(_KEYS, records(), max_size=6), st.randoms())
def test_the_file_does_not_depend_on_order(
    groups: dict[str, GroupState], shuffle: random.Random
) -> None:
    """Equal states are equal bytes."""
    keys = list(groups)
    shuffle.shuffle(keys)
    assert encode(State({key: groups[key] for key in keys}), ROOT) == encode(State(groups), ROOT)


def test_a_file_from_before_is_still_read() -> None:
    """data/state-v1.json was written by the first release; its format only grows."""
    state = decode(GOLDEN.read_bytes(), str(GOLDEN))
    assert state.boot_id == "6f1c2b9a-7a0e-4f0e-9a55-2f4f6d1f0c11"
    assert set(state.groups) == {
        *(f"cpufreq:{number}" for number in (0, 1, 2, 3, 8)),
        *(f"idle:{number}" for number in range(4)),
        "uncore:package_00_die_00", "uncore:uncore01", "boost",
    }  # fmt: skip
    assert state.groups["cpufreq:8"] == state.groups["cpufreq:0"] == POWERSAVE
    assert state.groups["cpufreq:3"].of("scaling_max_freq") == (HARDWARE_LIMIT, None, None)
    assert state.groups["idle:2"].of("state2") == ("0", "1", "1")
    assert state.groups["uncore:uncore01"].of("max_freq_khz") == ("2200000", "1400000", "1400000")
    assert state.groups["boost"] == GroupState("no_turbo", ("no_turbo",), ("0",), ("1",), ("1",))


def test_a_file_from_before_stays_as_it_is_when_nothing_changes(tmp_path: Path) -> None:
    """An upgrade with unchanged intent does not even touch it (S4); written again, it means
    the same.
    """
    where = store(tmp_path)
    Path(where.path).write_bytes(GOLDEN.read_bytes())
    where.save(where.load())
    state = decode(Path(where.path).read_bytes(), where.path)
    assert state.groups == decode(GOLDEN.read_bytes(), "").groups


def test_fields_of_a_later_minor_are_ignored() -> None:
    """The format grows by addition: what this program does not know is no damage."""
    content = json.loads(encode(STATE, ROOT))
    content["writtenBy"] = "9.9"
    content["records"][0]["note"] = {"a": [1]}
    next(iter(content["records"][0]["files"].values()))["extra"] = True
    assert decode(json.dumps(content).encode(), "f") == STATE


# --- damage: nothing is written ---


def _edited(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(path: Path) -> None:
        content = json.loads(path.read_bytes())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def _first_file(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(record for record in content["records"] if record["files"])[
        "files"
    ]
    return found


def _set_record(name: str, value: object) -> Damage:
    return _edited(lambda content: content["records"][0].update({name: value}))


def _set_value(name: str, value: object) -> Damage:
    return _edited(lambda content: next(iter(_first_file(content).values())).update({name: value}))


def _replace_by(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def _link_to_copy(path: Path) -> None:
    copy = path.with_name("elsewhere")
    path.rename(copy)
    path.symlink_to(copy)


DAMAGES: dict[str, Damage] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "random": lambda path: path.write_bytes(random.Random(7).randbytes(500)),
    "not utf-8": lambda path: path.write_bytes(b'{"version": 1, "bootId": "\xff", "records": []}'),
    "text": lambda path: path.write_text("hello"),
    "null": lambda path: path.write_text("null"),
    "list": lambda path: path.write_text("[]"),
    "number": lambda path: path.write_text("1"),
    "object": lambda path: path.write_text("{}"),
    "deep": lambda path: path.write_text("[" * 200_000),
    "newer": _edited(lambda content: content.update(version=VERSION + 1)),
    "version 0": _edited(lambda content: content.update(version=0)),
    "version text": _edited(lambda content: content.update(version=str(VERSION))),
    "no version": _edited(lambda content: content.pop("version")),
    "no boot id": _edited(lambda content: content.pop("bootId")),
    "boot id number": _edited(lambda content: content.update(bootId=7)),
    "no records": _edited(lambda content: content.pop("records")),
    "records object": _edited(lambda content: content.update(records={"a": 1})),
    "record number": _edited(lambda content: content.update(records=[7])),
    "groups text": _set_record("groups", "cpufreq:0"),
    "groups numbers": _set_record("groups", [0]),
    "groups no list of cpus": _set_record("groups", ["cpufreq:0-"]),
    "groups too large": _set_record("groups", ["cpufreq:0-99999999"]),
    "groups falling": _set_record("groups", ["cpufreq:5-2"]),
    "driver null": _set_record("driver", None),
    "driver object": _set_record("driver", {}),
    "files list": _set_record("files", []),
    "file without baseline": _edited(
        lambda content: next(iter(_first_file(content).values())).pop("baseline")
    ),
    "baseline number": _set_value("baseline", 3700000),
    "baseline object": _set_value("baseline", {}),
    "baseline list": _set_value("baseline", ["1"]),
    "requested flag": _set_value("requested", True),
    "settled object": _set_value("settled", {"a": 1}),
    "a folder": _replace_by(Path.mkdir),
    "a fifo": _replace_by(os.mkfifo),
    "a link": _link_to_copy,
    "a dangling link": _replace_by(lambda path: path.symlink_to("nowhere")),
    "a link in a circle": _replace_by(lambda path: path.symlink_to(path.name)),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_state_file_that_cannot_be_trusted_stops_all_writing(
    tmp_path: Path, damage: Damage
) -> None:
    """A damaged, newer or strange file: StateError in one line that names the file; no write to the
    tree, the file is left for a person to look at.
    """
    model = KernelModel(rig.intel())
    rig.apply_once(
        model,
        str(tmp_path),
        rig.everywhere(model.machine, Target(GHZ, 2 * GHZ, "powersave", "power", (("C6", False),))),
    )
    path = Path(store(tmp_path).path)
    damage(path)
    model.log.clear()
    before = os.lstat(path)
    with pytest.raises(StateError) as caught, rig.applier(model, str(tmp_path)) as handle:
        handle.restore()
    assert model.log == []
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (os.lstat(path).st_ino, os.lstat(path).st_size) == (before.st_ino, before.st_size)


def test_who_meets_a_damaged_file_is_told_what_to_do_with_it() -> None:
    """What is wrong, that nothing has happened, and the way out."""
    with pytest.raises(StateError) as caught:
        decode(b"{}", "/state/file.json")
    assert str(caught.value) == (
        "/state/file.json: the state file is damaged (KeyError); nothing was written to the tree;"
        " move it away to start anew from what the machine shows now"
    )


def test_a_newer_file_names_both_versions(tmp_path: Path) -> None:
    """So that the reader knows it is no damage, and what to do."""
    path = saved(tmp_path)
    DAMAGES["newer"](path)
    with pytest.raises(
        StateError, match=f"version {VERSION + 1}, this program knows {VERSION}.*newer program"
    ):
        store(tmp_path).load()


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_random_damage_is_found_or_harmless(where: int, noise: bytes) -> None:
    """Bytes overwritten anywhere: StateError, or texts for files; never another error, never
    another type.
    """
    data = encode(STATE, ROOT)
    where %= len(data)
    damaged = data[:where] + noise + data[where + len(noise) :]
    try:
        state = decode(damaged, "f")
    except StateError:
        return
    for record in state.groups.values():
        assert isinstance(record.driver, str)
        assert all(
            text is None or isinstance(text, str)
            for column in (record.baseline, record.requested, record.settled)
            for text in column
        )


def test_a_file_that_cannot_be_read_stops_all_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EACCES and EIO alike, at open and while reading."""
    path = saved(tmp_path)
    for number in (errno.EACCES, errno.EIO):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", _failing(os.open, path.name, number))
            with pytest.raises(StateError, match=os.strerror(number)):
                store(tmp_path).load()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", _broken_file)
        with pytest.raises(StateError):
            store(tmp_path).load()


def _broken_file(descriptor: int, *_: object) -> object:
    os.close(descriptor)
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _failing(
    real: Callable[..., int], part: str, number: int, *, writing_only: bool = False
) -> Callable[..., int]:
    def call(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if part in str(path) and (
            not writing_only or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        ):
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, *rest, **more)

    return call


# --- no room, no rights: nothing is written ---


def _apply_without_store(model: KernelModel, folder: Path) -> StateError:
    """Apply where the state cannot be saved; the error, and no write to the tree."""
    with pytest.raises(StateError) as caught, rig.applier(model, str(folder)) as handle:
        handle.apply(rig.everywhere(model.machine, Target(GHZ, 2 * GHZ, "powersave", "power")))
    assert model.log == []
    return caught.value


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_no_room_for_the_state_means_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The error may come from open or only from fsync; the old file stays."""
    path = saved(tmp_path)
    old = path.read_bytes()
    model = KernelModel(rig.intel())
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", _failing(os.open, ".new", number))
        _apply_without_store(model, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fsync_fails(number))
        failure = _apply_without_store(model, tmp_path)
    assert path.read_bytes() == old
    assert ("no space" in str(failure)) is (number in (errno.ENOSPC, errno.EDQUOT))
    assert store(tmp_path).load() == STATE


def test_no_room_for_a_change_means_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the groups are owned already and only the requests are new."""
    model = KernelModel(rig.intel())
    rig.apply_once(
        model,
        str(tmp_path),
        rig.everywhere(model.machine, Target(GHZ, 3 * GHZ, "powersave", "performance")),
    )
    model.log.clear()
    monkeypatch.setattr(os, "fsync", _fsync_fails(errno.ENOSPC))
    failure = _apply_without_store(model, tmp_path)
    assert "no space" in str(failure)


def _fsync_fails(number: int) -> Callable[[int], None]:
    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_state_folder_that_cannot_be_made_means_no_write(tmp_path: Path) -> None:
    """A file stands where the folder should be, or a link in a circle."""
    model = KernelModel(rig.intel())
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for folder in (tmp_path / "file", tmp_path / "file/below", tmp_path / "loop"):
        failure = _apply_without_store(model, folder)
        assert str(folder) in str(failure)


_RUN = """
    import sys
    from kpm_applier.kernel_model.model import KernelModel
    from kpm_applier.state.record import StateError
    from kpm_planner.model.target import Target
    from tests.applier import rig
    model = KernelModel(rig.intel(64))
    plan = rig.plan(model.machine, {
        cpu: Target(1000000 + cpu * 1000, 2000000, "powersave", "power") for cpu in range(64)
    })
    for step in range(2):
        try:
            rig.apply_once(model, sys.argv[1], plan)
            print("applied", len(model.log) > 0)
        except StateError as failure:
            print("refused", len(model.log), failure)
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_size_limit_means_no_write(tmp_path: Path) -> None:
    """RLIMIT_FSIZE in a real process: EFBIG instead of a state, so nothing is written, and the same
    again.
    """
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    result = python(limit + textwrap.dedent(_RUN), str(tmp_path))
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["refused", "0"]] * 2, (
        result.stderr
    )


def _mounts() -> bool:
    try:
        return (
            subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode
            == 0
        )
    except OSError:
        return False


@pytest.mark.skipif(not _mounts(), reason="needs the right to mount")
@pytest.mark.parametrize(
    ("options", "expected"), [("size=4k", "no space"), ("ro", "Read-only file system")]
)
def test_a_full_or_read_only_file_system_means_no_write(
    tmp_path: Path, options: str, expected: str
) -> None:
    """The real thing, in a mount namespace of its own."""
    script = f'mount -t tmpfs -o {options} none "$1" && exec "$0" -c "$2" "$1"'
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        sys.executable,
        str(tmp_path),
        textwrap.dedent(_RUN),
    ]
    result = subprocess.run(
        command, cwd=REPO, capture_output=True, text=True, timeout=60, check=False
    )
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["refused", "0"]] * 2, result.stderr
    assert all(expected in line for line in lines)


def test_room_that_ends_after_the_writes_is_said_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first save (baselines) fits, the second (requests) does not: the tree has been written,
    so nobody may say it has not; and nothing is lost (A6).
    """
    model = KernelModel(rig.intel())
    before = rig.shown(KernelModel(rig.intel()))
    wanted = rig.everywhere(model.machine, Target(GHZ, 2 * GHZ, "powersave", "power"))
    with rig.applier(model, str(tmp_path)) as handle:
        with monkeypatch.context() as patch:
            # one of the file, one of the folder
            patch.setattr(os, "fsync", _after(2, os.fsync, errno.ENOSPC))
            said = _state_error(lambda: handle.apply(wanted))
        assert not model.log or "nothing was written" not in said
        handle.apply(wanted)
    assert rig.shown(model).items() >= rig.texts(wanted, model.machine).items()
    rig.restore_once(model, str(tmp_path))
    assert rig.shown(model) == before
    assert rig.owned(str(tmp_path)) == set()


def _state_error(action: Callable[[], object]) -> str:
    try:
        action()
    except StateError as failure:
        return str(failure)
    return ""


def _after(calls: int, real: Callable[[int], None], number: int) -> Callable[[int], None]:
    left = [calls]

    def call(descriptor: int) -> None:
        if left[0] <= 0:
            raise OSError(number, os.strerror(number))
        left[0] -= 1
        real(descriptor)

    return call


# --- atomic ---

_STEPS = """
    import os, sys
    from kpm_applier.state.store import StateStore
    from kpm_applier.state.record import GroupState, State
    folder, step = sys.argv[1], int(sys.argv[2])
    count = 0
    def counted(real):
        def call(*arguments, **more):
            global count
            count += 1
            if count == step:
                os.kill(os.getpid(), 9)
            return real(*arguments, **more)
        return call
    store = StateStore(folder, "/model", live=False)
    for name in ("open", "fsync", "rename", "replace"):
        setattr(os, name, counted(getattr(os, name)))
    store.save(State({"boost": GroupState("boost", ("boost",), ("1",), ("0",), ("0",))}))
    print("saved")
"""


def test_kill_at_any_step_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    """kill -9 before each system call of a save: the file is whole, and one of the two states; the
    next save works.
    """
    new = State({"boost": GroupState("boost", ("boost",), ("1",), ("0",), ("0",))})
    seen = []
    for step in range(1, 12):
        saved(tmp_path)
        result = python(_STEPS, str(tmp_path), str(step))
        state = store(tmp_path).load()
        assert state in (STATE, new)
        seen.append(state == new)
        if result.stdout == "saved\n":
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (False, True)
    saved(tmp_path)
    assert store(tmp_path).load() == STATE


def test_what_a_crash_left_beside_the_file_is_no_hindrance(tmp_path: Path) -> None:
    """A temporary file of a killed process, even one that looks like a state, is overwritten and
    never read.
    """
    path = saved(tmp_path)
    Path(f"{path}.new").write_bytes(b"garbage" * 1000)
    assert store(tmp_path).load() == STATE
    saved(tmp_path, State())
    assert store(tmp_path).load() == State()


def test_a_link_beside_the_file_is_not_written_through(tmp_path: Path) -> None:
    """Nobody can point our write at a file of theirs."""
    target = tmp_path / "target"
    target.write_text("precious")
    where = store(tmp_path / "state")
    (tmp_path / "state").mkdir()
    Path(f"{where.path}.new").symlink_to(target)
    try:
        where.save(STATE)
    except StateError:
        assert not Path(where.path).exists()
    assert target.read_text() == "precious"


# --- lost, another boot, another driver ---


def test_a_lost_file_means_baseline_is_what_is_shown_now(tmp_path: Path) -> None:
    """Nothing better is known; restoring gives what was there when the file was gone."""
    model = KernelModel(rig.intel())
    rig.apply_once(
        model,
        str(tmp_path),
        rig.everywhere(model.machine, Target(GHZ, 2 * GHZ, "powersave", "power")),
    )
    shown = rig.shown(model)
    Path(store(tmp_path).path).unlink()
    rig.apply_once(
        model,
        str(tmp_path),
        rig.everywhere(model.machine, Target(2 * GHZ, 3 * GHZ, "powersave", "performance")),
    )
    assert rig.shown(model) != shown
    rig.restore_once(model, str(tmp_path))
    assert rig.shown(model) == shown


@pytest.fixture
def boot_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "boot_id"
    file.write_text("aaaa\n")
    monkeypatch.setattr(state_module, "boot_id", lambda: file.read_text().strip())
    return file


def test_another_boot_makes_the_state_void(tmp_path: Path, boot_id: Path) -> None:
    """On the live /sys: after a reboot the kernel has started from its own values, and those are
    the baseline.
    """
    folder = tmp_path / "state"
    where = store(folder, live=True)
    where.save(State(STATE.groups, where.load().boot_id))
    assert store(folder, live=True).load().groups == STATE.groups
    boot_id.write_text("bbbb\n")
    assert store(folder, live=True).load() == State(boot_id="bbbb")


def test_another_boot_means_nothing_to_a_copy(tmp_path: Path, boot_id: Path) -> None:
    """A tree in a folder outlives a reboot, so its state does too."""
    saved(tmp_path / "state")
    boot_id.write_text("bbbb\n")
    assert store(tmp_path / "state").load().groups == STATE.groups


def test_after_a_reboot_the_machine_is_touched_anew(tmp_path: Path, boot_id: Path) -> None:
    """Apply, reboot, apply: the baseline is what the new boot showed, not what the old one did."""
    model = KernelModel(rig.intel())
    target = rig.everywhere(model.machine, Target(GHZ, 2 * GHZ, "powersave", "power"))
    _live_apply(model, tmp_path / "state", target)
    boot_id.write_text("bbbb\n")
    fresh = KernelModel(
        rig.machine(
            [
                rig.domain(number, settings=(900_000, 3 * GHZ, "performance", "performance"))
                for number in range(2)
            ],
            status="active",
        )
    )
    before = rig.shown(fresh)
    _live_apply(fresh, tmp_path / "state", target)
    assert rig.shown(fresh) != before
    handle = Applier(fresh, StateStore(str(tmp_path / "state"), "/sys", live=True))
    handle.open()
    handle.restore()
    handle.close()
    assert rig.shown(fresh) == before


def _live_apply(model: KernelModel, folder: Path, wanted: Any) -> None:
    handle = Applier(model, StateStore(str(folder), "/sys", live=True))
    handle.open()
    handle.apply(wanted)
    handle.close()


def test_another_driver_makes_its_groups_void_and_no_others(tmp_path: Path) -> None:
    """The values of one driver are no baseline under another; idle states are not the driver's."""
    model = KernelModel(rig.amd())
    rig.apply_once(
        model,
        str(tmp_path),
        rig.everywhere(model.machine, Target(GHZ, 2 * GHZ, "powersave", "power", (("C6", False),))),
    )
    other = KernelModel(
        rig.machine(
            [rig.domain(number, driver="amd-pstate") for number in range(2)], status="passive"
        )
    )
    with rig.applier(other, str(tmp_path)) as handle:
        assert set(handle.state.groups) == {"idle:0", "idle:1"}
        handle.restore()
    assert rig.shown(other) == rig.shown(KernelModel(other.machine))
    assert {path.rpartition("/")[2] for path, _ in other.log} <= {"disable"}


# --- one writer ---

_HOLD = """
    import sys, time
    from kpm_applier.state.store import StateStore
    store = StateStore(sys.argv[1], "/model", live=False)
    store.lock()
    print("locked", flush=True)
    time.sleep(60)
"""


def test_one_writer_a_root(tmp_path: Path) -> None:
    """A second one learns who the first is; kill -9 frees the lock; the second then works."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_HOLD), str(tmp_path)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "locked\n"
            model = KernelModel(rig.intel())
            failure = _apply_without_store(model, tmp_path)
            assert str(holder.pid) in str(failure)
            other_root = StateStore(str(tmp_path), "/another", live=False)
            other_root.lock()
            other_root.unlock()
        finally:
            holder.kill()
            holder.wait()
    rig.apply_once(model, str(tmp_path), rig.everywhere(model.machine, Target(GHZ, 2 * GHZ)))
    assert model.log


def test_the_loser_of_the_lock_does_not_take_it_down(tmp_path: Path) -> None:
    """Having failed, it holds nothing open, and the holder keeps what it has."""
    first, second = store(tmp_path), store(tmp_path)
    first.lock()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StateError, match=f"process {os.getpid()}"):
            second.lock()
        second.unlock()
    assert len(os.listdir("/proc/self/fd")) == before
    first.unlock()
    second.lock()
    second.unlock()


def test_looking_needs_no_lock(tmp_path: Path) -> None:
    """diff and discover work beside a running agent."""
    model = KernelModel(rig.intel())
    with rig.applier(model, str(tmp_path)):
        reader = Applier(model, store(tmp_path))
        reader.open(writing=False)
        assert reader.preview(rig.everywhere(model.machine, Target(GHZ, 2 * GHZ)))
        reader.close()


# --- baselines ---


def test_a_limit_at_the_hardware_limit_is_stored_as_such() -> None:
    """Minimum and maximum each, and only where they are equal; a governor never."""
    for low, high, expected in (
        (800_000, 4_000_000, (HARDWARE_LIMIT, HARDWARE_LIMIT)),
        (900_000, 4_000_000, ("900000", HARDWARE_LIMIT)),
        (800_000, 3_900_000, (HARDWARE_LIMIT, "3900000")),
        (800_000, 800_000, (HARDWARE_LIMIT, "800000")),
    ):
        found = discover(
            KernelModel(rig.machine([rig.domain(settings=(low, high, None, None))], idle=()))
        )
        record = new_group_state(found.groups[0], found.observed.values)
        assert record.baseline[2:] == expected
        assert record.baseline[:2] == ("powersave", "balance_performance")
        assert (record.requested, record.settled) == ((None,) * 4, (None,) * 4)
        assert [
            baseline_text(found.groups[0], record, item.label) for item in found.groups[0].files[2:]
        ] == [str(low), str(high)]


def test_a_hardware_limit_is_restored_as_the_present_one(tmp_path: Path) -> None:
    """Unlimited before, boost changed meanwhile: unlimited again means the maximum of now
    (field report 51).
    """
    start = rig.machine([rig.domain(0, driver="cppc_cpufreq", high=2_500_000)], boost=False)
    model = KernelModel(start, boosted={0: 2_956_522}, unboosted={0: 2_500_000})
    rig.apply_once(model, str(tmp_path), rig.everywhere(start, Target(GHZ, 2 * GHZ)))
    rig.foreign_write(model, f"{CPU_ROOT}/cpufreq/boost", "1")
    rig.restore_once(model, str(tmp_path))
    assert rig.shown(model)[rig.max_path()] == "2956522"
    assert rig.shown(model)[rig.min_path()] == "800000"


def test_the_machine_for_the_planner_shows_baselines(tmp_path: Path) -> None:
    """What owned groups hold is ours; the planner is told what was there before."""
    entry = rig.package_entry(low=900_000, high=2_000_000)
    start = rig.machine(
        [rig.domain(settings=(900_000, 3 * GHZ, "powersave", "power"))],
        uncore=(entry,),
        status="active",
    )
    model = KernelModel(start)
    wanted = rig.plan(
        start,
        {0: Target(GHZ, 2 * GHZ, "performance", "performance", (("C6", False), ("POLL", False)))},
        uncore=[UncoreTarget(entry, GHZ, GHZ)],
    )
    rig.apply_once(model, str(tmp_path), wanted)
    with rig.applier(model, str(tmp_path)) as handle:
        assert handle.machine == start
        assert discover(model).machine != start
        assert (
            with_baseline(discover(model).machine, (), handle.state, {}) == discover(model).machine
        )


@pytest.mark.parametrize("driver", ["intel_pstate", "cppc_cpufreq"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_the_machine_for_the_planner_tells_what_turbo_was_before_us(
    tmp_path: Path, driver: str, before: bool, wanted: bool
) -> None:
    """Whichever way the switch counts: no_turbo or boost.

    Before it is ours, and once it is given back, there is nothing to tell.
    """
    found = rig.machine(
        [rig.domain(driver=driver, high=4 * GHZ if before else 3 * GHZ)], boost=before, idle=()
    )
    model = KernelModel(found, boosted={0: 4 * GHZ}, unboosted={0: 3 * GHZ})
    with rig.applier(model, str(tmp_path)) as handle:
        assert handle.machine.boost_before is None
        handle.apply(rig.plan(found, {}, boost=wanted))
    with rig.applier(model, str(tmp_path)) as handle:
        assert (handle.machine.boost, handle.machine.boost_before) == (wanted, before)
        assert handle.shown.boost_before is None
        handle.restore()
    with rig.applier(model, str(tmp_path)) as handle:
        assert (handle.machine.boost, handle.machine.boost_before) == (before, None)


@pytest.mark.parametrize(
    ("file", "texts", "before"),
    [
        ("boost", ["1"], True),
        ("boost", ["0"], False),
        ("no_turbo", ["1"], False),
        ("no_turbo", ["0"], True),
        ("boost", ["0", "0"], False),
        ("boost", ["0", "1"], True),
        ("boost", ["1", "1"], True),
    ],
)
def test_turbo_before_us_is_read_off_the_records_of_its_switches(
    file: str, texts: list[str], before: bool
) -> None:
    """Where each policy has one, turbo was on if any of them was."""
    found = discover(KernelModel(rig.intel(1))).machine
    records = {
        f"boost:{number}": GroupState(file, (file,), (text,), ("1",), ("1",))
        for number, text in enumerate(texts)
    }
    assert with_baseline(found, (), State(records), {}).boost_before is before
    assert with_baseline(found, (), State(), {}).boost_before is None


def test_an_unknown_baseline_is_none(tmp_path: Path) -> None:
    """A limit stored as the hardware's where the hardware does not say:
    nothing is known to write.
    """
    found = discover(KernelModel(rig.intel(1)))
    record = new_group_state(found.groups[0], found.observed.values)
    assert baseline_text(evolve(found.groups[0], hardware=None), record, "scaling_max_freq") is None
    assert baseline_text(found.groups[0], record, "no such file") is None


def test_a_restore_reports_what_it_released(tmp_path: Path) -> None:
    """Everything is back, so there is nothing odd to say about any file."""
    model = KernelModel(rig.intel(1))
    rig.apply_once(
        model,
        str(tmp_path),
        rig.everywhere(model.machine, Target(GHZ, 2 * GHZ, "powersave", "power", (("C6", False),))),
    )
    report = rig.restore_once(model, str(tmp_path))
    assert report.outcomes == ()
    assert report.settled
    assert set(report.released) == {"cpufreq:0", "idle:0"}


def test_a_restore_finds_what_came_back_since_the_machine_was_read(tmp_path: Path) -> None:
    """It may be the last thing that a process does, and nobody told it of the CPU."""
    model = KernelModel(rig.intel(4))
    before = rig.shown(model)
    with rig.applier(model, str(tmp_path)) as handle:
        handle.apply(rig.everywhere(model.machine, Target(2 * GHZ, 3 * GHZ, "powersave")))
        model.plug(3, online=False)
        handle.discover()
        model.plug(3, online=True)
        report = handle.restore()
        assert report.settled
        assert not handle.state.groups
    assert rig.shown(model) == before


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ENODEV, errno.EBUSY])
@pytest.mark.parametrize(
    "found", [rig.intel(3), rig.amd(3), rig.arm()], ids=["intel", "amd", "arm"]
)
def test_whatever_read_fails_a_cpu_that_comes_later_is_noticed(
    tmp_path: Path, found: Machine, number: int
) -> None:
    """Each read of a look at the machine fails once, those of the files too by which a change is
    noticed: the next look that is due finds what has come, or the first one says that it failed.
    """
    model = KernelModel(found)
    model.plug(1, online=False)
    eyes = rig.Probe(model)
    discover(eyes)
    for turn in range(sum(eyes.reads.values())):
        model.plug(1, online=False)
        probe = rig.Probe(model, deny=_the_one(turn, number))
        with suppress(HostError), rig.applier(probe, str(tmp_path)) as handle:
            model.plug(1, online=True)
            model.wait(1000.0)
            if handle.changed():
                handle.discover()
            assert handle.machine.online == found.online, f"read {turn} failed"


def _the_one(turn: int, number: int) -> Callable[[str, str], int | None]:
    """Lets the read with this number fail, from 0."""
    reads = iter(range(1_000_000))
    return lambda verb, _path: number if verb == "read" and next(reads) == turn else None


def test_the_epp_of_a_domain_that_had_governor_performance_is_not_given_another(
    tmp_path: Path,
) -> None:
    """What its driver shows under our governor, after it forgot ours, was never there before."""
    model = KernelModel(rig.amd(2))
    for number in (0, 1):
        rig.foreign_write(model, rig.governor_path(number), "performance")
    before = rig.shown(model)
    probe = rig.Probe(model, deny=lambda verb, path: errno.EIO if path == rig.epp_path(1) else None)
    with rig.applier(probe, str(tmp_path)) as handle:
        handle.apply(rig.everywhere(model.machine, Target(governor="powersave")))
        probe.deny = lambda _verb, _path: None
        for online in (False, True):
            model.plug(1, online=online)
        model.wait(1000.0)
        report = handle.restore()
        assert report.settled, report.outcomes
        assert not handle.state.groups
    assert rig.shown(model) == before
