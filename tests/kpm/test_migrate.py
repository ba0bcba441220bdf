"""What other systems say of power, in our words: the same values are asked for, what changes in
meaning has a word, nothing is passed over, and no input breaks it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kpm.formats.wire import structure_object
from kpm.migrate.findings import Fate, Migration
from kpm.migrate.rivals import fighting
from kpm.migrate.sources import Sources, from_files
from kpm.migrate.translate import migrate
from tests.kpm.cli_rig import kpm

REPO = Path(__file__).parents[2]
SAMPLES = REPO / "tests/apiserver/migration"
Document = dict[str, Any]


def document(kind: str, spec: Document, group: str = "power.intel.com/v1", **meta: Any) -> Document:
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "it", **meta}, "spec": spec}


def migrated(*items: Document, **profiles: str) -> Migration:
    return migrate(Sources(items, tuple(profiles.items())))


def spec_of(out: Migration, kind: str, name: str = "it") -> Document:
    found = out.find(kind, name)
    assert found is not None, f"no {kind}/{name} in {out.objects}"
    spec: Document = found["spec"]
    return spec


def fates(out: Migration, fate: Fate) -> set[str]:
    return {f"{item.object} {item.field}".strip() for item in out.findings if item.fate is fate}


# --- the earlier operators ---


@pytest.mark.parametrize("name", ["intel", "openshift", "amd"])
def test_every_object_of_an_earlier_operator_is_ours_or_has_a_word(name: str) -> None:
    """And what comes out is valid here."""
    sources = from_files([str(SAMPLES / f"{name}.yaml")])
    out = migrate(sources)
    made = {(item["kind"], item["metadata"]["name"]) for item in out.objects}
    told = {item.object for item in out.findings}
    for item in sources.objects:
        kind, name = item["kind"], item["metadata"]["name"]
        assert (kind, name) in made or f"{kind}/{name}" in told
    for item in out.objects:
        structure_object(item)
    assert not [item for item in out.findings if "is not valid here" in item.text]


def test_a_flat_profile_asks_for_the_same() -> None:
    """Its limits below pstates; their governor and capacity, which were defaults, written out."""
    flat = {"name": "it", "min": 3300, "max": 3600, "epp": "performance"}
    assert spec_of(migrated(document("PowerProfile", flat)), "PowerProfile") == {
        "name": "it",
        "cpuCapacity": "40%",
        "pstates": {"min": 3300, "max": 3600, "epp": "performance", "governor": "powersave"},
    }


def test_a_limit_of_zero_was_the_hardwares() -> None:
    out = migrated(document("PowerProfile", {"min": 0, "max": 0, "epp": "power", "shared": True}))
    pstates = {"epp": "power", "governor": "powersave"}
    assert spec_of(out, "PowerProfile") == {"shared": True, "pstates": pstates}


@pytest.mark.parametrize(
    ("name", "top", "capacity"),
    [("performance", 100, 40), ("balance-performance", 75, 60), ("balance-power", 50, 80)],
)
def test_profiles_that_were_made_by_name_are_written_out(
    name: str, top: int, capacity: int
) -> None:
    """As the documents of that operator show them on a machine of 0.8 to 3.6 GHz."""
    out = migrated(document("PowerConfig", {"powerProfiles": [name], "powerNodeSelector": {}}))
    spec = spec_of(out, "PowerProfile", name)
    assert spec["pstates"]["max"] == f"{top}%"
    assert spec["cpuCapacity"] == f"{capacity}%"
    assert "PowerConfig/it spec.powerProfiles" in fates(out, Fate.CHANGED)


def test_reserved_cpus_of_the_first_releases_are_a_list() -> None:
    spec = {"allCores": True, "reservedCPUs": [0, 1], "powerProfile": "shared"}
    out = migrated(document("PowerWorkload", {**spec, "powerNodeSelector": {"a": "b"}}))
    assert spec_of(out, "PowerWorkload")["reservedCPUs"] == [{"cores": [0, 1]}]


def test_uncore_without_a_selector_keeps_its_nodes() -> None:
    """The node of its name with Intel's operator, all nodes with the newer one."""
    limits = {"sysMin": 1200000, "sysMax": 1800000}
    assert spec_of(migrated(document("Uncore", limits)), "Uncore") == limits
    newer = migrated(document("Uncore", limits, "power.openshift.io/v1"))
    assert "Exists" in str(spec_of(newer, "Uncore")["nodeSelector"])


