"""Hypothesis: machines of all shapes, and objects that are valid in form though not always in
sense.
"""

from typing import Any

from attrs import evolve
from hypothesis import strategies as st

from kpm.request.machines import CoreSpec, IdleStateSpec, MachineSpec, UncoreSpec, build_machine
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import Machine
from tests.kpm.object_samples import GROUP, INTEL_GROUP, node, pod

DRIVERS = (
    "intel_pstate",
    "intel_cpufreq",
    "acpi-cpufreq",
    "amd-pstate",
    "amd-pstate-epp",
    "cppc_cpufreq",
    "apple-cpufreq",
    None,
)
_STATES = (
    IdleStateSpec("POLL", 0),
    IdleStateSpec("C1", 2),
    IdleStateSpec("C1E", 10),
    IdleStateSpec("C6", 133),
)
_NAMES = st.sampled_from(["fast", "slow", "eco", "p-1"])


@st.composite
def machine_specs(draw: st.DrawFn) -> MachineSpec:
    """Descriptions of machines of at most 48 CPUs."""
    kinds = draw(
        st.sampled_from(
            [
                (),
                (),
                (CoreSpec(2, "P", 2, 400, 5000), CoreSpec(3, "E", 1, 400, 3800)),
                (CoreSpec(2, "big"), CoreSpec(2, "little", 1, 300, 1500)),
            ]
        )
    )
    spec = MachineSpec(
        packages=draw(st.integers(1, 2)),
        dies=draw(st.integers(1, 2)),
        cores=draw(st.integers(1, 6)),
        threads=draw(st.integers(1, 2)),
        kinds=kinds,
        numbering=draw(st.sampled_from([None, "split", "adjacent"])),
        driver=draw(st.sampled_from(DRIVERS)),
        min_mhz=draw(st.sampled_from([400, 800])),
        available_mhz=draw(st.sampled_from([(), (1200, 1800, 2300)])),
        epp=draw(st.sampled_from([None, "balance_performance", "power"])),
        domain_size=draw(st.integers(1, 4)),
        idle_driver="intel_idle",
        idle_states=_STATES[: draw(st.integers(0, 4))],
        uncore=draw(st.sampled_from([None, UncoreSpec(), UncoreSpec(layout="tpmi")])),
        boost=draw(st.sampled_from([None, True, False])),
        architecture=draw(st.sampled_from(["x86_64", "aarch64"])),
    )
    count = len(build_machine(spec).cpus)
    offline = draw(st.sets(st.integers(0, count - 1), max_size=min(4, count - 1)))
    return evolve(spec, offline=format_cpulist(offline))


def machines() -> st.SearchStrategy[Machine]:
    """Machines as descriptions give them."""
    return machine_specs().map(build_machine)


_FREQUENCIES = st.one_of(
    st.none(),
    st.integers(300, 6000),
    st.integers(300000, 6000000),
    st.integers(0, 100).map(lambda number: f"{number}%"),
)


def _without_nones(**items: Any) -> dict[str, Any]:
    return {key: value for key, value in items.items() if value is not None}


def _objects(
    kind: str, specs: st.SearchStrategy[dict[str, Any]], names: st.SearchStrategy[str] = _NAMES
) -> st.SearchStrategy[dict[str, Any]]:
    def make(name: str, spec: dict[str, Any], version: str, created: str | None) -> dict[str, Any]:
        return {
            "apiVersion": version,
            "kind": kind,
            "metadata": _without_nones(name=name, creationTimestamp=created),
            "spec": spec,
        }

    times = st.sampled_from([None, "2026-01-31T08:00:00Z", "2026-01-31T09:00:00+02:00"])
    return st.builds(make, names, specs, st.sampled_from([GROUP, GROUP, INTEL_GROUP]), times)


_SELECTORS: st.SearchStrategy[dict[str, Any] | None] = st.sampled_from(
    [
        None,
        {"labelSelector": {"matchLabels": {"kubernetes.io/hostname": "n"}}},
        {"labelSelector": {}},
        {"labelSelector": {"matchLabels": {"a": "b"}}},
    ]
)
_MAPS = st.sampled_from([None, {}, {"kubernetes.io/hostname": "n"}, {"a": "b"}])
_RESERVED = st.lists(
    st.builds(
        lambda cores, name: _without_nones(cores=cores, powerProfile=name),
        st.lists(st.integers(0, 9), max_size=3),
        st.one_of(st.none(), _NAMES),
    ),
    max_size=2,
)
_PSTATES = st.builds(
    lambda low, high, governor, epp: _without_nones(min=low, max=high, governor=governor, epp=epp),
    _FREQUENCIES,
    _FREQUENCIES,
    st.sampled_from([None, "performance", "powersave", "schedutil"]),
    st.sampled_from([None, "performance", "balance_power", "power"]),
)
_CSTATES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.integers(0, 200).map(lambda latency: {"maxLatencyUs": latency}),
    st.dictionaries(st.sampled_from(["C1", "C1E", "C6", "C99"]), st.booleans(), max_size=3).map(
        lambda names: {"names": names}
    ),
)


