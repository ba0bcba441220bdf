"""What the applier's small parts promise where a file, a folder or a device is not as usual: one
failure, told with its errno, and nothing kept of it.
"""

import errno
import os
import platform
import resource
import stat
from pathlib import Path

import pytest
from attrs import define

from kpm_applier.discovery.discover import discover
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.measure.cgroups import Cgroups, Layout, cpuset_layout
from kpm_applier.measure.counters import CounterFiles
from kpm_applier.measure.power import PowerMeter
from kpm_applier.session import Applier
from kpm_applier.speed import SpeedWriter
from kpm_applier.state.files import read_plain, remove_durably, write_durably
from kpm_applier.state.store import StateStore
from kpm_applier.sysfs.boundary import CALL, RESULT
from kpm_applier.sysfs.descriptors import Descriptors, raise_limit
from kpm_applier.sysfs.host import read_text
from kpm_applier.sysfs.mailbox import GET_POWER, Device
from kpm_applier.sysfs.reader import Reader
from kpm_applier.sysfs.remote import Helper
from kpm_planner.model.machine import PowerZone
from kpm_planner.model.target import Target
from tests.applier import rig
from tests.applier.rig import GHZ, Probe

# --- files ---


def test_a_file_of_the_state_is_a_plain_one_of_bounded_size(tmp_path: Path) -> None:
    """A pipe or a folder in its place and one that is too large are told by errno, not read, and
    nothing of them stays open.
    """
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_plain(str(path), 5) == b"12345"
    with pytest.raises(OSError, match="too large") as failure:
        read_plain(str(path), 4)
    assert failure.value.errno == errno.EFBIG
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a plain file") as failure:
        read_plain(str(tmp_path / "pipe"), 5)
    assert failure.value.errno == errno.EINVAL
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            read_plain(str(tmp_path), 5)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_is_written_and_removed_leaves_nothing(tmp_path: Path) -> None:
    """Its folder is made, for this user alone; removing what is not there is no failure."""
    path = tmp_path / "new" / "file"
    write_durably(str(path), b"old")
    write_durably(str(path), b"new")
    assert [(item.name, item.read_bytes()) for item in path.parent.iterdir()] == [("file", b"new")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    remove_durably(str(path))
    remove_durably(str(path))
    assert list(path.parent.iterdir()) == []


def test_a_file_that_cannot_be_read_has_no_text() -> None:
    """Any other has one without blanks around it."""
    model = KernelModel(rig.intel(1))
    assert read_text(model, rig.governor_path()) == "powersave"
    assert read_text(model, rig.governor_path(7)) is None


@pytest.mark.parametrize(("number", "told"), [(errno.EACCES, errno.EACCES), (None, errno.EIO)])
def test_a_managed_file_that_cannot_be_read_has_an_errno(number: int | None, told: int) -> None:
    """Where the failure names none it is EIO, which may pass."""

    class Odd(Probe):
        """A host whose failures may have no number."""

        def read(self, path: str) -> bytes:
            raise OSError("odd") if number is None else OSError(number, "odd", path)

    reader = Reader(Odd(KernelModel(rig.intel(1))), {}, {})
    assert (reader.managed("a"), reader.text("b")) == (None, None)
    assert reader.errors == {"a": told}
    assert reader.troubles == [("a", told), ("b", told)]


def test_counters_are_read_below_a_folder_only(tmp_path: Path) -> None:
    """A root that is a plain file is none."""
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        CounterFiles(str(tmp_path / "file"))


# --- descriptors ---


def test_a_part_keeps_no_more_than_its_share_and_gives_back_what_it_closed() -> None:
    """Nor can it give back more than it took."""
    kept = Descriptors()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard - min(512, hard // 2)
    assert kept.take("a", 1 / most)
    assert not kept.take("a", 1 / most)
    kept.give("a", 9)
    assert kept.kept == 0
    assert kept.take("b", 1 / most)
    assert not kept.take("b", 1 / most)
    assert kept.kept == 1


def test_the_soft_limit_of_open_files_is_raised_once() -> None:
    """Then both are the same, and nothing changes."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
        assert raise_limit() == (before[1] - 1, before[1])
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        assert raise_limit() == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- cgroups ---


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (("cpuset/cpuset.cpus",), Layout(1, "cpuset", "cpuset.effective_cpus")),
        (("cgroup.controllers",), Layout(2, "", "cpuset.cpus.effective")),
        (("unified/cgroup.controllers",), None),
        ((), None),
    ],
)
def test_where_the_cpus_of_cgroups_are(
    tmp_path: Path, files: tuple[str, ...], layout: Layout | None
) -> None:
    """Of both versions; a node with the second one beside the first has them in the first."""
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert cpuset_layout(CounterFiles(str(tmp_path))) == layout


def test_the_cpus_of_a_cgroup_that_is_there_and_cannot_be_read_are_not_passed_over(
    tmp_path: Path,
) -> None:
    """One that is gone is; for one that is there nobody would know who shares CPUs."""
    layout = Layout(2, "", "cpuset.cpus.effective")
    for name, text in (("a", "0-1\n"), ("b", "\n"), ("gone", None)):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / layout.file).write_text(text)
    groups = Cgroups(CounterFiles(str(tmp_path)), layout, bool)
    groups.look()
    assert groups.cpusets() == {"a": "0-1", "b": ""}
    (tmp_path / "gone" / layout.file).mkdir()
    with pytest.raises(IsADirectoryError):
        groups.cpusets()


# --- power and speed ---


def test_the_power_of_a_socket_is_what_its_firmware_says() -> None:
    """In mW through the mailbox, in µW by the driver's file; of a zone without either it is what
    its counter grew by.
    """

    @define
    class Files:
        files: dict[str, str]

        def read(self, path: str) -> bytes:
            if path not in self.files:
                raise OSError(errno.ENOENT, "none", path)
            return self.files[path].encode()

    host = Files(
        {
            "hsmp/socket0/power_mw": "90000\n",
            "hwmon/1/power1_input": "80000000\n",
            "rapl:2/energy_uj": "0\n",
        }
    )
    zones = [
        PowerZone("hsmp/socket0", "socket-0", "hsmp", 0),
        PowerZone("hwmon/1", "socket-1", "amd_hsmp_hwmon", 1),
        PowerZone("rapl:2", "package-2", "intel-rapl", 2),
    ]
    meter = PowerMeter(host)  # type: ignore[arg-type]
    assert meter.sample(zones, 1.0) == {0: 90_000_000, 1: 80_000_000}
    host.files["rapl:2/energy_uj"] = "20000000\n"
    del host.files["hsmp/socket0/power_mw"]
    assert meter.sample(zones, 3.0) == {1: 80_000_000, 2: 10_000_000}


def test_a_speed_is_written_where_its_domain_takes_it() -> None:
    """Governor userspace has one file; limits are two, and the one is moved first that keeps them
    from crossing.
    """
    model = KernelModel(rig.intel(2))
    writer = SpeedWriter(model)
    writer.keep({0: True, 1: True})
    for khz in (2 * GHZ, 3 * GHZ, 1 * GHZ):
        writer.set(0, khz, by_limits=True)
    assert model.log == [
        (rig.min_path(), "2000000"),
        (rig.max_path(), "2000000"),
        (rig.max_path(), "3000000"),
        (rig.min_path(), "3000000"),
        (rig.min_path(), "1000000"),
        (rig.max_path(), "1000000"),
    ]
    userspace = KernelModel(
        rig.machine([rig.domain(driver="acpi-cpufreq", settings=(None, None, "userspace", None))])
    )
    SpeedWriter(userspace).set(0, GHZ, by_limits=False)
    assert userspace.log == [(rig.cpufreq(0, "scaling_setspeed"), "1000000")]


# --- the mailbox ---


def test_a_mailbox_is_opened_both_ways_before_rights_are_given_up(tmp_path: Path) -> None:
    """And says by errno whether anything can be set; one that is not there is told when it is
    used.
    """
    path = tmp_path / "hsmp"
    mailbox = Device(str(path))
    mailbox.open()
    assert mailbox.refuses_writing() == errno.ENOENT
    path.write_text("")
    mailbox.open()
    path.unlink()
    assert mailbox.refuses_writing() == 0
    mailbox.close()
    assert mailbox.refuses_writing() == errno.ENOENT


def test_what_is_no_message_is_refused_before_the_device_is_asked(tmp_path: Path) -> None:
    """An unknown number, and an argument too many."""
    for message, argument in ((999, None), (1, 2**40)):
        with pytest.raises(OSError, match="Invalid") as failure:
            Device(str(tmp_path / "none")).send(0, message, argument)
        assert failure.value.errno == errno.EINVAL


@pytest.mark.parametrize(("failed", "word"), [(0, 77), (0, 0), (errno.EIO, 5)])
def test_what_the_firmware_answers_comes_back_through_the_helper(failed: int, word: int) -> None:
    """A word, or the errno that the helper got."""

    class Played(Helper):
        """A helper that says just this."""

        def _exchange(self, message: bytes, size: int) -> bytes | int:
            assert len(message) == CALL.size
            assert size == RESULT.size
            return RESULT.pack(failed, word)

    helper = Played("/nowhere")
    if failed:
        with pytest.raises(OSError, match="EIO") as failure:
            helper.call(GET_POWER)
        assert failure.value.errno == failed
    else:
        assert helper.call(GET_POWER) == word


# --- the handle ---


def test_a_machine_that_is_known_is_not_discovered_again(tmp_path: Path) -> None:
    """Who has just looked hands over what was found; it is brought to a plan all the same."""
    model = KernelModel(rig.amd(1))
    known = discover(model)
    host = Probe(model)
    handle = Applier(host, StateStore(str(tmp_path), "/model", live=False))
    handle.open(known=known)
    assert rig.governor_path() not in host.reads
    assert handle.machine == known.machine
    handle.apply(rig.everywhere(model.machine, Target(GHZ, 2 * GHZ)))
    handle.close()
    assert model.read(rig.max_path()) == b"2000000\n"
    assert rig.owned(str(tmp_path)) == {"cpufreq:0"}


def test_a_file_is_tried_four_times_and_no_more(tmp_path: Path) -> None:
    """As long as something else of its group moves, a refusal may pass; in the end it is told."""
    model = KernelModel(rig.amd(1))
    times = {rig.epp_path(): 1, rig.min_path(): 2, rig.max_path(): 4}
    tries: list[str] = []

    def deny(verb: str, path: str) -> int | None:
        if verb != "write" or path not in times:
            return None
        tries.append(path)
        return errno.EBUSY if tries.count(path) <= times[path] else None

    rig.foreign_write(model, rig.governor_path(), "performance")
    target = Target(GHZ, 2 * GHZ, "powersave", "power")
    plan = rig.everywhere(model.machine, target)
    report = rig.apply_once(Probe(model, deny=deny), str(tmp_path), plan)
    assert tries.count(rig.max_path()) == 4
    assert [(item.path, item.errno) for item in report.outcomes] == [(rig.max_path(), errno.EBUSY)]


def test_a_refusal_is_not_tried_again_where_nothing_else_of_its_group_has_moved(
    tmp_path: Path,
) -> None:
    """Nothing that another try would meet has changed."""
    model = KernelModel(rig.amd(2))
    tries: list[str] = []

    def deny(verb: str, path: str) -> int | None:
        if verb == "write" and path == rig.max_path(0):
            tries.append(path)
            return errno.EBUSY
        return None

    plan = rig.everywhere(model.machine, Target(max_khz=2 * GHZ))
    report = rig.apply_once(Probe(model, deny=deny), str(tmp_path), plan)
    assert len(tries) == 1
    assert [(item.path, item.errno) for item in report.outcomes] == [(rig.max_path(0), errno.EBUSY)]
    assert model.read(rig.max_path(1)) == b"2000000\n"


def test_a_driver_whose_name_could_not_be_read_is_noted_once_it_can(tmp_path: Path) -> None:
    """Also in a pass in which a write fails: from then on the entry is known to be that driver's,
    and void under another.
    """
    model = KernelModel(rig.intel(1))
    hidden = [True]
    host = Probe(
        model,
        deny=lambda verb, path: (
            errno.EIO
            if (hidden[0] and path.endswith("current_driver"))
            or (verb, path) == ("write", rig.idle_path(0, 1))
            else None
        ),
    )
    plan = rig.everywhere(model.machine, Target(idle=(("C1", False), ("C6", False))))
    with rig.applier(host, str(tmp_path)) as handle:
        assert not handle.apply(plan).settled
        assert handle.state.groups["idle:0"].driver == ""
        hidden[0] = False
        handle.discover()
        assert not handle.apply(plan).settled
        assert handle.state.groups["idle:0"].driver == "intel_idle"


def test_of_a_live_machine_the_running_kernel_tells_the_architecture() -> None:
    """A copy of another one tells its own."""

    class Live(Probe):
        """The same files, said to be those of the machine that runs this."""

        @property
        def live(self) -> bool:
            return True

    model = KernelModel(rig.intel(1))
    assert discover(Live(model)).machine.architecture == platform.machine()
    assert discover(Probe(model)).machine.architecture is None