def test_a_scaling_profile_becomes_a_profile_with_a_policy() -> None:
    spec = {"min": 2000, "max": 3000, "targetBusyness": 70, "samplePeriod": "20ms", "epp": "power"}
    out = migrated(document("CPUScalingProfile", spec))
    found = spec_of(out, "PowerProfile")
    assert found["cpuScalingPolicy"] == {
        "workloadType": "polling-dpdk",
        "targetUsage": 70,
        "samplePeriod": "20ms",
    }
    assert found["pstates"] == {"min": 2000, "max": 3000, "governor": "userspace"}
    assert fates(out, Fate.GONE) == {"CPUScalingProfile/it spec.epp"}


def test_amds_group_becomes_ours_and_pods_are_told() -> None:
    out = migrated(document("PowerProfile", {"max": "50%"}, "power.amdepyc.com/v1"))
    assert out.objects[0]["apiVersion"] == "power.openshift.io/v1"
    assert any("power.openshift.io/PROFILE" in item.text for item in out.findings)


# --- other systems ---


def powercap(**values: str) -> Document:
    env = [{"name": name, "value": value} for name, value in values.items()]
    pod = {"containers": [{"name": "powercap", "env": env}], "nodeSelector": {"solar": "yes"}}
    return document("DaemonSet", {"template": {"spec": pod}}, "apps/v1")


def test_the_capping_tools_watts_are_a_powercap() -> None:
    """µW there, W here; its curve, its floor, its period."""
    values = {"MAX_SOURCE": "140000000", "ALPHA": "3", "RAPL_MIN_POWER": "20000000"}
    out = migrated(powercap(**values, STABILISATION_TIME="120", RAPL_LIMIT="40"))
    spec = spec_of(out, "PowerCap", "powercap")
    assert spec["source"] == {
        "timeZone": "Europe/Paris",
        "solar": {"peakWatts": 140, "exponent": 3},
    }
    assert (spec["minWatts"], spec["maxWatts"], spec["period"]) == (20, 140, "120s")
    assert spec["nodeSelector"] == {"labelSelector": {"matchLabels": {"solar": "yes"}}}
    assert "DaemonSet/it RAPL_LIMIT" in fates(out, Fate.CHANGED)


@given(st.dictionaries(
    st.sampled_from(["MAX_SOURCE", "ALPHA", "RAPL_MIN_POWER", "STABILISATION_TIME", "TIMEZONE",
                     "DATA_PROVIDER", "RAPL_LIMIT"]),
    st.sampled_from(["0", "-1", "1e9", "nan", "inf", "", "abc", "99999999999999", "4.5", "static",
                     "Nowhere/City"]),
    min_size=1,
))  # fmt: skip
def test_any_environment_of_the_capping_tool_is_taken_or_told(values: dict[str, str]) -> None:
    """What it makes is valid here, or a word says what is not."""
    out = migrated(powercap(MAX_SOURCE="1000000") if not values else powercap(**values))
    if not any("is not valid here" in item.text for item in out.findings):
        for item in out.objects:
            structure_object(item)


def test_a_market_of_the_capping_tool_has_no_equivalent_by_itself() -> None:
    out = migrated(powercap(MAX_SOURCE="1000000", DATA_PROVIDER="epex", PROVIDER_URL="http://x/y"))
    assert {"DaemonSet/it DATA_PROVIDER", "DaemonSet/it PROVIDER_URL"} <= fates(out, Fate.GONE)


