"""Trees of powercap and of AMD's sensors that are nearly right: a cap takes what is there, and
writes to nothing else.

Always the same ones: the first part in every run, all of them in a soak. More of them:
KPM_FUZZ_INPUTS=1000000.
"""

import errno
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field

from kpm_applier.session import Applier
from kpm_applier.state.record import State
from kpm_applier.sysfs.host import Watch, differing_one_by_one, read_one_by_one, write_one_by_one
from kpm_planner.caps.division import MOST_UW
from kpm_planner.model.cap_objects import CapSource, PowerCap, StaticCap
from kpm_planner.model.cluster import LabelSelector, Meta, Node, NodeSelector
from kpm_planner.model.objects import Intent
from kpm_planner.plan import NodeInput, plan_node
from kpm_planner.selection import Accepted, accept
from tests.applier.power import CLASS, MMIO, PLATFORM, RAPL
from tests.parts import in_parts

INPUTS = int(os.environ.get("KPM_FUZZ_INPUTS", "15000"))
#: The inputs are in equal parts, each with trees of its own.
PARTS = 10
PAGE = 4096

Content = bytes | int
Files = dict[str, Content]

ZONE = re.compile(rf"(?:{RAPL}|{CLASS})/intel-rapl:\d{{1,5}}", re.ASCII)
SENSOR = re.compile(rf"{PLATFORM}/(?:amd_hsmp(?:\.[^/]*)?|AMDI0097:[^/]*)/hwmon/[^/]+")
PACKAGE = re.compile(r"package-\d{1,5}(?:-die-\d{1,5})?", re.ASCII)
LIMIT = re.compile(r"constraint_[0-7]_power_limit_uw")


@define
class Memory:
    """A tree of contents; a number in place of one is the errno of using it. refuse: errno of
    writing a file, which then keeps what it held; deaf: it says yes.
    """

    files: Files
    refuse: Mapping[str, int] = field(factory=dict)
    deaf: frozenset[str] = frozenset()
    live: bool = False
    folders: dict[str, set[str]] = field(factory=dict)
    writes: list[tuple[str, bytes]] = field(factory=list)
    clock: float = 0.0

    def __attrs_post_init__(self) -> None:
        for path in self.files:
            while path:
                path, _, name = path.rpartition("/")
                known = self.folders.setdefault(path, set())
                if name in known:
                    break
                known.add(name)

    def read(self, path: str) -> bytes:
        content = self.files.get(path, errno.ENOENT)
        if isinstance(content, int):
            raise OSError(content, "refused", path)
        return content[:PAGE]

    def read_all(self, paths: Sequence[str]) -> Sequence[bytes | OSError]:
        return read_one_by_one(self, paths)

    def differing(
        self, paths: Sequence[str], expected: Sequence[bytes]
    ) -> dict[str, bytes | OSError]:
        return differing_one_by_one(self, paths, expected)

    def write(self, path: str, data: bytes) -> None:
        self.writes.append((path, data))
        if path in self.refuse or path not in self.files:
            raise OSError(self.refuse.get(path, errno.ENOENT), "refused", path)
        if path not in self.deaf:
            self.files[path] = data

    def write_all(self, writes: Sequence[tuple[str, bytes]]) -> dict[str, OSError]:
        return write_one_by_one(self, writes)

    def list(self, path: str) -> tuple[str, ...]:
        if path not in self.folders:
            raise OSError(errno.ENOENT, "no such folder", path)
        return tuple(sorted(self.folders[path]))

    def wait(self, seconds: float) -> None:
        self.clock += seconds

    def now(self) -> float:
        return self.clock

    def watch(self, files: Mapping[str, bytes]) -> Watch:
        return Same(self, files)

    def keep(self, paths: Iterable[str]) -> None:
        pass

    def forget(self) -> None:
        pass


@define
class Same:
    host: Memory
    files: Mapping[str, bytes]

    def same(self) -> bool:
        return all(self.host.read(path) == content for path, content in self.files.items())


@define
class Kept:
    """A state file in memory."""

    state: State = State()
    path: str = "in memory"

    def lock(self) -> None:
        pass

    def unlock(self) -> None:
        pass

    def load(self) -> State:
        return self.state

    def save(self, state: State) -> None:
        self.state = state


# --- trees that are right ---


