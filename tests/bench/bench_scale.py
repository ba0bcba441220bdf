"""One API server under a whole cluster (make bench-scale): what one edit of a profile costs with
1,000 nodes and 20 profiles.

Real are kube-apiserver, etcd, RBAC, the admission policy and the operator's process. Each agent is
played by the connections that it has: seven watches, and one for its status writes, with a token
bound to a pod of its node; what it writes is a status that the planner made for a machine of 64
CPUs. All of it shares the CPUs of this machine, so times say little and counts, bytes and CPU
seconds much. Prints a table and writes bench-results/scale.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # holds the package tests

from kpm.formats.published import packed
from kpm.formats.views import features
from kpm.formats.wire import document_of, read_object
from kpm.kube.kinds import state_name, workload_name
from kpm.request.machines import MODELS, MachineSpec, build_machine
from kpm_planner.model.allocation import Allocation
from kpm_planner.model.changes import Pass
from kpm_planner.model.cluster import GENERATED, Node
from kpm_planner.model.objects import Intent, PowerProfile, PowerWorkload
from kpm_planner.plan import NodeInput, plan_node
from kpm_planner.report.node import node_state
from kpm_planner.report.power_node import power_node
from kpm_planner.selection import accept
from tests.apiserver.nodes import LABEL, NAMESPACE, OperatorProcess
from tests.apiserver.server import ADMIN_TOKEN, ApiServer, wait_for
from tests.apiserver.world import install
from tests.bench.report import REPO, keep

NODES, PROFILES = int(os.environ.get("KPM_BENCH_NODES", "1000")), 20
GROUP, SPACE = "power.openshift.io", f"/apis/power.openshift.io/v1/namespaces/{NAMESPACE}"
MACHINE = MachineSpec(
    packages=2,
    cores=16,
    threads=2,
    epp="balance_performance",
    idle_driver="intel_idle",
    idle_states=MODELS["xeon"].idle_states,
)
#: Whether agents publish their machines, as they do; 0 shows what that costs.
PUBLISH = os.environ.get("KPM_BENCH_PUBLISH", "1") == "1"
KINDS = ("powerprofiles", "powerworkloads", "powernodeconfigs", "uncores", "powerconfigs")
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_TICKS = os.sysconf("SC_CLK_TCK")


class Link:
    """One connection to the API server. received: bytes of watches; refusals: of all links, where
    the server had too much to do.
    """

    refusals = 0

    def __init__(self, server: ApiServer, token: str, context: ssl.SSLContext) -> None:
        self.server, self.token, self.context, self.received = server, token, context, 0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> None:
        """Send a request, and read the head of the answer; again while the server has too many.

        AssertionError where it is no success.
        """
        while await self._send(method, path, body, content_type) == 429:
            Link.refusals += 1
            await self.body()
            await asyncio.sleep(1)

    async def _send(self, method: str, path: str, body: Any, content_type: str) -> int:
        # the server ends connections that are idle
        if self._streams is None or self._streams[0].at_eof():
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self.server.port, ssl=self.context, limit=1 << 20
            )
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        head = [
            f"{method} {path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {self.token}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(data)}",
        ]
        writer.write("\r\n".join([*head, "", ""]).encode() + data)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])
        }
        status = int(lines[0].split()[1])
        if not (200 <= status < 300 or status == 429):
            raise AssertionError(f"{method} {path}: {lines[0]} {(await self.body())[:300]!r}")
        return status

    async def body(self) -> bytes:
        """The whole answer."""
        if "content-length" in self.headers:
            assert self._streams is not None
            return await self._streams[0].readexactly(int(self.headers["content-length"]))
        return b"".join([data async for data in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of an answer as they come."""
        assert self._streams is not None
        reader = self._streams[0]
        while size := int(await reader.readline(), 16):
            data = await reader.readexactly(size + 2)
            self.received += size
            yield data[:-2]
        await reader.readline()

    async def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        """A request and its answer."""
        await self.send(method, path, body, content_type)
        return json.loads(await self.body())


