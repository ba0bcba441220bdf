"""How a field of a custom resource is described where it is defined; its schema shows the same
words.
"""


def described(description: str, **bounds: object) -> dict[str, object]:
    """Metadata of a field: what it is, and the bounds that a schema can state, by their JSON Schema
    names.
    """
    return {"description": description, **bounds}