def profiles() -> st.SearchStrategy[dict[str, Any]]:
    """PowerProfile mappings."""
    capacity = st.sampled_from([None, 1, 4, "50%", "0%"])
    specs = st.builds(
        lambda shared, pstates, cstates, selector, amount: _without_nones(
            shared=shared,
            pstates=pstates,
            cstates=cstates,
            nodeSelector=selector,
            cpuCapacity=amount,
        ),
        st.sampled_from([None, True, False]),
        _PSTATES,
        _CSTATES,
        _SELECTORS,
        capacity,
    )
    return _objects("PowerProfile", specs)


def workloads() -> st.SearchStrategy[dict[str, Any]]:
    """PowerWorkload mappings."""
    specs = st.builds(
        lambda every, reserved, selector, name: _without_nones(
            allCores=every, reservedCPUs=reserved, powerNodeSelector=selector, powerProfile=name
        ),
        st.sampled_from([None, True, False]),
        _RESERVED,
        _MAPS,
        st.one_of(st.none(), _NAMES),
    )
    return _objects("PowerWorkload", specs)


def node_configs() -> st.SearchStrategy[dict[str, Any]]:
    """PowerNodeConfig mappings."""
    specs = st.builds(
        lambda selector, name, reserved: _without_nones(
            nodeSelector=selector, sharedPowerProfile=name, reservedCPUs=reserved
        ),
        _SELECTORS,
        st.one_of(st.none(), _NAMES),
        _RESERVED,
    )
    return _objects("PowerNodeConfig", specs)


def uncores() -> st.SearchStrategy[dict[str, Any]]:
    """Uncore mappings."""
    khz = st.sampled_from([None, 800000, 1250000, 2400000, 9000000])
    dies = st.lists(
        st.builds(
            lambda package, die, low, high: _without_nones(
                package=package, die=die, min=low, max=high
            ),
            st.sampled_from([None, 0, 1]),
            st.sampled_from([None, 0, 5]),
            khz,
            khz,
        ),
        max_size=2,
    )
    specs = st.builds(
        lambda low, high, selector: _without_nones(sysMin=low, sysMax=high, nodeSelector=selector),
        khz,
        khz,
        _SELECTORS,
    )
    return _objects(
        "Uncore",
        st.builds(lambda spec, found: {**spec, "dieSelector": found}, specs, dies),
        st.sampled_from(["n", "u"]),
    )


def configs() -> st.SearchStrategy[dict[str, Any]]:
    """PowerConfig mappings."""
    devices = st.sampled_from([None, [], ["example.com/device"]])
    return _objects(
        "PowerConfig",
        st.builds(
            lambda selector, found: _without_nones(powerNodeSelector=selector, customDevices=found),
            _MAPS,
            devices,
        ),
    )


def pods() -> st.SearchStrategy[dict[str, Any]]:
    """Pod mappings on node n."""
    amounts = st.sampled_from([1, 2, "2", "3", "500m", "2000m", 4])
    return st.builds(
        lambda name, cpus, asks, space: pod(name, cpus, asks, namespace=space),
        st.sampled_from("abcd"),
        amounts,
        st.one_of(st.none(), _NAMES),
        st.sampled_from(["x", "y"]),
    )


def own_objects() -> st.SearchStrategy[dict[str, Any]]:
    """One object of our kinds."""
    return st.one_of(profiles(), profiles(), workloads(), node_configs(), uncores(), configs())


def clusters() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Documents of a cluster with the one node n, no name twice."""

    def identity(item: dict[str, Any]) -> tuple[str, ...]:
        return (
            item["apiVersion"],
            item["kind"],
            item["metadata"].get("namespace", ""),
            item["metadata"]["name"],
        )

    both = st.tuples(
        st.lists(own_objects(), max_size=6, unique_by=identity),
        st.lists(pods(), max_size=3, unique_by=identity),
    )
    return both.map(lambda found: [node("n"), *found[0], *found[1]])
