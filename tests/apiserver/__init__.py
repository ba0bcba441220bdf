"""Operator and agents against a real API server."""
