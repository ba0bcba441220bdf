"""What the pages show: a cluster, a node, the plan of a text; as HTML out of templates that escape
whatever they are given.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from attrs import frozen
from jinja2 import Environment, PackageLoader, StrictUndefined

from kpm.cli.cluster_plan import closing_line, summarised
from kpm.cli.pages import page_of_cluster
from kpm.cli.status_text import value_row
from kpm.cluster.gathering import gather, overlaid
from kpm.cluster.node import node_of
from kpm.cluster.planning import changes
from kpm.cluster.status import ClusterStatus, status_of
from kpm.formats.documents import parse_documents
from kpm.kube.api import Api, ApiError
from kpm.live.agent import NodeLooks
from kpm.live.picture import Picture
from kpm.process.errors import InputError
from kpm.request.objects import cluster_of


@lru_cache(1)
def _environment() -> Environment:
    return Environment(loader=PackageLoader("kpm.ui"), autoescape=True, undefined=StrictUndefined)


@frozen
class Views:
    """The pages of one cluster. root: the path below which they are, with a slash at both ends."""

    api: Api
    group: str
    namespace: str
    root: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def cluster(self) -> str:
        """The first page."""
        return self._page("cluster.html", f"Power of {self.namespace}", **self._seen())

    def overview(self) -> str:
        """The part of it that changes."""
        return _environment().get_template("overview.html").render(root=self.root, **self._seen())

    def node(self, name: str) -> str:
        """A node. Errors: ApiError, InputError."""
        node = node_of(self.api, self.group, self.namespace, name)
        ready, drifted = node.condition("Ready"), node.condition("Drifted")
        try:
            picture = NodeLooks(self.api, self.group, self.namespace, name).look()
        except (ApiError, InputError) as failure:
            picture = Picture(name, notes=(str(failure),))
        headline = "No agent has reported how this node is."
        if ready is not None:
            word = "Ready" if ready.status == "True" else "Not ready"
            more = f": {ready.message}" if ready.message else ""
            headline = f"By its agent's last report: {word} ({ready.reason}){more}"
        return self._page(
            "node.html",
            name,
            node=node,
            headline=headline,
            drift=drifted.message if drifted is not None and drifted.status == "True" else "",
            values=[value_row(row) for row in node.status.values],
            picture=picture,
            notes=(*node.notes, *picture.notes),
        )

    def form(self, failure: str = "", given: str = "") -> str:
        """Where objects are given."""
        return self._page("plan.html", "Plan a file", failure=failure, given=given)

    def plan(self, text: str) -> str:
        """What objects would change; the form again, with what is wrong, where they cannot be read.

        Errors: ApiError.
        """
        try:
            given = cluster_of(parse_documents(text.encode(), "the objects"))
            if not given.documents:
                raise InputError("the objects: there is none of a kind that is read")
        except InputError as failure:
            return self.form(str(failure), text)
        seen = gather(self.api, self.group, self.namespace)
        found = summarised(
            changes(seen, overlaid(seen.intent, given.intent), self.now()), seen.unknown.items()
        )
        source = f"objects given on the page, against namespace {self.namespace}"
        return page_of_cluster(found, source, closing_line(found))

    def _seen(self) -> dict[str, Any]:
        try:
            status = self._status()
        except ApiError as failure:
            return {"status": None, "failure": str(failure)}
        errors = any(item.severity == "error" for item in status.problems)
        headline = "All is well."
        if not status.well:
            headline = "Something is not as asked."
        elif errors:
            headline = "Every node is as asked, but for objects that have errors."
        fine = status.well and not errors
        return {"status": status, "failure": "", "headline": headline, "fine": fine}

    def _status(self) -> ClusterStatus:
        return status_of(self.api, self.group, self.namespace, self.now())

    def _page(self, name: str, title: str, **values: Any) -> str:
        return _environment().get_template(name).render(root=self.root, title=title, **values)