TUNED = """
[main]
summary=mine
include=throughput-performance
[cpu]
governor=schedutil|performance
energy_performance_preference=balance_power
energy_perf_bias=normal
min_perf_pct=30
no_turbo=1
force_latency=10
[sysctl]
vm.swappiness=10
"""


def test_a_profile_of_tuned_is_a_shared_profile_and_a_switch() -> None:
    out = migrated(mine=TUNED)
    assert spec_of(out, "PowerProfile", "mine") == {
        "shared": True,
        "pstates": {"governor": "schedutil", "epp": "balance_power", "epb": "normal"},
        "cstates": {"maxLatencyUs": 10},
    }
    assert spec_of(out, "PowerNodeConfig", "mine")["turbo"] is False
    assert {"tuned/mine include", "tuned/mine cpu.min_perf_pct"} <= fates(out, Fate.GONE)
    entry = {"profile": [{"name": "mine", "data": TUNED}]}
    item = document("Tuned", entry, "tuned.openshift.io/v1")
    assert spec_of(migrated(item), "PowerProfile", "mine") == spec_of(out, "PowerProfile", "mine")


def rows_of(section: str) -> list[tuple[str, str]]:
    """Setting and what becomes of it, as the page on migrating has them."""
    page = (REPO / "docs/user/migrating.md").read_text(encoding="utf-8")
    part = page.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ", 1) for line in part.splitlines() if line[:3] == "| `"]
    assert len(rows) >= 7, "the table is there"
    return [(setting.strip("`"), becomes) for setting, becomes in rows]


@pytest.mark.parametrize(("setting", "becomes"), rows_of("Coming from TuneD"))
def test_the_page_says_what_becomes_of_a_setting_of_tuned(setting: str, becomes: str) -> None:
    assert_becomes(migrated(mine=f"[cpu]\n{setting}\n"), becomes)


@pytest.mark.parametrize(("setting", "becomes"), rows_of("Coming from NRI's balloons"))
def test_the_page_says_what_becomes_of_a_class_of_balloons(setting: str, becomes: str) -> None:
    spec = {"control": {"cpu": {"classes": {"mine": yaml.safe_load(setting)}}}}
    assert_becomes(migrated(document("BalloonsPolicy", spec, "config.nri/v1alpha1")), becomes)


def assert_becomes(out: Migration, becomes: str) -> None:
    """The field that the page names is set in what comes out; "nothing" has a word instead."""
    specs = [item["spec"] for item in out.objects]
    if becomes.startswith("nothing"):
        assert fates(out, Fate.GONE)
        assert not any(spec.get("pstates") or spec.get("cstates") for spec in specs)
        return
    first, _, second = becomes.split("`")[1].partition(".")
    found = [spec[first] for spec in specs if first in spec]
    assert found, out
    assert not second or second in found[0], out


def test_a_class_of_balloons_is_a_profile() -> None:
    """kHz in both; the numbers of EPP are words here."""
    turbo = {
        "minFreq": 3600000,
        "maxFreq": 3800000,
        "energyPerformancePreference": 128,
        "disabledCstates": ["C6"],
        "uncoreMaxFreq": 2000000,
    }
    classes = {"turbo": turbo, "slow": {"maxFreq": 1200000, "freqGovernor": "powersave"}}
    spec = {
        "idleCPUClass": "slow",
        "control": {"cpu": {"classes": classes}},
        "balloonTypes": [{"name": "fast", "cpuClass": "turbo"}],
    }
    out = migrated(document("BalloonsPolicy", spec, "config.nri/v1alpha1"))
    assert spec_of(out, "PowerProfile", "turbo") == {
        "pstates": {"min": 3600000, "max": 3800000, "epp": "balance_performance"},
        "cstates": {"names": {"C6": False}},
    }
    assert spec_of(out, "PowerProfile", "slow")["shared"] is True
    assert "BalloonsPolicy/it classes.turbo.uncoreMaxFreq" in fates(out, Fate.GONE)


