"""Dashboards and rules, and a real Prometheus that reads the agent."""
