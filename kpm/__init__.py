"""Kubernetes power manager: command line and thin shells around kpm_planner and kpm_applier."""

__version__ = "0.2.0"
