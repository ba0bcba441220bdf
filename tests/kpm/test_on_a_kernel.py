"""diff, apply and restore on the kernel model: what the kernel rounds, limits, refuses or delays,
as the user sees it.
"""

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kpm.request.machines import MODELS, build_machine
from kpm.request.options import TreeOptions
from kpm_applier.kernel_model.model import KernelModel
from kpm_applier.session import Applier
from kpm_applier.state.store import StateStore
from tests.kpm.cli_rig import Ran, assert_names, kpm
from tests.kpm.object_samples import as_yaml, node, profile, workload

POLICY = "devices/system/cpu/cpufreq/policy"
#: A verb on the model, with objects on standard input where it takes some.
Run = Callable[..., Ran]


@pytest.fixture
def on_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[KernelModel], Run]:
    """Puts a kernel where --sysfs would be."""

    def use(model: KernelModel) -> Run:
        @contextmanager
        def opened(tree: TreeOptions, *, writing: bool = True) -> Iterator[Applier]:
            applier = Applier(model, StateStore(tree.state_dir, "/model", live=False))
            try:
                applier.open(writing=writing)
                yield applier
            finally:
                applier.close()

        monkeypatch.setattr("kpm.cli.applying.open_applier", opened)

        def run(verb: str, *words: object, objects: str = "") -> Ran:
            files = [] if verb == "restore" else ["-f", "-"]
            return kpm(
                verb,
                *files,
                "--sysfs",
                "/model",
                "--state-dir",
                tmp_path / "state",
                *words,
                stdin=objects,
            )

        return run

    return use


def limits(low: object, high: object, **pstates: object) -> str:
    return as_yaml(
        profile("p", shared=True, pstates={"min": low, "max": high, **pstates}),
        workload("w", "p"),
        node("n"),
    )


def model(name: str) -> KernelModel:
    return KernelModel(build_machine(MODELS[name]))


def test_what_the_kernel_rounds_is_reported_and_no_error(
    on_kernel: Callable[[KernelModel], Run],
) -> None:
    """K3: a frequency table.

    The request is registered; it is said once what it has become; nothing is written again.
    """
    kernel = model("opteron")
    run = on_kernel(kernel)
    objects = limits(1500, 2000)
    first = run("apply", objects=objects)
    assert first.code == 0
    line = next(line for line in first.out.splitlines() if f"{POLICY}0/scaling_max_freq" in line)
    assert_names(line, ["2000000 requested", "1800000 shown", "rounded"])
    assert first.out.splitlines()[-1].endswith(", settled")
    written = len(kernel.log)
    second = run("apply", objects=objects)
    assert second.code == 0
    assert second.out.splitlines()[-1] == "0 files written, settled"
    assert len(kernel.log) == written
    assert run("diff", objects=objects).code == 0


def test_what_somebody_else_limits_is_reported_and_not_fought(
    on_kernel: Callable[[KernelModel], Run],
) -> None:
    """A thermal limit comes and goes: no rewriting, no error, and at the end what was asked for."""
    kernel = model("epyc")
    run = on_kernel(kernel)
    objects = limits(1000, 3000)
    kernel.limit(3, 2000000)
    first = run("apply", objects=objects)
    assert first.code == 0
    assert_names(
        first.out,
        [
            f"{POLICY}3/scaling_max_freq",
            "3000000 requested",
            "2000000 shown",
            "limited by another party",
        ],
    )
    written = len(kernel.log)
    for khz in (2000000, None):
        kernel.limit(3, khz)
        again = run("apply", objects=objects)
        assert again.code == 0
        assert again.out.splitlines()[-1] == "0 files written, settled"
    assert len(kernel.log) == written
    assert kernel.read(f"{POLICY}3/scaling_max_freq") == b"3000000\n"


def test_a_write_that_the_kernel_refuses_is_1(on_kernel: Callable[[KernelModel], Run]) -> None:
    kernel = model("epyc")
    run = on_kernel(kernel)
    objects = limits(1000, 3000)
    run("diff", objects=objects)
    path = f"{POLICY}3/scaling_max_freq"
    write = kernel.write
    taken: list[str] = []

    def refuse(self: KernelModel, where: str, data: bytes) -> None:
        del self
        if where == path:
            raise OSError(errno.EIO, "faulty", where)
        taken.append(where)
        write(where, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KernelModel, "write", refuse)
        ran = run("apply", objects=objects)
        structured = run("apply", "-o", "json", objects=objects)
    assert ran.code == 1
    (line,) = [line for line in ran.err.splitlines() if path in line]
    assert_names(line, ["3000000", "EIO", "3990000"])
    assert ran.out.splitlines()[-1].endswith(", NOT settled")
    assert f"{POLICY}4/scaling_max_freq" in taken
    assert structured.code == 1
    content = json.loads(structured.out)
    assert content["settled"] is False
    assert [
        (item["path"], item["errno"], item["wanted"], item["shows"])
        for item in content["outcomes"]
        if item["status"] == "failed"
    ] == [(path, "EIO", "3000000", "3990000")]
    mended = run("apply", objects=objects)
    assert mended.code == 0
    assert mended.out.splitlines()[-1] == "1 files written, settled"


