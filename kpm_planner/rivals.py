"""Other systems on a node that hand out CPUs, and what they hold (pure).

The resource policies of containers/nri-plugins (balloons, topology-aware) move every container
between CPUs through NRI and may set frequencies of their own. This system does not fight them: it
says that they are there, and which CPUs the container runtime has bound containers to while they
are.
"""

from kpm_planner.model.allocation import Allocation, RuntimeCpus
from kpm_planner.model.cluster import Pod
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.problems import Code, Problem, warning

#: Names of the policies' pods (label app.kubernetes.io/name), as their charts have them.
_POLICIES = frozenset({"nri-resource-policy-balloons", "nri-resource-policy-topology-aware"})
_NAME = "app.kubernetes.io/name"
#: Sets of CPUs and owners of each that a message names.
_SETS, _OWNERS = 6, 2


def policy_of(pod: Pod) -> str:
    """The policy that a pod is, or nothing."""
    name = pod.meta.labels.get(_NAME, "")
    return name if name in _POLICIES and pod.live else ""


def rival_problems(allocation: Allocation) -> tuple[Problem, ...]:
    """A warning for each such policy on the node, with the CPUs that containers are bound to under
    it.
    """
    return tuple(
        warning(
            Code.RIVAL_POLICY,
            "Node",
            "",
            f"{policy_of(pod)} (pod {_place(pod)}) hands out CPUs too: {_holdings(allocation)}",
        )
        for pod in allocation.pods
        if policy_of(pod)
    )


def _holdings(allocation: Allocation) -> str:
    """Sets of CPUs with the pods that run on them, the lowest first."""
    if not allocation.runtime:
        return "which ones is not known, as the runtime is not asked"
    names = {pod.meta.uid: _place(pod) for pod in allocation.pods}
    pods: dict[tuple[int, ...], set[str]] = {}
    for item in allocation.runtime:
        if item.cpus:
            pods.setdefault(item.cpus, set()).add(_owner(item, names))
    found = [
        f"{format_cpulist(cpus)} to {_some(sorted(owners), _OWNERS)}"
        for cpus, owners in sorted(pods.items())
    ]
    return _some(found, _SETS, "; ") or "none at present"


def _owner(item: RuntimeCpus, names: dict[str, str]) -> str:
    return names.get(item.uid) or f"a pod of uid {item.uid}"


def _some(found: list[str], most: int, between: str = ", ") -> str:
    """The first few, and how many more there are."""
    more = len(found) - most
    return between.join([*found[:most], *([f"{more} more"] if more > 0 else [])])


def _place(pod: Pod) -> str:
    return f"{pod.meta.namespace or 'default'}/{pod.meta.name}"