def zone(
    folder: str,
    name: str,
    limits: Sequence[tuple[str, int]] = (("long_term", 165_000_000), ("short_term", 198_000_000)),
    enabled: int | None = 1,
) -> Files:
    files: Files = {f"{folder}/name": f"{name}\n".encode(), f"{folder}/energy_uj": b"5\n"}
    if enabled is not None:
        files[f"{folder}/enabled"] = f"{enabled}\n".encode()
    for number, (label, uw) in enumerate(limits):
        for file, value in (
            ("name", label),
            ("power_limit_uw", uw),
            ("max_power_uw", uw),
            ("time_window_us", 976),
        ):
            files[f"{folder}/constraint_{number}_{file}"] = f"{value}\n".encode()
    return files


def sensor(folder: str) -> Files:
    return {
        f"{folder}/{name}": value
        for name, value in (
            ("name", b"amd_hsmp_hwmon\n"),
            ("power1_cap", b"280000000\n"),
            ("power1_cap_max", b"400000000\n"),
        )
    }


CPU: Files = {"devices/system/cpu/online": b"0\n", "devices/system/cpu/present": b"0\n"}
THREE = (("short_term", 198_000_000), ("peak_power", 400_000_000), ("long_term", 165_000_000))
TREES: tuple[Files, ...] = (
    zone(f"{RAPL}/intel-rapl:0", "package-1")
    | zone(f"{RAPL}/intel-rapl:1", "package-0", THREE, 0)
    | zone(f"{RAPL}/intel-rapl:2", "psys"),
    zone(f"{RAPL}/intel-rapl:0", "package-0", enabled=0)
    | zone(f"{RAPL}/intel-rapl:0/intel-rapl:0:0", "dram", (("long_term", 0),), 0)
    | zone(f"{MMIO}/intel-rapl-mmio:0", "package-0"),
    zone(f"{CLASS}/intel-rapl:0", "package-0-die-0")
    | zone(f"{CLASS}/intel-rapl:1", "package-0-die-1", THREE)
    | zone(f"{CLASS}/intel-rapl:0:0", "core"),
    zone(f"{RAPL}/intel-rapl:0", "package-0", ())
    | sensor(f"{PLATFORM}/amd_hsmp/hwmon/hwmon1")
    | sensor(f"{PLATFORM}/amd_hsmp/hwmon/hwmon2"),
    sensor(f"{PLATFORM}/AMDI0097:00/hwmon/hwmon3")
    | sensor(f"{PLATFORM}/AMDI0097:01/hwmon/hwmon4")
    | sensor(f"{PLATFORM}/coretemp.0/hwmon/hwmon5"),
)

# --- what may be wrong with them ---

CONTENTS: tuple[Content, ...] = (
    *(
        b"",
        b"\n",
        b"0\n",
        b"1\n",
        b"-1\n",
        b"-165000000\n",
        b"+5\n",
        b"1e9\n",
        b"0x10\n",
        b"007\n",
        b"1 2\n",
        b"3408250000\n",
        b"9" * 18,
        b"9" * 19,
        b"9" * 5000,
    ),
    *(
        b"nan\n",
        b"inf\n",
        b"\x00\xff\xfe\x80",
        b"165000000\x00\n",
        "١٦٥\n".encode(),
        "²\n".encode(),
        b"\xed\xa0\x80",
        b" 165000000 \n",
        b"165000000\n165000000\n",
    ),
    *(
        b"<unsupported>\n",
        b"Y\n",
        b"on\n",
        b"package-0\n",
        b"package-1",
        b"package-0-die-0\n",
        b"package-99999\n",
        b"package-999999\n",
        b"PACKAGE-0\n",
    ),
    *(
        b"package-0\npackage-1\n",
        b"psys\n",
        b"dram\n",
        b"core\n",
        b"long_term\n",
        b"short_term\n",
        b"peak_power\n",
        b"long_term",
        b"long_term\nshort_term\n",
    ),
    *(b"amd_hsmp_hwmon\n", b"../../../etc\n", b"A" * 4096),
    *(
        errno.ENOENT,
        errno.ENODATA,
        errno.EACCES,
        errno.EIO,
        errno.EINVAL,
        errno.ENODEV,
        errno.ENXIO,
        errno.EBUSY,
    ),
)
NAMES = (
    *(
        "intel-rapl:0",
        "intel-rapl:1",
        "intel-rapl:99999",
        "intel-rapl:123456",
        "intel-rapl:",
        "intel-rapl:-1",
        "intel-rapl:٣",
        "intel-rapl:0:0",
        "intel-rapl: 0",
    ),
    *(
        "intel-rapl:0\n",
        "intel-rapl-mmio:0",
        "intel-rapl",
        "constraint_0_name",
        "constraint_1_power_limit_uw",
        "constraint_7_power_limit_uw",
        "constraint_8_name",
    ),
    *(
        "constraint_99_power_limit_uw",
        "constraint_-1_name",
        "enabled",
        "name",
        "power1_cap",
        "power2_cap",
        "hwmon",
        "hwmon0",
        "hwmon10",
        "amd_hsmp",
        "amd_hsmp.1",
    ),
    *("amd_hsmp_x", "AMDI0097:", "AMDI0097:0f", " ", "\udcff", "é", "a" * 300, "*"),
)
REFUSALS = (
    errno.ENODATA,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EACCES,
    errno.EIO,
    errno.EBUSY,
    errno.EROFS,
)


