"""An API server in memory, with the client's methods: versions, conflicts, failures on demand.

No HTTP.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attrs import define, field

from kpm.kube.api import MERGE_PATCH, Api, ApiError, Object, Resource

DOWN = ApiError(0, "ConnectionRefused", "nobody there")
Key = tuple[str, str | None, str]


def merged(document: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


@define(eq=False)
class Clock:
    """A monotonic clock that a test moves. speed: of one that is wrong."""

    now: float = 1000.0
    speed: float = 1.0

    def __call__(self) -> float:
        return self.now * self.speed


@define(eq=False)
class MemoryApi(Api):
    """Objects by plural, namespace and name. failure: what every call meets meanwhile; before:
    called before each call is done.
    """

    objects: dict[Key, dict[str, Any]] = field(factory=dict)
    calls: list[tuple[str, str, str, Any]] = field(factory=list)
    failure: ApiError | None = None
    before: Callable[[str], None] = lambda _verb: None
    version: int = 0

    @contextmanager
    def failing(self, failure: ApiError = DOWN) -> Iterator[None]:
        """Meanwhile every call fails."""
        self.failure = failure
        yield
        self.failure = None

    def put(self, resource: Resource, document: Object) -> None:
        """Somebody else writes an object."""
        self._store((resource.plural, resource.namespace, document["metadata"]["name"]), document)

    def written(self, verb: str, plural: str) -> list[Any]:
        """The bodies of calls of one kind, in order."""
        return [body for said, what, _, body in self.calls if (said, what) == (verb, plural)]

    # --- the client's methods ---

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return copy.deepcopy(self._found("get", resource, name))

    def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        key = self._asked("create", resource, body["metadata"]["name"], body)
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", str(key))
        return self._store(key, body)

    def replace(self, resource: Resource, name: str, body: Object) -> Object:
        before = self._found("replace", resource, name, body)
        wanted = body["metadata"].get("resourceVersion")
        if wanted is not None and wanted != before["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        return self._store((resource.plural, resource.namespace, name), body)

    def patch(
        self,
        resource: Resource,
        name: str,
        body: Any,
        *,
        subresource: str | None = None,
        kind: str = MERGE_PATCH,
    ) -> Object:
        before = self._found("patch", resource, name, body)
        assert kind == MERGE_PATCH
        assert subresource is None or set(body) == {subresource}
        return self._store((resource.plural, resource.namespace, name), merged(before, body))

    def apply(
        self,
        resource: Resource,
        name: str,
        body: Object,
        manager: str,
        *,
        subresource: str | None = None,
    ) -> Object:
        before = self._found("apply", resource, name, body)
        assert subresource == "status"
        return self._store(
            (resource.plural, resource.namespace, name), {**before, "status": body["status"]}
        )

    def _asked(self, verb: str, resource: Resource, name: str, body: Any = None) -> Key:
        self.before(verb)
        self.calls.append((verb, resource.plural, name, copy.deepcopy(body)))
        if self.failure is not None:
            raise self.failure
        return (resource.plural, resource.namespace, name)

    def _found(self, verb: str, resource: Resource, name: str, body: Any = None) -> dict[str, Any]:
        key = self._asked(verb, resource, name, body)
        if key not in self.objects:
            raise ApiError(404, "NotFound", str(key))
        return self.objects[key]

    def _store(self, key: Key, document: Object) -> dict[str, Any]:
        self.version += 1
        stored = copy.deepcopy(dict(document))
        stored["metadata"] = {**stored["metadata"], "resourceVersion": str(self.version)}
        self.objects[key] = stored
        return copy.deepcopy(stored)