@define(eq=False)
class SimAgent:
    """What one agent holds open. seen: events of profiles."""

    node: str
    writer: Link
    watches: list[Link] = field(factory=list)
    tasks: list[asyncio.Future[None]] = field(factory=list)
    seen: asyncio.Event = field(factory=asyncio.Event)

    async def watch(self, path: str, query: str) -> None:
        """List, then follow a kind for ever."""
        link = Link(self.writer.server, self.writer.token, self.writer.context)
        listed = await link.ask("GET", f"{path}?limit=500&{query}")
        self.watches.append(link)
        await link.send(
            "GET",
            f"{path}?watch=true&allowWatchBookmarks=true&resourceVersion={listed['metadata']['resourceVersion']}&{query}",
        )
        self.tasks.append(asyncio.ensure_future(self._follow(link, path)))

    async def _follow(self, link: Link, path: str) -> None:
        async for data in link.chunks():
            if path.endswith("powerprofiles") and b'"BOOKMARK"' not in data:
                self.seen.set()

    async def open(self) -> None:
        """All seven."""
        await self.watch("/api/v1/nodes", f"fieldSelector=metadata.name%3D{self.node}")
        await self.watch("/api/v1/pods", f"fieldSelector=spec.nodeName%3D{self.node}")
        for kind in KINDS:
            await self.watch(f"{SPACE}/{kind}", f"labelSelector=!{GENERATED}")

    async def report(self, bodies: tuple[Any, Any]) -> None:
        """Both statuses, as an agent writes them."""
        for plural, kind, name, body in zip(
            ("powernodestates", "powernodes"),
            ("PowerNodeState", "PowerNode"),
            (state_name(self.node), self.node),
            bodies,
            strict=True,
        ):
            whole = {
                "apiVersion": f"{GROUP}/v1",
                "kind": kind,
                "metadata": {"name": name, "namespace": NAMESPACE},
                "status": body,
            }
            await self.writer.ask(
                "PATCH",
                f"{SPACE}/{plural}/{name}/status?fieldManager=power-node-agent&force=true",
                whole,
                APPLY,
            )


