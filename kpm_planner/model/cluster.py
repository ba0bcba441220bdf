"""A cluster's nodes and pods as values, and how objects of the API name and select each other."""

import re
from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen

from kpm_planner.model.quantities import Quantity
from kpm_planner.model.schema import described as _text

#: Label of objects that the system makes itself, such as a PowerWorkload for each node; agents
#: leave them out of what they watch.
GENERATED = "power.kpm.dev/generated"


@frozen
class Meta:
    """Identity of an object. created: None where it is not known, which counts as newest.
    generation: of its spec, 0 where not known.
    """

    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(factory=dict, hash=False)
    uid: str = ""
    created: datetime | None = None
    generation: int = 0


#: Keys and values of labels, as Kubernetes takes them (apimachinery, validation).
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_LONGEST_VALUE = 63


def is_label_key(text: str) -> bool:
    """Whether a label may have this key."""
    return re.fullmatch(LABEL_KEY, text) is not None


def is_label_value(text: str) -> bool:
    """Whether a label may have this value."""
    return len(text) <= _LONGEST_VALUE and re.fullmatch(LABEL_VALUE, text) is not None


@frozen
class Requirement:
    """One expression of a label selector; operator: In, NotIn, Exists, DoesNotExist."""

    key: str = field(metadata=_text("The label.", pattern=LABEL_KEY, maxLength=317))
    operator: str = field(
        metadata=_text(
            "How the label is compared with the values.",
            enum=["In", "NotIn", "Exists", "DoesNotExist"],
        )
    )
    values: tuple[str, ...] = field(
        default=(),
        metadata=_text("Values for In and NotIn; none for Exists and DoesNotExist.", maxItems=64),
    )


@frozen
class LabelSelector:
    """A Kubernetes label selector: all of it must match."""

    match_labels: Mapping[str, str] = field(
        factory=dict,
        hash=False,
        metadata=_text("Labels that must have these values.", maxProperties=64, labels=True),
    )
    match_expressions: tuple[Requirement, ...] = field(
        default=(), metadata=_text("Expressions that must all hold.", maxItems=64)
    )


@frozen
class NodeSelector:
    """Which nodes are meant, by their labels."""

    label_selector: LabelSelector | None = field(
        default=None, metadata=_text("A label selector over nodes; an empty one selects all.")
    )


@frozen
class Node:
    """A cluster node."""

    name: str
    labels: Mapping[str, str] = field(factory=dict, hash=False)


@frozen
class Container:
    """A container of a pod that can own CPUs: an app container or a restartable init container.

    cpu, memory: (request, limit) with the request defaulted to the limit, None where absent.
    resources: other requests by name. claims: whether it uses resource claims. finished: whether it
    has terminated for good.
    """

    name: str
    cpu: tuple[Quantity | None, Quantity | None] = (None, None)
    memory: tuple[Quantity | None, Quantity | None] = (None, None)
    resources: tuple[tuple[str, Quantity], ...] = ()
    claims: bool = False
    finished: bool = False
    id: str = ""


@frozen
class Pod:
    """A pod. phase: "" where unknown. guaranteed: the API's QoS class, or computed from the
    containers where absent.

    wishes: annotations of CRI-O's that are about its CPUs. static_uid: of a static pod, the uid
    that the kubelet itself gives it; the API's is that of its mirror. others: (name, id) of
    containers that can own no CPUs.
    """

    meta: Meta
    containers: tuple[Container, ...] = ()
    node: str | None = None
    phase: str = ""
    started: datetime | None = None
    guaranteed: bool = False
    wishes: tuple[tuple[str, str], ...] = ()
    static_uid: str = ""
    others: tuple[tuple[str, str], ...] = ()

    @property
    def node_uid(self) -> str:
        """Its uid as cgroups and the container runtime have it."""
        return self.static_uid or self.meta.uid

    @property
    def live(self) -> bool:
        """Whether its containers can still own CPUs; a deletionTimestamp changes nothing."""
        return self.phase not in ("Succeeded", "Failed")


OPENSHIFT_GROUP = "power.openshift.io"


INTEL_GROUP = "power.intel.com"


AMD_GROUP = "power.amdepyc.com"


#: API group → the one namespace in which its objects count.
SYSTEM_NAMESPACE = {
    OPENSHIFT_GROUP: "power-manager",
    INTEL_GROUP: "intel-power",
    AMD_GROUP: "power-manager",
}
