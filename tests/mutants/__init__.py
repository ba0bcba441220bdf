"""Small faults that the tests must notice."""
