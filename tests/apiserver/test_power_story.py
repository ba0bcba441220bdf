"""Power caps, fabrics and turbo through a real API server: from kubectl to the file and back; and
the earlier capping tool's DaemonSet.
"""

from __future__ import annotations

import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpm.request.machines import MODELS, MachineSpec, PowerSpec
from tests.apiserver.nodes import LABEL, NAMESPACE, SimNode, run_kpm
from tests.apiserver.server import ApiServer, wait_for
from tests.apiserver.test_story import condition, example, state
from tests.apiserver.world import World

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
EVERY: dict[str, Any] = {"labelSelector": {}}
INTEL = MachineSpec(
    packages=2, cores=2, power=PowerSpec(max_watts=165, short_watts=198), boost=True
)
RAPL = "devices/virtual/powercap/intel-rapl/intel-rapl:{}/constraint_0_power_limit_uw"


def power(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "power.openshift.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"nodeSelector": EVERY, **spec},
    }


def watts(node: SimNode) -> list[float]:
    """The long-term limits of the packages, or AMD's caps."""
    return [
        int(text) / 1e6
        for path, text in sorted(node.shown().items())
        if path.endswith(("constraint_0_power_limit_uw", "power1_cap"))
    ]


def test_a_cap_from_kubectl_to_the_file_and_back(server: ApiServer, world: World) -> None:
    """Set, edited, followed from a ConfigMap, kept over a kill, repaired, restored (field reports
    8, 35, 36).
    """
    nodes = {
        "intel": world.node("intel", INTEL),
        "amd": world.node("amd", MODELS["epyc"]),
        "bare": world.node("bare", MachineSpec(cores=2)),
    }
    world.start()
    for name in nodes:
        server.kubectl("label", "node", name, f"{LABEL}=true")
    example(server, "powerconfig")
    intel, amd = nodes["intel"], nodes["amd"]

    server.apply(power("PowerCap", "budget", source={"static": {"watts": 200}}))
    wait_for("the budget is divided over two packages", lambda: watts(intel) == [100, 100])
    wait_for("one package has it all", lambda: watts(amd) == [200])
    wait_for(
        "the cap is said to be in force",
        lambda: condition(server, "intel", "CapHonoured") == ("True", "InForce"),
    )
    assert [item["milliwatts"] for item in state(server, "intel")["powerCaps"]] == [
        100_000,
        100_000,
    ]
    wait_for(
        "the node without limits says so",
        lambda: condition(server, "bare", "CapSupported") == ("False", "Missing"),
    )
    assert condition(server, "bare", "Ready") == ("True", "Settled")  # field report 37
    wait_for(
        "nothing is wrong with the cap",
        lambda: server.get("powercap", "budget", "-n", NAMESPACE).get("status") == {"errors": []},
    )

    server.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "meter", "namespace": NAMESPACE},
            "data": {"watts": "120"},
        }
    )
    external = {"external": {"configMap": {"name": "meter", "key": "watts"}}}
    server.apply(power("PowerCap", "budget", source={"static": None, **external}, period="5s"))
    wait_for("the number of the ConfigMap", lambda: watts(intel) == [60, 60])
    server.kubectl(
        "patch",
        "configmap",
        "meter",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        '{"data":{"watts":"180"}}',
    )
    wait_for("the new number", lambda: watts(intel) == [90, 90] and watts(amd) == [180])

    world.daemon_sets.pause()  # type: ignore[union-attr]
    intel.end_agent(signal.SIGKILL)
    (intel.folder / "sys" / RAPL.format(0)).write_text("50000000\n")
    world.daemon_sets.resume()  # type: ignore[union-attr]
    wait_for("somebody else's value is gone", lambda: watts(intel) == [90, 90])

    server.apply(
        power(
            "PowerCap",
            "budget",
            source={
                "external": None,
                "schedule": [{"time": "08:00", "watts": 200}],
                "timeZone": "Europe/Nowhere",
            },
        )
    )
    wait_for(
        "the object says what is wrong",
        lambda: (
            "Europe/Nowhere" in str(server.get("powercap", "budget", "-n", NAMESPACE).get("status"))
        ),
    )
    wait_for("and sets nothing", lambda: intel.shown() == intel.before)

    server.apply(
        power(
            "PowerCap",
            "budget",
            source={"schedule": None, "timeZone": None, "static": {"watts": 100}},
        )
    )
    wait_for("capped again", lambda: watts(intel) == [50, 50])
    server.kubectl("delete", "powercap", "budget", "-n", NAMESPACE)
    wait_for(
        "everything is as it was",
        lambda: (
            {name: node.shown() for name, node in nodes.items()}
            == {name: node.before for name, node in nodes.items()}
        ),
    )


