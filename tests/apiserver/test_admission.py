"""What the API server refuses, and with which words; what it takes; what kubectl shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpm.request.objects import read_cluster
from kpm_planner.model.problems import has_errors
from kpm_planner.validate import validate_intent
from tests.apiserver.nodes import NAMESPACE
from tests.apiserver.server import ApiServer

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).parents[2]
DPDK = {"pstates": {"governor": "userspace"}, "cpuScalingPolicy": {"workloadType": "polling-dpdk"}}

#: What is wrong, kind, spec, a part of the refusal.
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "minimum above maximum, MHz": (
        "PowerProfile",
        {"pstates": {"min": 2000, "max": 1000}},
        "min must not be above max",
    ),
    "minimum above maximum, MHz and kHz": (
        "PowerProfile",
        {"pstates": {"min": 2000, "max": 1500000}},
        "min must not be above max",
    ),
    "minimum above maximum, per cent": (
        "PowerProfile",
        {"pstates": {"min": "50%", "max": "20%"}},
        "min must not be above max",
    ),
    "words the wrong way round": (
        "PowerProfile",
        {"pstates": {"min": "max", "max": "min"}},
        "min must not be above max",
    ),
    "a word above a percentage": (
        "PowerProfile",
        {"pstates": {"min": "max", "max": "99%"}},
        "min must not be above max",
    ),
    "a word that is none": ("PowerProfile", {"pstates": {"max": "bases"}}, "min, base or max"),
    "an uncore word that is none": (
        "Uncore",
        {"sysMin": "base", "sysMax": "max"},
        "as kHz, min or max",
    ),
    "uncore words the wrong way round": (
        "Uncore",
        {"sysMin": "max", "sysMax": "min"},
        "min not above max",
    ),
    "a die without order": (
        "Uncore",
        {"dieSelector": [{"package": 0, "min": 2000000, "max": 1000000}]},
        "min not above max",
    ),
    "a frequency of zero": ("PowerProfile", {"pstates": {"min": 0}}, "MHz below 100000"),
    "a frequency with a unit": ("PowerProfile", {"pstates": {"max": "2GHz"}}, "percentage from"),
    "more than all": ("PowerProfile", {"pstates": {"max": "101%"}}, "percentage from"),
    "an unknown EPP": ("PowerProfile", {"pstates": {"epp": "fast"}}, "Unsupported value"),
    "a bias of too much": ("PowerProfile", {"pstates": {"epb": 16}}, "epb must be 0 to 15"),
    "an unknown bias": ("PowerProfile", {"pstates": {"epb": "07"}}, "epb must be 0 to 15"),
    "an EPP that the governor excludes": (
        "PowerProfile",
        {"pstates": {"governor": "performance", "epp": "power"}},
        "epp must be performance",
    ),
    "idle states by name and by latency": (
        "PowerProfile",
        {"cstates": {"names": {"C1": True}, "maxLatencyUs": 5}},
        "only one of them",
    ),
    "a negative latency": (
        "PowerProfile",
        {"cstates": {"maxLatencyUs": -1}},
        "greater than or equal to 0",
    ),
    "no capacity": ("PowerProfile", {"cpuCapacity": 0}, "cpuCapacity must be"),
    "a capacity of no per cent": ("PowerProfile", {"cpuCapacity": "0%"}, "cpuCapacity must be"),
    "another name inside": ("PowerProfile", {"name": "other"}, "spec.name must be metadata.name"),
    "an operator that is none": (
        "PowerProfile",
        {
            "nodeSelector": {
                "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}
            }
        },
        "Unsupported value",
    ),
    "an operator without values": (
        "PowerProfile",
        {"nodeSelector": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
        "need values",
    ),
    "a label with typographic quotes": (
        "PowerNodeConfig",
        {"nodeSelector": {"labelSelector": {"matchLabels": {"“zone”": "a"}}}},
        "keys must be keys of labels",
    ),
    "a value with typographic quotes": (
        "PowerWorkload",
        {"powerNodeSelector": {"zone": "“a”"}},
        "values must be values of labels",
    ),
    "an expression about no label": (
        "PowerProfile",
        {
            "nodeSelector": {
                "labelSelector": {"matchExpressions": [{"key": "“a”", "operator": "Exists"}]}
            }
        },
        "should match",
    ),
    "scaling without its governor": (
        "PowerProfile",
        {"cpuScalingPolicy": {"workloadType": "polling-dpdk"}},
        "governor userspace",
    ),
    "scaling of nothing": (
        "PowerProfile",
        {**DPDK, "cpuScalingPolicy": {}},
        "workloadType is needed",
    ),
    "a sample too often": (
        "PowerProfile",
        {**DPDK, "cpuScalingPolicy": {"workloadType": "polling-dpdk", "samplePeriod": "5ms"}},
        "from 10ms to 1s",
    ),
    "a sample too rarely": (
        "PowerProfile",
        {**DPDK, "cpuScalingPolicy": {"workloadType": "polling-dpdk", "samplePeriod": "2s"}},
        "from 10ms to 1s",
    ),
    "a cool-down too short": (
        "PowerProfile",
        {
            **DPDK,
            "cpuScalingPolicy": {
                "workloadType": "polling-dpdk",
                "samplePeriod": "50ms",
                "cooldownPeriod": "20ms",
            },
        },
        "not be below samplePeriod",
    ),
    "a target of nothing": (
        "PowerProfile",
        {**DPDK, "cpuScalingPolicy": {"workloadType": "polling-dpdk", "targetUsage": 0}},
        "greater than or equal to 1",
    ),
    "all cores under nothing": ("PowerWorkload", {"allCores": True}, "spec.powerProfile is needed"),
    "a negative CPU": (
        "PowerWorkload",
        {"reservedCPUs": [{"cores": [-1]}]},
        "greater than or equal to 0",
    ),
    "one end of an uncore range": ("Uncore", {"sysMin": 1200000}, "both of min and max"),
    "an uncore range upside down": (
        "Uncore",
        {"sysMin": 2200000, "sysMax": 1200000},
        "both of min and max",
    ),
    "a die without package": (
        "Uncore",
        {"dieSelector": [{"die": 0, "min": 1200000, "max": 1300000}]},
        "package is needed",
    ),
    "a die with one end": (
        "Uncore",
        {"dieSelector": [{"package": 0, "min": 1200000}]},
        "both of min and max",
    ),
    "a fabric with one end": ("Uncore", {"amd": {"dfPstateMin": 1}}, "both ends are needed"),
    "a fabric the wrong way round": (
        "Uncore",
        {"amd": {"dfPstateMin": 0, "dfPstateMax": 2}},
        "0 is the fastest",
    ),
    "a cap from nowhere": ("PowerCap", {"source": {}}, "exactly one of"),
    "a cap without source": ("PowerCap", {}, "source is needed"),
    "a cap from two sources": (
        "PowerCap",
        {"source": {"static": {"watts": 100}, "solar": {"peakWatts": 100}}},
        "exactly one of",
    ),
    "a cap of nothing": (
        "PowerCap",
        {"source": {"static": {"watts": 0}}},
        "greater than or equal to 1",
    ),
    "a cap without watts": ("PowerCap", {"source": {"static": {}}}, "watts is needed"),
    "a schedule at no time": (
        "PowerCap",
        {"source": {"schedule": [{"time": "25:10", "watts": 1}]}},
        "should match",
    ),
    "a schedule of both": (
        "PowerCap",
        {"source": {"schedule": [{"time": "08:00", "watts": 100, "percent": 5}]}},
        "exactly one of watts and percent",
    ),
    "a schedule on no day": (
        "PowerCap",
        {"source": {"schedule": [{"time": "08:00", "watts": 100, "days": ["Monday"]}]}},
        "Unsupported value",
    ),
    "a sun that sets before it rises": (
        "PowerCap",
        {"source": {"solar": {"peakWatts": 100, "sunrise": "20:30"}}},
        "sunset must be after sunrise",
    ),
    "a market without trade": (
        "PowerCap",
        {"source": {"market": {"peakWatts": 100, "volumes": [0, 0]}}},
        "not all 0",
    ),
    "an address of a file": (
        "PowerCap",
        {"source": {"external": {"url": "file:///etc/shadow"}}},
        "http://",
    ),
    "a map without key": (
        "PowerCap",
        {"source": {"external": {"configMap": {"name": "a"}}}},
        "name and key are needed",
    ),
    "a floor above the roof": (
        "PowerCap",
        {"source": {"static": {"watts": 100}}, "minWatts": 300, "maxWatts": 200},
        "minWatts must not be above",
    ),
    "a period too short": (
        "PowerCap",
        {"source": {"static": {"watts": 100}}, "period": "1s"},
        "from 5s to 1h",
    ),
    "a resync too often": ("PowerConfig", {"agent": {"resyncPeriod": "1s"}}, "at least 5s"),
    "a socket somewhere else": (
        "PowerConfig",
        {"agent": {"claimSocket": "/etc/../run/x.sock"}},
        "/var/lib/kubelet/plugins/DRIVER/NAME",
    ),
    "meters read too seldom": (
        "PowerConfig",
        {"agent": {"metrics": {"interval": "61s"}}},
        "from 1s to 60s",
    ),
    "meters read all the time": (
        "PowerConfig",
        {"agent": {"metrics": {"interval": "0s"}}},
        "from 1s to 60s",
    ),
    "an interval in words": (
        "PowerConfig",
        {"agent": {"metrics": {"interval": "often"}}},
        "from 1s to 60s",
    ),
    "an unknown level": (
        "PowerConfig",
        {"agent": {"metrics": {"levels": ["vm"]}}},
        "Unsupported value",
    ),
    "an unknown owner of idle energy": (
        "PowerConfig",
        {"agent": {"metrics": {"idle": "everybody"}}},
        "Unsupported value",
    ),
    "an unknown repair": ("PowerConfig", {"agent": {"repair": "maybe"}}, "Unsupported value"),
    "a toleration of everything with a value": (
        "PowerConfig",
        {"agent": {"tolerations": [{"operator": "Exists", "value": "x"}]}},
        "takes no value",
    ),
}


def document(kind: str, spec: dict[str, Any], name: str = "odd") -> dict[str, Any]:
    return {
        "apiVersion": "power.openshift.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


@pytest.mark.parametrize("what", WRONG)
def test_what_can_be_known_at_admission_is_refused_there(server: ApiServer, what: str) -> None:
    """kubectl apply fails, and says field, value and what is allowed (field reports 9, 32, 42,
    54).
    """
    kind, spec, words = WRONG[what]
    done = server.kubectl(
        "apply",
        "--dry-run=server",
        "-f",
        "-",
        given=yaml.safe_dump(document(kind, spec)),
        check=False,
    )
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize("what", WRONG)
def test_the_offline_check_refuses_it_too(what: str, tmp_path: Path) -> None:
    """`kpm validate` and the API server agree; settings of the agent are the API server's alone."""
    kind, spec, _ = WRONG[what]
    if kind == "PowerConfig" or "operator that is none" in what:
        return
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(document(kind, spec)))
    problems = validate_intent(read_cluster([str(path)]).intent)
    assert has_errors(problems) or "name" in what, problems


