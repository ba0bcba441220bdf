"""The pure planner: intent, allocation and machine in, plan out. No input, no output, no clock."""

from kpm_planner.model.allocation import Allocation, ContainerCpus, ContainerRef
from kpm_planner.model.problems import Code, Problem, Severity
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import ClusterPlan, NodeInput, NodePlan, plan_cluster, plan_node

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
