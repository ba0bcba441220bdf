"""A cluster in memory: documents as the API server has them, what the operator makes of them, and
what it does to them.
"""

import copy
from collections.abc import Callable
from typing import Any

from attrs import define, field

from kpm.kube.kinds import AGENT_NAME, FINALIZER, state_name
from kpm.operator.daemonset import Image
from kpm.operator.endings import Lost
from kpm.operator.observed import SeenCluster, held_object, held_plain, held_state, node_seen
from kpm.operator.reconcile import Action, Apply, Delete, Finalize, Mend, Tell, reconcile
from kpm_planner.model.cluster import GENERATED

GROUP, NAMESPACE = "power.openshift.io", "power-manager"
USER_KINDS = {
    "powerconfigs": "PowerConfig",
    "powerprofiles": "PowerProfile",
    "powerworkloads": "PowerWorkload",
    "powernodeconfigs": "PowerNodeConfig",
    "uncores": "Uncore",
    "powercaps": "PowerCap",
}
IMAGE = Image("kpm:1", allowed=("other:2",))
Document = dict[str, Any]
Released = {"type": "Released", "status": "True", "reason": "Released"}


@define
class World:
    """Objects by plural and name. actions: all that the operator did; lost: nodes that do not
    answer for too long.

    dead: nodes without an agent; more: what else is seen.
    """

    objects: dict[tuple[str, str], Document] = field(factory=dict)
    lost: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()
    actions: list[Action] = field(factory=list)
    made: int = 0
    more: Callable[[SeenCluster], SeenCluster] = lambda seen: seen

    # --- what users, nodes and agents do ---

    def put(
        self,
        plural: str,
        name: str,
        spec: Document | None = None,
        *,
        age: int | None = None,
        labels: dict[str, str] | None = None,
        **meta: Any,
    ) -> Document:
        """Somebody makes an object. age: the older the larger."""
        self.made += 1
        created = (
            f"2026-01-01T{23 - age:02}:00:00Z"
            if age is not None
            else f"2026-02-01T00:{self.made // 60 % 60:02}:{self.made % 60:02}Z"
        )
        metadata = {
            "name": name,
            "uid": f"uid-{self.made}",
            "creationTimestamp": created,
            "labels": labels or {},
            **meta,
        }
        self.objects[plural, name] = {"metadata": metadata, "spec": spec or {}}
        return self.objects[plural, name]

    def node(self, name: str, *, ready: bool = True, **labels: str) -> None:
        """A node joins."""
        self.put("nodes", name, labels={"kubernetes.io/hostname": name, **labels})
        self.objects["nodes", name]["status"] = {
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}]
        }

    def delete(self, plural: str, name: str) -> None:
        """Somebody deletes an object; finalizers keep it."""
        document = self.objects.get((plural, name))
        if document is not None and document["metadata"].get("finalizers"):
            document["metadata"]["deletionTimestamp"] = "2026-03-01T00:00:00Z"
        elif document is not None:
            del self.objects[plural, name]

    def report(
        self, node: str, *profiles: str, problems: tuple[Document, ...] = (), **status: Any
    ) -> None:
        """A node's agent reports these profiles as valid."""
        offered = [{"name": name, "valid": True} for name in profiles]
        ready = {"type": "Ready", "status": "True", "reason": "Settled"}
        self.objects["powernodestates", state_name(node)]["status"] = {
            "profiles": offered,
            "problems": list(problems),
            "conditions": [ready],
            **status,
        }

    def release(self, node: str) -> None:
        """A node's agent has put everything back."""
        self.report(node, conditions=[Released])

    # --- what the operator sees and does ---

    def of(self, plural: str) -> list[Document]:
        """All objects of a kind."""
        return [document for (kind, _), document in sorted(self.objects.items()) if kind == plural]

    def names(self, plural: str) -> list[str]:
        """Names of all objects of a kind."""
        return [document["metadata"]["name"] for document in self.of(plural)]

    def status(self, plural: str, name: str) -> Document:
        """Status of an object."""
        found: Document = self.objects[plural, name].get("status", {})
        return found

    def observed(self) -> SeenCluster:
        """What its informers hold."""
        documents = copy.deepcopy(self.objects)
        view = {
            plural: [
                document for (kind, _), document in sorted(documents.items()) if kind == plural
            ]
            for plural in {kind for kind, _ in documents}
        }
        own = {
            plural: tuple(held_object(item, kind, GROUP) for item in view.get(plural, ()))
            for plural, kind in USER_KINDS.items()
        }
        return SeenCluster(
            NAMESPACE,
            GROUP,
            own["powerconfigs"],
            own["powerprofiles"],
            own["powerworkloads"],
            own["powernodeconfigs"],
            own["uncores"],
            own["powercaps"],
            tuple(map(held_plain, view.get("powernodes", ()))),
            tuple(map(held_state, view.get("powernodestates", ()))),
            {item["metadata"]["name"]: node_seen(item) for item in view.get("nodes", ())},
            next(
                (
                    held_plain(item)
                    for item in view.get("daemonsets", ())
                    if item["metadata"]["name"] == AGENT_NAME
                ),
                None,
            ),
            frozenset(self.names("nodes")) - self.dead,
        )

    def wanted(self) -> tuple[Action, ...]:
        """What is to be done now."""
        return reconcile(
            self.more(self.observed()), IMAGE, Lost(dict.fromkeys(self.lost, "did not answer"))
        )

    def settle(self, rounds: int = 5) -> list[Action]:
        """Pass after pass until nothing is to be done; all that was done."""
        begun = len(self.actions)
        for _ in range(rounds):
            actions = self.wanted()
            if not actions:
                return self.actions[begun:]
            for action in actions:
                self.carry_out(action)
        raise AssertionError(f"not quiet after {rounds} passes: {self.wanted()}")

    def carry_out(self, action: Action) -> None:  # noqa: C901  # one case an action
        """What the API server does."""
        self.actions.append(action)
        match action:
            case Apply(plural, name, body, None):
                before = self.objects.get((plural, name)) or self.put(plural, name)
                self.objects[plural, name] = {
                    **before,
                    "metadata": {**before["metadata"], **body["metadata"]},
                    "spec": copy.deepcopy(body["spec"]),
                }
            case Apply(plural, name, body, part):
                if (plural, name) in self.objects:
                    self.objects[plural, name]["status"] = copy.deepcopy(body[str(part)])
            case Mend(name, uid, spec):
                if self.objects["daemonsets", name]["metadata"]["uid"] == uid:
                    self.objects["daemonsets", name]["spec"] = copy.deepcopy(spec)
            case Delete(plural, name, uid):
                if (plural, name) in self.objects and self.objects[plural, name]["metadata"][
                    "uid"
                ] == uid:
                    self.delete(plural, name)
            case Finalize(name, finalizers):
                document = self.objects["powerconfigs", name]
                document["metadata"]["finalizers"] = list(finalizers)
                if not finalizers and "deletionTimestamp" in document["metadata"]:
                    del self.objects["powerconfigs", name]
            case Tell():
                pass


def running(*nodes: str, profiles: tuple[str, ...] = ()) -> World:
    """A cluster that has been set up: these nodes are managed, and all
    agents offer these profiles.
    """
    world = World()
    for node in nodes:
        world.node(node, power="yes")
    for profile in profiles:
        world.put("powerprofiles", profile, {"pstates": {"max": 2000}})
    world.put("powerconfigs", "config", {"powerNodeSelector": {"power": "yes"}}, age=5)
    world.settle()
    for node in nodes:
        world.report(node, *profiles)
    world.settle()
    world.actions.clear()
    return world


def of_users(document: Document) -> bool:
    """Whether a user made it."""
    return bool(document["metadata"]["labels"].get(GENERATED) != "true")


def kept_by_operator(document: Document) -> bool:
    """Whether the operator's finalizer is on it."""
    return FINALIZER in document["metadata"].get("finalizers", ())
