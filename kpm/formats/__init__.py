"""Texts and mappings of others into values and back: objects, pods, documents, JSON."""