@pytest.mark.parametrize(
    "spec",
    [
        {"control": {"cpu": {"classes": {"slow": {"maxFreq": 1200000}}}}},
        {"cpuClasses": {"slow": {"maxFreq": 1200000}}},
        {"cpuClasses": [{"name": "slow", "maxFreq": 1200000}]},
    ],
)
def test_classes_of_balloons_are_found_wherever_they_stand(spec: Document) -> None:
    """By what takes them over, and by what says who writes the same files."""
    policy = document("BalloonsPolicy", spec, "config.nri/v1alpha1")
    out = migrated(policy)
    assert spec_of(out, "PowerProfile", "slow")["pstates"] == {"max": 1200000}
    assert len(fighting([policy])) == 1


def test_a_performance_profile_gives_its_reserved_cpus_and_frequencies() -> None:
    spec = {
        "cpu": {"reserved": "0-1,8", "isolated": "2-7"},
        "nodeSelector": {"node-role.kubernetes.io/worker-rt": ""},
        "hardwareTuning": {"isolatedCpuFreq": 2500000, "reservedCpuFreq": 2800000},
        "workloadHints": {"highPowerConsumption": True},
    }
    out = migrated(document("PerformanceProfile", spec, "performance.openshift.io/v2"))
    found = spec_of(out, "PowerNodeConfig")
    assert found["reservedCPUs"] == [{"cores": [0, 1, 8], "powerProfile": "it-reserved"}]
    assert found["sharedPowerProfile"] == "it-isolated"
    assert spec_of(out, "PowerProfile", "it-reserved")["pstates"] == {"max": 2800000}
    place = "PerformanceProfile/it spec.workloadHints"
    assert f"{place}.perPodPowerManagement" in fates(out, Fate.CHANGED)
    assert f"{place}.highPowerConsumption" in fates(out, Fate.GONE)


def test_annotations_of_pods_go_on_having_their_effect() -> None:
    meta = {"annotations": {"cpu-c-states.crio.io": "max_latency:10"}}
    out = migrated(
        document("PowerConfig", {"powerNodeSelector": {"a": "b"}}, "power.openshift.io/v1"),
        document("Pod", {"containers": []}, "v1", **meta),
    )
    assert spec_of(out, "PowerConfig")["agent"] == {"crioAnnotations": "accept"}
    assert "Pod/it cpu-c-states.crio.io" in fates(out, Fate.SAME)


# --- who would fight us ---


def test_each_writer_is_named_with_what_ends_it() -> None:
    old = document("Deployment", {}, "apps/v1", namespace="intel-power")
    old["metadata"]["name"] = "controller-manager"
    agents = document("DaemonSet", {}, "apps/v1", namespace="intel-power")
    agents["metadata"]["name"] = "power-node-agent"
    performance = document("PerformanceProfile", {}, "performance.openshift.io/v2")
    tuned = document("Tuned", {"profile": [{"name": "a", "data": TUNED}]}, "tuned.openshift.io/v1")
    found = fighting([old, agents, performance, tuned, powercap(MAX_SOURCE="1")])
    text = "\n".join(item.text for item in found)
    assert len(found) == 5
    assert "kubectl delete deployment controller-manager -n intel-power" in text
    assert "kubectl delete daemonset power-node-agent -n intel-power" in text
    assert "kubectl patch performanceprofile it" in text


def test_our_own_parts_fight_nobody() -> None:
    ours = {"app.kubernetes.io/part-of": "kubernetes-power-manager"}
    items = [
        document(kind, {}, "apps/v1", name=name, labels=ours, namespace="power-manager")
        for kind, name in (("Deployment", "controller-manager"), ("DaemonSet", "power-node-agent"))
    ]
    hints = {"workloadHints": {"perPodPowerManagement": True}}
    items.append(document("PerformanceProfile", hints, "performance.openshift.io/v2"))
    own = yaml.safe_load_all((REPO / "deploy/powercap/powercap.yaml").read_text())
    assert fighting([*items, *own]) == ()