def manifests(shared_max: str) -> list[dict[str, Any]]:
    """Twenty profiles and one that is shared, with its workload, as a user writes them."""
    specs: dict[tuple[str, str], dict[str, Any]] = {
        ("PowerProfile", f"profile-{number:02}"): {"pstates": {"min": f"{number}%", "max": "95%"}}
        for number in range(PROFILES)
    }
    specs["PowerProfile", "shared"] = {"shared": True, "pstates": {"max": shared_max}}
    reserved = [{"cores": [0, 1]}]
    specs["PowerWorkload", "shared"] = {
        "allCores": True,
        "powerProfile": "shared",
        "powerNodeSelector": {LABEL: "true"},
        "reservedCPUs": reserved,
    }
    return [
        {
            "apiVersion": f"{GROUP}/v1",
            "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
        for (kind, name), spec in specs.items()
    ]


def objects(shared_max: str) -> Intent:
    """The same as values."""
    found = [
        read_object(document, document["kind"], GROUP)[0] for document in manifests(shared_max)
    ]
    return Intent(
        tuple(item for item in found if isinstance(item, PowerProfile)),
        tuple(item for item in found if isinstance(item, PowerWorkload)),
    )


def statuses(shared_max: str) -> tuple[Any, Any]:
    """What an agent reports under these objects."""
    machine = build_machine(MACHINE)
    item = NodeInput(
        Node("node", {LABEL: "true"}), machine, Allocation(allocatable=frozenset(range(2, 64)))
    )
    plan = plan_node(accept(objects(shared_max)), item)
    workloads = {
        profile.profile.meta.name: workload_name(profile.profile.meta.name, "node")
        for profile in plan.profiles
        if profile.valid and not profile.profile.shared
    }
    supported = [
        (str(entry["name"]), bool(entry["supported"]), str(entry["reason"]))
        for entry in features(machine)
    ]
    state = node_state(plan, machine, Pass(), supported, workloads)
    stamped = tuple(
        evolve(condition, last_transition_time="2026-01-01T00:00:00Z")
        for condition in state.conditions
    )
    state = evolve(state, conditions=stamped)
    if PUBLISH:
        texts = packed(machine) or "", packed(item.allocation) or ""
        state = evolve(state, machine=texts[0], allocation=texts[1])
    return document_of(state), document_of(power_node(plan, machine, (), workloads))


def usage(pid: int) -> dict[str, float]:
    """CPU seconds and resident MiB of a process."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident = next(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return {"cpu_s": (int(words[11]) + int(words[12])) / _TICKS, "mib": resident / 1024}


async def at_most(count: int, work: Iterable[Awaitable[Any]]) -> None:
    """Do all of it, so many at a time."""
    gate = asyncio.Semaphore(count)

    async def one(item: Awaitable[Any]) -> None:
        async with gate:
            await item

    await asyncio.gather(*(one(item) for item in work))


class Bench:
    """The phases, and what each cost."""

    def __init__(self, server: ApiServer, operator: OperatorProcess) -> None:
        self.server, self.operator = server, operator
        self.context = ssl.create_default_context(cafile=str(server.certificate))
        self.results: dict[str, float] = {}
        self.agents: list[SimAgent] = []

    def link(self, token: str = ADMIN_TOKEN) -> Link:
        return Link(self.server, token, self.context)

    async def phase(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Note time, and CPU seconds and memory of server and operator."""
        processes = {
            "apiserver": self.server.processes["kube-apiserver"].pid,
            "etcd": self.server.processes["etcd"].pid,
        }
        if self.operator.process is not None:
            processes["operator"] = self.operator.process.pid
        before, started = {key: usage(pid) for key, pid in processes.items()}, time.monotonic()
        await work()
        self.results[f"{name}_s"] = time.monotonic() - started
        for key, pid in processes.items():
            now = usage(pid)
            self.results[f"{name}_{key}_cpu_s"] = now["cpu_s"] - before[key]["cpu_s"]
            self.results[f"{name}_{key}_mib"] = now["mib"]
        self.results[f"{name}_refusals"] = Link.refusals
        for key, value in self.results.items():
            if key.startswith(name):
                print(f"{key:36} {value:12.3f}", flush=True)

    async def make_nodes(self) -> None:
        """Nodes, a pod of the agent on each, and its token."""
        links = [self.link() for _ in range(8)]

        async def some(link: Link, numbers: range) -> None:
            for number in numbers:
                name = f"node-{number:04}"
                await link.ask(
                    "POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": {LABEL: "true"}}}
                )
                await link.ask(
                    "PATCH",
                    f"/api/v1/nodes/{name}/status",
                    {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
                    MERGE,
                )
                spec = {
                    "nodeName": name,
                    "serviceAccountName": "power-manager-node-agent",
                    "containers": [{"name": "agent", "image": "kpm"}],
                }
                made = await link.ask(
                    "POST",
                    f"/api/v1/namespaces/{NAMESPACE}/pods",
                    {"metadata": {"name": f"agent-{name}"}, "spec": spec},
                )
                bound = {
                    "kind": "Pod",
                    "apiVersion": "v1",
                    "name": f"agent-{name}",
                    "uid": made["metadata"]["uid"],
                }
                asked = {
                    "spec": {
                        "audiences": ["https://kubernetes.default.svc"],
                        "expirationSeconds": 7200,
                        "boundObjectRef": bound,
                    }
                }
                answer = await link.ask(
                    "POST",
                    f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/power-manager-node-agent/token",
                    asked,
                )
                self.agents.append(SimAgent(name, self.link(answer["status"]["token"])))

        await asyncio.gather(
            *(some(link, range(number, NODES, len(links))) for number, link in enumerate(links))
        )

    async def connect(self) -> None:
        """Every agent opens its watches."""
        await at_most(40, (agent.open() for agent in self.agents))

    async def count(self, plural: str, selector: str = "") -> int:
        """How many objects there are."""
        meta = (await self.link().ask("GET", f"{SPACE}/{plural}?limit=1&{selector}"))["metadata"]
        return int(meta.get("remainingItemCount", 0)) + 1

    async def until_quiet(self, seconds: float = 8.0) -> None:
        """The operator has said nothing for a while, which is taken off the time."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            lines = self.operator.log.count("\n")
            if lines != last:
                last, since = lines, time.monotonic()
            await asyncio.sleep(0.5)

    async def install_operator(self) -> None:
        """The operator starts with everything there, and makes the nodes' objects."""
        self.operator.start()
        while await self.count("powernodestates") < NODES:
            await asyncio.sleep(0.5)

    async def first_reports(self) -> None:
        """Every agent writes its two statuses."""
        bodies = statuses("30%")
        self.results["state_bytes"], self.results["power_node_bytes"] = (
            len(json.dumps(body)) for body in bodies
        )
        await asyncio.gather(*(agent.report(bodies) for agent in self.agents))

    async def workloads(self) -> None:
        """The operator makes a workload for each profile and node, and writes its status."""
        while await self.count("powerworkloads") < NODES * PROFILES:
            await asyncio.sleep(1)
        await self.until_quiet()

    async def edit(self) -> None:
        """One edit of the shared profile, up to the last status."""
        for agent in self.agents:
            agent.seen.clear()
            for link in agent.watches:
                link.received = 0
        requests, started = self.audited(), time.monotonic()
        patch = {"spec": {"pstates": {"max": "20%"}}}
        await self.link().ask("PATCH", f"{SPACE}/powerprofiles/shared", patch, MERGE)
        bodies, last = statuses("20%"), 0.0

        async def one(agent: SimAgent) -> None:
            nonlocal last
            await agent.seen.wait()
            last = max(last, time.monotonic() - started)
            await agent.report(bodies)

        await asyncio.gather(*(one(agent) for agent in self.agents))
        self.results["edit_last_agent_sees_it_s"] = last
        self.results["edit_last_status_s"] = time.monotonic() - started
        await self.until_quiet()
        self.results["edit_watch_bytes"] = sum(
            link.received for agent in self.agents for link in agent.watches
        )
        self.results["edit_writes"] = (
            self.audited(("patch", "create", "update", "delete")) - requests
        )

    async def idle(self) -> None:
        """Nothing changes for a minute."""
        before = self.audited(None)
        await asyncio.sleep(60)
        self.results["idle_requests"] = self.audited(None) - before

    async def verbs(self) -> None:
        """What a person asks of the whole cluster: its status, and what an edit would change."""
        policy = self.server.folder / "edit.json"
        policy.write_text(json.dumps({"kind": "List", "items": manifests("10%")}))
        verbs = {
            "status_verb": ["status"],
            "plan_verb": ["plan", "-f", str(policy), "-o", "json"],
        }
        for name, words in verbs.items():
            if words[0] == "plan" and not PUBLISH:
                continue
            seconds, mib = await asyncio.to_thread(self.timed, words)
            self.results[f"{name}_s"], self.results[f"{name}_mib"] = seconds, mib

    def timed(self, words: list[str]) -> tuple[float, float]:
        """Seconds and peak MiB of a verb of `kubectl power` as a process."""
        # its own count of its memory: a child's begins with that of the process that it is made by
        note = self.server.folder / "verb.status"
        program = (
            "import atexit, pathlib\n"
            f"note = pathlib.Path({str(note)!r})\n"
            "own = pathlib.Path('/proc/self/status')\n"
            "atexit.register(lambda: note.write_text(own.read_text()))\n"
            "from kpm.__main__ import kubectl_power\n"
            "kubectl_power()\n"
        )
        config = str(self.server.folder / "admin.kubeconfig")
        place = ["--kubeconfig", config, "--namespace", NAMESPACE]
        started = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-c", program, *words, *place],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPO)},
            check=False,
        )
        seconds = time.monotonic() - started
        assert ran.returncode in (0, 1), ran.stderr[:500]
        assert str(NODES) in ran.stdout, ran.stdout[:300]
        most = next(line for line in note.read_text().splitlines() if line.startswith("VmHWM"))
        return seconds, int(most.split()[1]) / 1024

    def audited(
        self, verbs: tuple[str, ...] | None = ("patch", "create", "update", "delete")
    ) -> int:
        """Requests in the audit log, but for the admin's."""
        found = 0
        with (self.server.folder / "audit.log").open() as log:
            for line in log:
                if '"username":"system:serviceaccount:' in line and (
                    verbs is None or any(f'"verb":"{verb}"' in line for verb in verbs)
                ):
                    found += 1
        return found

    async def run(self) -> None:
        """All phases."""
        await self.phase("nodes", self.make_nodes)
        await self.phase("connect", self.connect)
        await self.phase("install", self.install_operator)
        await self.phase("report", self.first_reports)
        await self.phase("workloads", self.workloads)
        await self.phase("edit", self.edit)
        await self.phase("idle", self.idle)
        await self.phase("verbs", self.verbs)


def main() -> None:
    """Measure, print, write."""
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    ) as folder:
        server = ApiServer(Path(folder))
        operator = OperatorProcess(server, Path(folder))
        bench = None
        try:
            server.start()
            install(server)
            selector = {"powerNodeSelector": {LABEL: "true"}}
            config = {
                "apiVersion": f"{GROUP}/v1",
                "kind": "PowerConfig",
                "metadata": {"name": "config", "namespace": NAMESPACE},
                "spec": selector,
            }
            server.apply(config, *manifests("30%"))
            wait_for(
                "the objects are there",
                lambda: server.get("powerprofile", "shared", "-n", NAMESPACE),
            )
            bench = Bench(server, operator)
            asyncio.run(bench.run())
        finally:
            operator.end(9)
            server.close()
    keep(
        "scale" if PUBLISH else "scale-without-machines",
        {"nodes": NODES, "profiles": PROFILES, "results": bench.results},
    )


if __name__ == "__main__":
    main()
