"""The pure planner: intent, allocation and machine in, plan out. No input, no output, no clock.

Everything that `plan_node` and `plan_cluster` take and return is importable from here.
"""

from kpm_planner.caps.schedule import CapState, Reading, Signals
from kpm_planner.caps.zones import CapTarget
from kpm_planner.fabric import FabricTarget
from kpm_planner.model.agent_settings import AgentSettings, CpuSource, IdleStates
from kpm_planner.model.allocation import Allocation, ContainerCpus, ContainerRef
from kpm_planner.model.assignment import Pool
from kpm_planner.model.cap_objects import (
    CapEntry,
    CapSource,
    ConfigMapKey,
    ExternalCap,
    MarketCap,
    PowerCap,
    SolarCap,
    StaticCap,
)
from kpm_planner.model.cluster import (
    Container,
    LabelSelector,
    Meta,
    Node,
    NodeSelector,
    Pod,
    Requirement,
)
from kpm_planner.model.machine import (
    Cpu,
    CpufreqSettings,
    Fabric,
    FrequencyDomain,
    IdleState,
    Machine,
    PowerLimit,
    PowerZone,
    UncoreEntry,
)
from kpm_planner.model.objects import (
    AmdFabric,
    CStates,
    DieSelector,
    Intent,
    PowerConfig,
    PowerNodeConfig,
    PowerProfile,
    PowerWorkload,
    PStates,
    ReservedCpus,
    Uncore,
    Unreadable,
)
from kpm_planner.model.problems import Code, Problem, Severity
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.model.target import Target
from kpm_planner.model.why import Why
from kpm_planner.parts import CpuGroup
from kpm_planner.plan import ClusterPlan, NodeInput, NodePlan, plan_cluster, plan_node
from kpm_planner.report.explain import explain_cpu
from kpm_planner.scaling import ScaledDomain
from kpm_planner.uncore import UncoreTarget
from kpm_planner.validate import validate_intent
from kpm_planner.versions import Version, Versions

__all__ = [
    "AgentSettings",
    "Allocation",
    "AmdFabric",
    "CStates",
    "CapEntry",
    "CapSource",
    "CapState",
    "CapTarget",
    "ClusterPlan",
    "Code",
    "ConfigMapKey",
    "Container",
    "ContainerCpus",
    "ContainerRef",
    "Cpu",
    "CpuGroup",
    "CpuScalingPolicy",
    "CpuSource",
    "CpufreqSettings",
    "DieSelector",
    "ExternalCap",
    "Fabric",
    "FabricTarget",
    "FrequencyDomain",
    "IdleState",
    "IdleStates",
    "Intent",
    "LabelSelector",
    "Machine",
    "MarketCap",
    "Meta",
    "Node",
    "NodeInput",
    "NodePlan",
    "NodeSelector",
    "PStates",
    "Pod",
    "Pool",
    "PowerCap",
    "PowerConfig",
    "PowerLimit",
    "PowerNodeConfig",
    "PowerProfile",
    "PowerWorkload",
    "PowerZone",
    "Problem",
    "Reading",
    "Requirement",
    "ReservedCpus",
    "ScaledDomain",
    "Severity",
    "Signals",
    "SolarCap",
    "StaticCap",
    "Target",
    "Uncore",
    "UncoreEntry",
    "UncoreTarget",
    "Unreadable",
    "Version",
    "Versions",
    "Why",
    "explain_cpu",
    "plan_cluster",
    "plan_node",
    "validate_intent",
]
