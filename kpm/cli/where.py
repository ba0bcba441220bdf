"""Which cluster and namespace a verb is about: its options, and the connection."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from kpm.cli.options import kubeconfig_option
from kpm.cli.shells import group_option, namespace_option
from kpm_planner.model.cluster import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from kpm.kube.api import Api


@frozen
class Where:
    """A place in a cluster. asked: the namespace that was given, None for the group's own."""

    kubeconfig: str | None
    context: str | None
    group: str
    asked: str | None

    @property
    def namespace(self) -> str:
        """The namespace that is meant."""
        return self.asked or SYSTEM_NAMESPACE[self.group]


_context_option = click.option("--context", metavar="NAME", help="Context of the kubeconfig.")


def where_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--group, --namespace, --context, --kubeconfig: one argument `where`."""

    @wraps(function)
    def called(
        *words: Any,
        kubeconfig: str | None,
        context: str | None,
        group: str,
        namespace: str | None,
        **more: Any,
    ) -> Any:
        return function(*words, where=Where(kubeconfig, context, group, namespace), **more)

    made: Callable[..., Any] = called
    for option in (kubeconfig_option, _context_option, namespace_option, group_option):
        made = option(made)
    return made


def connected(where: Where) -> "Api":
    """The API server of a place. Errors: InputError."""
    from kpm.kube.api import connect

    return connect(where.kubeconfig, where.context)
