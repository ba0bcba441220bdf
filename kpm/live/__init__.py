"""What CPUs do just now: of this machine by its own files, of a node by its agent's metrics, on a
terminal that follows them.
"""