def test_late_updates_are_waited_for(on_kernel: Callable[[KernelModel], Run]) -> None:
    """K2: what is shown follows the write by some milliseconds."""
    kernel = KernelModel(build_machine(MODELS["epyc"]), latency=0.02)
    run = on_kernel(kernel)
    ran = run("apply", objects=limits(1000, 3000))
    assert ran.code == 0
    assert ran.out.splitlines()[-1].endswith(", settled")
    assert kernel.read(f"{POLICY}3/scaling_max_freq") == b"3000000\n"


def test_governor_and_epp_in_their_order(on_kernel: Callable[[KernelModel], Run]) -> None:
    """Rows 9 and 10 of what users hit: no EBUSY on the way in, and the
    former EPP on the way out.
    """
    kernel = model("xeon")
    run = on_kernel(kernel)
    there = limits(1000, 3000, governor="performance", epp="performance")
    back = limits(1000, 3000, governor="powersave", epp="balance_power")
    for objects, shown in (
        (there, b"performance\n"),
        (back, b"balance_power\n"),
        (there, b"performance\n"),
        (limits(1000, 3000), b"balance_performance\n"),
    ):
        ran = run("apply", objects=objects)
        assert ran.code == 0, ran
        assert kernel.read(f"{POLICY}5/energy_performance_preference") == shown
        assert run("diff", objects=objects).code == 0
    assert run("restore").code == 0
    assert kernel.read(f"{POLICY}5/scaling_governor") == b"powersave\n"
    assert kernel.read(f"{POLICY}5/energy_performance_preference") == b"balance_performance\n"


def test_restore_of_a_cpu_that_is_away(on_kernel: Callable[[KernelModel], Run]) -> None:
    """It cannot be restored now: that is said, exit 1, and done when it is back."""
    kernel = model("epyc")
    run = on_kernel(kernel)
    assert run("apply", objects=limits(1000, 3000)).code == 0
    kernel.plug(3, online=False)
    ran = run("restore")
    assert ran.code == 1
    assert_names(ran.err, ["cpufreq:3", "offline", "again when"])
    assert kernel.read(f"{POLICY}2/scaling_max_freq") == b"3990000\n"
    kernel.plug(3, online=True)
    again = run("restore")
    assert (again.code, again.err) == (0, "")
    assert kernel.read(f"{POLICY}3/scaling_max_freq") == b"3990000\n"
    assert run("restore").out == "0 files written, settled\n"


def test_a_cpu_that_comes_back_is_brought_to_the_plan(
    on_kernel: Callable[[KernelModel], Run],
) -> None:
    kernel = model("epyc")
    run = on_kernel(kernel)
    kernel.plug(3, online=False)
    objects = limits(1000, 3000)
    assert run("apply", objects=objects).code == 0
    kernel.plug(3, online=True)
    shown = run("diff", "--files", objects=objects)
    assert shown.code == 1
    assert {line.split("/")[4] for line in shown.out.splitlines()} == {"policy3"}
    assert run("apply", objects=objects).code == 0
    assert run("diff", objects=objects).code == 0


@pytest.mark.parametrize("name", MODELS)
def test_every_model_there_and_back(name: str, on_kernel: Callable[[KernelModel], Run]) -> None:
    """Apply, apply again, another policy, restore: no write too many, no trace."""
    kernel = model(name)
    run = on_kernel(kernel)
    paths = [
        f"{POLICY}{domain.id}/{file}"
        for domain in kernel.machine.domains
        for file in ("scaling_min_freq", "scaling_max_freq", "scaling_governor")
    ]
    paths += [
        f"devices/system/cpu/cpu{cpu.id}/cpuidle/state{state.index}/disable"
        for cpu in kernel.machine.cpus
        for state in cpu.idle
    ]
    before = {path: kernel.read(path) for path in paths}
    first = as_yaml(
        profile(
            "p", shared=True, pstates={"min": "10%", "max": "60%"}, cstates={"maxLatencyUs": 5}
        ),
        workload("w", "p", reservedCPUs=[{"cores": [0]}]),
        node("n"),
    )
    second = as_yaml(
        profile("q", shared=True, pstates={"max": "30%"}),
        workload("w", "q", reservedCPUs=[{"cores": [1]}]),
        node("n"),
    )
    for objects in (first, second):
        assert run("apply", objects=objects).code == 0
        written = len(kernel.log)
        assert run("apply", objects=objects).code == 0
        assert len(kernel.log) == written
    assert run("restore").code == (0 if kernel.log else 2)  # 2: there was nothing to record
    assert {path: kernel.read(path) for path in paths} == before
