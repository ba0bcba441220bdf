"""All objects of a kind, once, page after page."""

from collections.abc import Iterator

from kpm.kube.api import Api, Object, Resource

_PAGE = 100


def every(api: Api, resource: Resource) -> Iterator[Object]:
    """Each object of a kind; those that cannot be read have their metadata alone.

    Errors: ApiError, where the kind is not there too.
    """
    token = ""
    while True:
        more = {"continue": token} if token else {}
        found = api.list(resource, {"limit": str(_PAGE), **more})
        yield from found.get("items") or ()
        token = str((found.get("metadata") or {}).get("continue") or "")
        if not token:
            return
