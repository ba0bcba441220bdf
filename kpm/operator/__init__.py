"""The operator: makes the agents and the objects of each node, and
rolls up what the agents report.
"""
