"""Laws of the applier, one module a family."""
