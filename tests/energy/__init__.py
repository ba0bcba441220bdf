"""How energy is measured, attributed and told."""
