"""A real Prometheus for one test: Debian's package, started on a free port with the rules of the
repository, quickened.

    python3 prometheus_server.py --prepare     install Debian's prometheus where it is missing,
    print where it is

A second one can sit at another source address: `Neighbour` is a network namespace with a cable to
this machine.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

REPO = Path(__file__).resolve().parents[2]
RULES = REPO / "deploy/monitoring/rules.yaml"
TOOLS = ("prometheus", "promtool")
#: As the PodMonitor in deploy/monitoring/monitors.yaml makes them: jobLabel, relabelings, and what
#: the Prometheus operator adds.
JOB = "power-node-agent"
#: What is too slow for a test, and what stands for it.
QUICKER = (
    ("interval: 30s", "interval: 1s"),
    ("[5m]", "[20s]"),
    ("[15m]", "[20s]"),
    ("[1h]", "[60s]"),
)
_POLICY = Path("/usr/sbin/policy-rc.d")

Labels = dict[str, str]
Sample = tuple[float, float]


def prepare() -> str:
    """Where Prometheus is, installed where it is not. Errors: CalledProcessError, SystemExit."""
    if any(shutil.which(name) is None for name in TOOLS):
        alone = not _POLICY.exists()
        if alone:  # the package would start a server of its own on port 9090
            _POLICY.write_text("#!/bin/sh\nexit 101\n")
            _POLICY.chmod(0o755)
        try:
            subprocess.run(
                "apt-get update && apt-get install -y --no-install-recommends prometheus",
                shell=True,
                check=True,
                stdout=sys.stderr,
            )
        finally:
            if alone:
                _POLICY.unlink(missing_ok=True)
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if missing:
        sys.exit(f"cannot be installed here: {', '.join(missing)}")
    return shutil.which(TOOLS[0]) or ""


def promtool(*words: str, given: str | bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run promtool; what it says, with its status."""
    content = given.encode() if isinstance(given, str) else given
    done = subprocess.run(
        ["promtool", *words], input=content, capture_output=True, check=False, timeout=60
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def quick(text: str) -> str:
    """Rules or a query with their times shortened; what is waited for before an alert fires becomes
    two seconds.
    """
    for slow, fast in QUICKER:
        text = text.replace(slow, fast)
    return re.sub(r"\bfor: [1-9][0-9]*m\b", "for: 2s", text)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: str, check: Callable[..., Any], seconds: float = 30.0, pause: float = 0.2) -> Any:
    """The first true result of a check. AssertionError where it does not come in time."""
    ends = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < ends, f"not in {seconds:g} s: {what}"
        time.sleep(pause)


