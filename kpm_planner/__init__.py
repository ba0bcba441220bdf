"""The pure planner: intent, allocation and machine in, plan out. No input, no output, no clock."""

from kpm_planner.allocation import Allocation, ContainerCpus, ContainerRef
from kpm_planner.plan import ClusterPlan, CpuGroup, NodeInput, NodePlan, plan_cluster, plan_node
from kpm_planner.problems import Code, Problem, Severity

__all__ = [
    "Allocation",
    "ClusterPlan",
    "Code",
    "ContainerCpus",
    "ContainerRef",
    "CpuGroup",
    "NodeInput",
    "NodePlan",
    "Problem",
    "Severity",
    "plan_cluster",
    "plan_node",
]