# --- the folder, and hostile input ---


def test_the_folder_has_backup_objects_report_and_steps(tmp_path: Path) -> None:
    """And what was written can be read again; a second run into it is refused."""
    folder = tmp_path / "out"
    done = kpm("migrate", "-f", str(SAMPLES / "intel.yaml"), "--to", str(folder))
    assert done.code == 1, done.err
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {"backup/objects.json", "objects.yaml", "report.md", "steps.md"}
    backup = json.loads((folder / "backup/objects.json").read_text())["items"]
    before = list(yaml.safe_load_all((SAMPLES / "intel.yaml").read_text()))
    assert backup == before
    assert kpm("validate", "-f", str(folder / "objects.yaml")).code == 0
    assert "TimeOfDay/by-day" in (folder / "report.md").read_text()
    again = kpm("migrate", "-f", str(SAMPLES / "intel.yaml"), "--to", str(folder))
    assert again.code == 2
    assert "name a new folder" in again.err


def test_a_backup_migrates_as_what_it_is_a_backup_of(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    kpm("migrate", "-f", str(SAMPLES / "openshift.yaml"), "--to", str(folder))
    first = migrate(from_files([str(SAMPLES / "openshift.yaml")]))
    second = migrate(from_files([str(folder / "backup/objects.json")]))
    assert second.objects == first.objects
    assert second.findings == first.findings


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.text(max_size=8)
    | st.sampled_from(["performance", "0-3", "10%", "a=b", "[cpu]\ngovernor=x"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["name", "spec", "env", "value", "containers", "template", "data", "profile", "cpu",
             "control", "classes", "reserved", "cores", "pstates", "min", "max", "epp", "time",
             "schedule", "nodeSelector", "labelSelector", "powerProfiles", "annotations"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
_KINDS = [
    ("power.intel.com/v1", kind)
    for kind in ("PowerProfile", "PowerConfig", "PowerWorkload", "Uncore", "CStates", "TimeOfDay",
                 "CPUScalingProfile", "PowerNodeConfig", "PowerNode", "Odd")
] + [
    ("apps/v1", "DaemonSet"),
    ("tuned.openshift.io/v1", "Tuned"),
    ("config.nri/v1alpha1", "BalloonsPolicy"),
    ("performance.openshift.io/v2", "PerformanceProfile"),
    ("v1", "Pod"),
]  # fmt: skip


@given(
    items=st.lists(
        st.tuples(
            st.sampled_from(_KINDS),
            st.dictionaries(
                st.sampled_from(
                    ["allCores", "reservedCPUs", "sharedPoolCStates", "exclusivePoolCStates",
                     "individualCoreCStates", "schedule", "powerProfiles", "pstates", "min", "epp",
                     "control", "cpuClasses", "balloonTypes", "profile", "cpu", "hardwareTuning",
                     "workloadHints", "template", "containers", "nodeSelector", "recommend",
                     "cstates", "cpuScalingPolicy", "shared"]
                ),
                _VALUES,
                max_size=6,
            ),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_no_document_breaks_it(items: list[tuple[tuple[str, str], Document]]) -> None:
    """Whatever stands in it: a finding, never an exception; and each object has a fate."""
    documents = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": f"n{index}"}, "spec": spec}
        for index, ((version, kind), spec) in enumerate(items)
    ]
    out = migrated(*documents)
    assert fighting(documents) is not None
    assert all(item.text.isprintable() or item.text for item in out.findings)


@given(
    text=st.text(max_size=200) | st.from_regex(r"(\[[a-z]+\]\n([a-z_]+=[a-z0-9|%]*\n){0,3}){0,3}")
)
def test_no_profile_of_tuned_breaks_it(text: str) -> None:
    migrated(mine=text)
