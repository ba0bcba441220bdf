"""All inputs of one plan together."""

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen
from hypothesis import strategies as st

from kpm_planner.intent import Intent
from kpm_planner.machine import Machine
from kpm_planner.plan import NodeInput, NodePlan, plan_node
from tests.strategies.choices import pick
from tests.strategies.machines import MANAGED, MOST_CPUS, Driver, draw_machine
from tests.strategies.objects import NODE, draw_intent
from tests.strategies.pods import draw_allocation


@frozen
class Scenario:
    """What a cluster wants, and one node of it."""

    intent: Intent
    item: NodeInput

    @property
    def machine(self) -> Machine:
        """The node's machine."""
        return self.item.machine

    def plan(self) -> NodePlan:
        """The plan of the node."""
        return plan_node(self.intent, self.item)

    def with_item(self, **changes: Any) -> "Scenario":
        """The same with another node, machine or allocation."""
        return evolve(self, item=evolve(self.item, **changes))


@st.composite
def scenarios(draw: st.DrawFn, *, awkward: bool | None = None, drivers: Sequence[Driver | None] = (*MANAGED, *MANAGED, None), most_cpus: int = MOST_CPUS) -> Scenario:
    """A scenario. awkward: None for either kind, False for one in which nothing is wrong by construction."""
    machine = draw_machine(draw, drivers=drivers, most_cpus=most_cpus)
    odd = pick(draw, (False, True))[0] if awkward is None else awkward
    intent = draw_intent(draw, machine, awkward=odd)
    group = intent.profiles[0].group if intent.profiles else "power.openshift.io"
    return Scenario(intent, NodeInput(NODE, machine, draw_allocation(draw, machine, group=group, awkward=odd)))