def test_fabric_and_turbo(server: ApiServer, world: World) -> None:
    """A P-state of AMD's fabric and a node without turbo; both go back
    when the PowerConfig goes.
    """
    amd, intel = world.node("amd", MODELS["epyc"]), world.node("intel", INTEL)
    world.start()
    for name in ("amd", "intel"):
        server.kubectl("label", "node", name, f"{LABEL}=true")
    example(server, "powerconfig")
    turbo = intel.folder / "sys/devices/system/cpu/intel_pstate/no_turbo"
    server.apply(
        power("Uncore", "fabric", amd={"dfPstateMin": 2, "dfPstateMax": 1}),
        power("PowerNodeConfig", "steady", turbo=False),
    )
    wait_for("the fabric's range", lambda: amd.shown()["hsmp/socket0/df_pstate"] == "2 1")
    wait_for("turbo is off", lambda: turbo.read_text().strip() == "1")
    wait_for(
        "the node says so",
        lambda: (
            state(server, "amd").get("fabrics") == [{"package": 0, "pstates": "2 1"}]
            and state(server, "intel").get("turbo") is False
        ),
    )
    wait_for(
        "a node without a fabric says so",
        lambda: "fabric" in str(server.get("uncore", "fabric", "-n", NAMESPACE).get("status")),
    )
    server.kubectl("delete", "powerconfig", "power-config", "-n", NAMESPACE, "--timeout=40s")
    assert amd.shown() == amd.before
    assert intel.shown() == intel.before
    assert turbo.read_text().strip() == "0"


@pytest.fixture
def powercap(server: ApiServer) -> Any:
    """The manifests of deploy/powercap, without its pods."""
    server.kubectl("apply", "-k", str(REPO / "deploy/powercap"))
    yield
    server.kubectl("delete", "-k", str(REPO / "deploy/powercap"), "--wait=false")


def annotations_of(server: ApiServer, node: str) -> dict[str, str]:
    found = (server.get("node", node) or {"metadata": {}})["metadata"].get("annotations") or {}
    return {key: value for key, value in found.items() if key.startswith("rapl/")}


def token_on(server: ApiServer, node: str) -> str:
    """A token of the tool's account, bound to a pod on a node."""
    spec = {
        "nodeName": node,
        "serviceAccountName": "powercap",
        "containers": [{"name": "powercap", "image": "kpm"}],
        "automountServiceAccountToken": False,
    }
    server.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"powercap-{node}", "namespace": "default"},
            "spec": spec,
        }
    )
    return server.token("powercap", "default", f"powercap-{node}")


@pytest.mark.usefixtures("powercap")
def test_the_earlier_tools_daemon_set(
    server: ApiServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings cap a node, its annotations say so by one patch each; told to stop, it puts
    limits and annotations back.
    """
    node = world.node("one", INTEL)
    manifest = next(
        item
        for item in yaml.safe_load_all((REPO / "deploy/powercap/powercap.yaml").read_text())
        if item["kind"] == "DaemonSet"
    )
    for item in manifest["spec"]["template"]["spec"]["containers"][0]["env"]:
        monkeypatch.setenv(item["name"], item.get("value", "one"))
    monkeypatch.setenv("DATA_PROVIDER", "static")
    monkeypatch.delenv("RAPL_LIMIT")
    config = server.kubeconfig("powercap", token_on(server, "one"))
    log = node.folder / "powercap.log"
    process = run_kpm(
        [
            "powercap",
            "--sysfs",
            str(node.folder / "sys"),
            "--state-dir",
            str(node.folder / "state"),
            "--kubeconfig",
            str(config),
        ],
        log,
    )
    wait_for("the node's power is divided", lambda: watts(node) == [70, 70])
    wait_for(
        "the Node says so",
        lambda: annotations_of(server, "one").get("rapl/pmax") == "140000000",
    )
    assert annotations_of(server, "one").keys() == {
        "rapl/pmax",
        "rapl/max_power_uw",
        "rapl/provider",
        "rapl/last-update",
    }
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, log.read_text()
    assert node.shown() == node.before
    assert annotations_of(server, "one") == {}


@pytest.mark.usefixtures("powercap")
def test_the_earlier_tools_account_may_annotate_its_own_node_and_nothing_else(
    server: ApiServer, world: World
) -> None:
    """It was allowed everything of every node (field report 40)."""
    for name in ("one", "two"):
        world.node(name, MachineSpec(cores=2))
    token = token_on(server, "one")

    def patched(path: str, body: str) -> int:
        return server.patch(token, f"/api/v1/nodes/{path}", body)[0]

    turns = count()
    wait_for(
        "its own annotations",
        lambda: patched("one", '{"metadata":{"annotations":{"rapl/pmax":"1"}}}') == 200,
    )
    wait_for(
        "the policy is in force",
        lambda: (
            patched("one", f'{{"metadata":{{"annotations":{{"try-{next(turns)}":"1"}}}}}}')
            in (403, 422)
        ),
    )
    assert patched("two", '{"metadata":{"annotations":{"rapl/pmax":"1"}}}') in (403, 422)
    assert patched("one", '{"metadata":{"annotations":{"other":"1"}}}') in (403, 422)
    assert patched("one", '{"metadata":{"labels":{"a":"b"}}}') in (403, 422)
    assert patched("one", '{"spec":{"unschedulable":true}}') in (403, 422)
    assert patched("one", '{"metadata":{"finalizers":["a.example.com/b"]}}') in (403, 422)
    assert patched("one/status", '{"status":{"capacity":{"cpu":"99"}}}') in (403, 422)
