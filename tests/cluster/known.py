"""What the product does not do yet: tests that say what is right and may fail. Remove a line with the fault."""

KNOWN: dict[str, str] = {}