def test_an_unknown_field_is_named(server: ApiServer) -> None:
    """kubectl's own check: a slip of the pen is not dropped in silence (field report 60)."""
    done = server.kubectl(
        "apply",
        "--dry-run=server",
        "-f",
        "-",
        given=yaml.safe_dump(document("PowerProfile", {"pstate": {"max": 1000}})),
        check=False,
    )
    assert done.returncode != 0
    assert 'unknown field "spec.pstate"' in done.stderr


def test_a_name_that_fits_in_no_resource_is_refused(server: ApiServer) -> None:
    """An extended resource's name ends after 63 characters."""
    done = server.kubectl(
        "apply",
        "--dry-run=server",
        "-f",
        "-",
        given=yaml.safe_dump(document("PowerProfile", {}, "n" * 64)),
        check=False,
    )
    assert done.returncode != 0
    assert "at most 63 characters" in done.stderr
    server.kubectl(
        "apply",
        "--dry-run=server",
        "-f",
        "-",
        given=yaml.safe_dump(document("PowerProfile", {}, "n" * 63)),
    )


@pytest.mark.parametrize(
    "path", sorted(REPO.glob("examples/example-*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_example_is_taken(server: ApiServer, path: Path) -> None:
    """As written (field report 55); the kubelet's configuration is a file, not an object."""
    if "kubelet" not in path.stem:
        server.kubectl("apply", "--dry-run=server", "-f", str(path))


@pytest.mark.parametrize(
    "path", sorted(REPO.glob("examples/*/objects.yaml")), ids=lambda path: path.parent.name
)
def test_every_policy_that_has_no_errors_offline_is_taken(server: ApiServer, path: Path) -> None:
    """What `kpm validate` takes, the API server takes; the namespace is the system's."""
    if has_errors(validate_intent(read_cluster([str(path)]).intent)):
        pytest.skip("has mistakes on purpose")
    for item in yaml.safe_load_all(path.read_text()):
        if str(item["apiVersion"]).startswith("power.openshift.io") and not isinstance(
            (item["spec"].get("reservedCPUs") or [{}])[0], int
        ):
            item["metadata"].setdefault("namespace", NAMESPACE)
            server.kubectl("apply", "--dry-run=server", "-f", "-", given=yaml.safe_dump(item))


#: Manifests as users of the two source documents have them, in the installed group.
SEEDS = [
    document(
        "PowerConfig",
        {
            "powerNodeSelector": {"feature.node.kubernetes.io/power-node": "true"},
            "customDevices": ["example.com/cpus"],
        },
        "power-config",
    ),
    document(
        "PowerProfile",
        {
            "name": "performance-example",
            "cpuCapacity": "75%",
            "pstates": {"max": 3700, "min": 3300, "epp": "performance"},
            "cstates": {"names": {"C1": True, "C6": False}},
            "nodeSelector": {
                "labelSelector": {
                    "matchExpressions": [{"key": "test", "operator": "In", "values": ["test"]}]
                }
            },
        },
        "performance-example",
    ),
    document(
        "PowerProfile",
        {
            "name": "shared-example",
            "shared": True,
            "pstates": {"max": 1500, "min": 1000, "epp": "power", "governor": "powersave"},
        },
        "shared-example",
    ),
    document(
        "PowerWorkload",
        {
            "name": "shared-example-workload",
            "allCores": True,
            "reservedCPUs": [{"cores": [0, 1], "powerProfile": "performance"}],
            "powerNodeSelector": {"kubernetes.io/hostname": "example-node"},
            "powerProfile": "shared-example",
        },
        "shared-example-workload",
    ),
    document(
        "Uncore",
        {
            "sysMax": 2300000,
            "sysMin": 1300000,
            "dieSelector": [{"package": 0, "die": 0, "min": 1500000, "max": 2400000}],
        },
        "example-node",
    ),
]


@pytest.mark.parametrize(
    "item", SEEDS, ids=lambda item: f"{item['kind']} {item['metadata']['name']}"
)
def test_manifests_of_the_earlier_systems_apply_unchanged(
    server: ApiServer, item: dict[str, Any]
) -> None:
    """Without a warning about an unknown field."""
    done = server.kubectl("apply", "--dry-run=server", "-f", "-", given=json.dumps(item))
    assert "unknown" not in done.stderr


@pytest.mark.parametrize(
    "field",
    [
        "powerprofile.spec.pstates.min",
        "powerworkload.spec.reservedCPUs.cores",
        "powerconfig.spec.agent.repair",
        "pns.status.sizes",
        "uncore.spec.dieSelector",
        "powercap.spec.source.schedule",
    ],
)
def test_kubectl_explain_tells_every_field(server: ApiServer, field: str) -> None:
    """A description, not a blank."""
    text = server.kubectl("explain", field).stdout
    assert len(text.partition("DESCRIPTION:")[2].strip()) > 15


def test_the_other_group_can_be_installed_beside(server: ApiServer) -> None:
    """The definitions and manifests of power.intel.com are valid as well."""
    server.kubectl("apply", "--server-side", "--dry-run=server", "-k", str(REPO / "crds/intel"))
    shown = server.kubectl("kustomize", str(REPO / "deploy/overlays/intel")).stdout
    assert "power.openshift.io" not in shown
    assert "namespace: power-manager" not in shown
    server.kubectl("create", "namespace", "intel-power", check=False)
    server.kubectl("apply", "--dry-run=server", "-f", "-", given=shown)


@pytest.mark.parametrize(
    "overlay", ["overlays/default", "overlays/privileged", "overlays/hsmp", "powercap"]
)
def test_the_manifests_are_valid(server: ApiServer, overlay: str) -> None:
    """The API server's own dry run; OpenShift's SCC is a kind that it does not have."""
    server.kubectl("apply", "--dry-run=server", "-k", str(REPO / "deploy" / overlay))


def test_a_status_cannot_be_written_with_the_object(server: ApiServer) -> None:
    """Spec and status are apart."""
    server.apply(
        {**document("PowerProfile", {"shared": True}, "apart"), "status": {"errors": ["no"]}}
    )
    assert "status" not in server.get("powerprofile", "apart", "-n", NAMESPACE)