def mutated(rng: random.Random) -> Memory:
    """One of the trees with some contents, names and refusals that are not right."""
    files = dict(rng.choice(TREES))
    for _ in range(rng.randint(1, 4)):
        path = rng.choice(list(files)) if files else "name"
        match rng.randrange(8):
            case 0:
                files.pop(path, None)
            case 1:
                words = path.split("/")
                words[rng.randrange(max(len(words) - 3, 0), len(words))] = rng.choice(NAMES)
                files["/".join(words)] = files.get(path, b"")
            case 2:
                folder, other = path.rpartition("/")[0], rng.choice(NAMES)
                moved = {
                    f"{folder.rpartition('/')[0]}/{other}{name[len(folder) :]}": text
                    for name, text in files.items()
                    if name.startswith(f"{folder}/")
                }
                files |= moved
            case 3:
                content = files.get(path, b"")
                at = rng.randrange(12)
                files[path] = (
                    content
                    if isinstance(content, int)
                    else content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
                )
            case _:
                files[path] = rng.choice(CONTENTS)
    refuse = {path: rng.choice(REFUSALS) for path in files if rng.random() < 0.05}
    deaf = frozenset(path for path in files if rng.random() < 0.05)
    return Memory(files | CPU, refuse, deaf)


def text(files: Files, path: str) -> str:
    """What a file says; nothing where it cannot be read."""
    content = files.get(path, 0)
    return "" if isinstance(content, int) else content[:PAGE].decode("ascii", "replace").strip()


def is_limit(files: Files, path: str) -> bool:
    """Whether a file is a limit or the switch of a package's zone, by what the tree says."""
    folder, _, file = path.rpartition("/")
    name = text(files, f"{folder}/name")
    if SENSOR.fullmatch(folder):
        return (name, file) == ("amd_hsmp_hwmon", "power1_cap")
    label = text(files, f"{folder}/{file.replace('power_limit_uw', 'name')}")
    right = file == "enabled" or (LIMIT.fullmatch(file) and label in ("long_term", "short_term"))
    return bool(right and ZONE.fullmatch(folder) and PACKAGE.fullmatch(name))


def caps() -> list[Accepted]:
    """PowerCaps that follow each other."""
    every = NodeSelector(LabelSelector())
    asked = ((120, None, None), (10_000, "all", None), (30, "short_term", "package"))
    found = [
        PowerCap(
            Meta("cap"),
            node_selector=every,
            source=CapSource(static=StaticCap(watts)),
            constraint=limit,
            per=per,
        )
        for watts, limit, per in asked
    ]
    return [accept(Intent(caps=(cap,))) for cap in found]


@in_parts(PARTS)
def test_trees_that_are_nearly_right(part: int) -> None:
    """Discover, plan, apply, apply again, give back: nothing is raised, and no path is written that
    is not a limit or the switch of a package.
    """
    rng, asked, written, node = random.Random(part), caps(), 0, Node("node")
    for _ in range(INPUTS // PARTS):
        host = mutated(rng)
        before = dict(host.files)
        handle = Applier(host, Kept())
        handle.open()
        handle.apply(plan_node(rng.choice(asked), NodeInput(node, handle.machine)))
        if rng.random() < 0.2:
            handle.apply(plan_node(rng.choice(asked), NodeInput(node, handle.machine)))
            handle.discover()
            handle.restore()
        for path, data in host.writes:
            assert is_limit(before, path), path
            assert _right(data, text(before, path)), (path, data)
        written += bool(host.writes)
    assert 0.3 * INPUTS < written * PARTS < 0.98 * INPUTS, (
        "the trees are neither all wrong nor all right"
    )


def _right(data: bytes, held: str) -> bool:
    """A switch, a limit that the register holds, or what the file held before."""
    words = data.decode().strip()
    return words == held or (words.isascii() and words.isdigit() and int(words) <= MOST_UW)
