"""An object of the API server of which only the identity could be read."""

from typing import Any


class Unread(dict[str, Any]):
    """Its metadata, as far as known. why: one line for people."""

    def __init__(self, metadata: dict[str, str], why: str) -> None:
        super().__init__(metadata=metadata)
        self.why = why
