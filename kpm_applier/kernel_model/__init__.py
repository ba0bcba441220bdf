"""A kernel in memory, for simulator and tests; nothing of the product itself imports it."""
