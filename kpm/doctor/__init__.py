"""What keeps power management from working, on a node or in a cluster, and the command that mends
it. Nothing is changed here.
"""
