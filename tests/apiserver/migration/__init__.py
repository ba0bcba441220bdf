"""Objects of the version before, as they were checked in, and what becomes of them."""
