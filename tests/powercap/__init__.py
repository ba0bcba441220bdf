"""Limits of power, and the daemon that other vendors' tools talk to."""
