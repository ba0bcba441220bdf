"""kpm energy serve: a bare host tells its energy to a Prometheus, without Kubernetes."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from kpm.cli import cli
from tests.applier.power import LONG_SHORT, RAPL, bare, put_zone
from tests.kpm.cli_rig import REPO

BARE = REPO / "deploy/bare"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port and the process of the verb, on a tree with a meter."""
    root = bare(tmp_path / "sys")
    put_zone(root, f"{RAPL}/intel-rapl:0", "package-0", LONG_SHORT)
    port = free_port()
    words = ["--sysfs", str(root), "--address", "127.0.0.1", "--port", str(port)]
    words += ["--interval", "200ms", "--state-file", str(tmp_path / "totals")]
    process = subprocess.Popen(
        [sys.executable, "-m", "kpm", "energy", "serve", *words],
        cwd=REPO,
        stderr=subprocess.DEVNULL,
    )
    yield port, process
    process.kill()
    process.wait()


def until(check: Callable[[], object], seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if check():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("not in time")


def test_it_is_healthy_ready_and_tells_joules_until_it_is_ended(
    served: tuple[int, subprocess.Popen[bytes]],
) -> None:
    port, process = served
    until(lambda: get(port, "/readyz") == "ok\n")
    assert get(port, "/healthz") == "ok\n"
    text = get(port, "/metrics")
    assert re.search(r"^kpm_node_energy_joules_total\{", text, re.MULTILINE)
    assert "kepler_node_cpu_" in text
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize("text", ["localhost", "1.2.3", "::g", "0.0.0.0/0"])
def test_an_address_is_an_address(text: str) -> None:
    done = CliRunner().invoke(cli, ["energy", "serve", "--address", text])
    assert done.exit_code == 2
    assert "--address" in done.stderr


def test_the_unit_and_the_compose_file_start_what_there_is() -> None:
    """Their options are the verb's, their files are in the repository."""
    unit = (BARE / "kpm-energy.service").read_text()
    found = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert found
    compose = yaml.safe_load((BARE / "compose.yaml").read_text())["services"]
    for words in (shlex.split(found[1])[1:], compose["kpm"]["command"]):
        assert words[:2] == ["energy", "serve"]
        said = CliRunner().invoke(cli, ["energy", "serve", "--help"]).output
        assert all(word in said for word in words if word.startswith("--"))
    for service in compose.values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (BARE / source).exists(), source
