"""Frequency that follows the telemetry of polling pods: a process of its own, so that the agent's
threads cost it nothing.
"""
