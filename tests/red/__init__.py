"""Attacks and faults that were found by looking for them."""