@dataclass
class Neighbour:
    """A network namespace with a cable to this machine.

    Errors of `make`: OSError, CalledProcessError where that is not allowed here.
    """

    name: str = field(default_factory=lambda: f"kpm{os.getpid()}")
    net: str = field(default_factory=lambda: f"198.18.{os.getpid() % 250}")

    @property
    def host(self) -> str:
        """This machine's address, as the neighbour sees it."""
        return f"{self.net}.1"

    @property
    def address(self) -> str:
        """The neighbour's address."""
        return f"{self.net}.2"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command there."""
        return ("ip", "netns", "exec", self.name)

    def make(self) -> None:
        """Make it, with the cable plugged in."""
        here, there = f"{self.name}h", f"{self.name}n"
        self._ip("netns", "add", self.name)
        self._ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self.name)
        self._ip("addr", "add", f"{self.host}/24", "dev", here)
        self._ip("link", "set", here, "up")
        self._ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", there)
        self._ip("-n", self.name, "link", "set", there, "up")
        self._ip("-n", self.name, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Both ends of the cable go with the namespace."""
        for words in (("netns", "del", self.name), ("link", "del", f"{self.name}h")):
            with contextlib.suppress(OSError):
                subprocess.run(["ip", *words], check=False, capture_output=True)

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@dataclass
class PrometheusServer:
    """One Prometheus. target: host and port that it scrapes; labels: of the target, as relabelling
    makes them; rules: what it records, "" for nothing.
    """

    folder: Path
    target: str
    labels: Labels
    rules: str = ""
    address: str = "127.0.0.1"
    prefix: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "prometheus.log").read_text()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "scrape_configs": [
                {
                    "job_name": JOB,
                    "honor_labels": True,
                    "static_configs": [{"targets": [self.target], "labels": self.labels}],
                }
            ],
        }
        if self.rules:
            (self.folder / "rules.yaml").write_text(self.rules)
            config["rule_files"] = ["rules.yaml"]
        (self.folder / "prometheus.json").write_text(json.dumps(config))  # JSON is YAML
        command = [
            *self.prefix,
            shutil.which(TOOLS[0]) or TOOLS[0],
            "--config.file",
            "prometheus.json",
            "--storage.tsdb.path",
            "data",
            "--web.listen-address",
            f"{self.address}:{self.port}",
        ]
        with (self.folder / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        until("Prometheus is ready", self._ready)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.resume()
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Scrape no more, until `resume`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log[-3000:]
        try:
            return self.fetch("/-/ready")[0] == 200
        except OSError:
            return False

    # --- what it says ---

    def fetch(self, path: str) -> tuple[int, bytes]:
        """Status and body. Errors: OSError."""
        link = http.client.HTTPConnection(self.address, self.port, timeout=20)
        try:
            link.request("GET", path)
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    def api(self, path: str, **arguments: str | float) -> Any:
        """The data of an answer of the HTTP API.

        AssertionError with what it says where it is no success.
        """
        status, body = self.fetch(f"/api/v1/{path}?{urlencode(arguments)}")
        answer = json.loads(body)
        assert answer["status"] == "success", (status, arguments, answer.get("error"))
        assert not answer.get("warnings"), (arguments, answer["warnings"])
        return answer["data"]

    def query(self, text: str, at: float | None = None) -> list[tuple[Labels, float]]:
        """The vector, or the number, that a query gives at an instant; now where none is named."""
        data = self.api("query", query=text, **({} if at is None else {"time": at}))
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(item["metric"], float(item["value"][1])) for item in data["result"]]

    def value(self, text: str, at: float | None = None) -> float:
        """The one value that a query gives. AssertionError for another number of them."""
        found = self.query(text, at)
        assert len(found) == 1, (text, found)
        return found[0][1]

    def samples(self, selector: str, at: float | None = None) -> list[tuple[Labels, list[Sample]]]:
        """The samples of a selector with a range, as they were scraped."""
        data = self.api("query", query=selector, **({} if at is None else {"time": at}))
        assert data["resultType"] == "matrix", selector
        return [
            (item["metric"], [(float(when), float(value)) for when, value in item["values"]])
            for item in data["result"]
        ]

    def query_range(
        self, text: str, start: float, end: float, step: float = 1.0
    ) -> list[tuple[Labels, list[Sample]]]:
        """What a query gives over a time."""
        data = self.api("query_range", query=text, start=start, end=end, step=step)
        return [
            (item["metric"], [(float(when), float(value)) for when, value in item["values"]])
            for item in data["result"]
        ]

    def label_values(self, selector: str, label: str, start: float | None = None) -> list[str]:
        """The values of a label of the series that a selector names, as a variable of a dashboard
        asks for them.
        """
        return list(
            self.api(
                f"label/{label}/values",
                **{"match[]": selector},
                **({} if start is None else {"start": start}),
            )
        )

    def firing(self) -> set[str]:
        """The alerts that fire."""
        return {
            item["labels"]["alertname"]
            for item in self.api("alerts")["alerts"]
            if item["state"] == "firing"
        }

    def own(self, name: str) -> float:
        """One of Prometheus' own counters, summed over its labels; 0
        where it has none of the name.
        """
        lines = self.fetch("/metrics")[1].decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}(?:{{| )", line)
        )


if __name__ == "__main__":
    if sys.argv[1:] != ["--prepare"]:
        sys.exit(__doc__)
    print(prepare())
