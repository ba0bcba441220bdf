"""Measuring energy on a node: containers, samples, totals, and how they are told."""
