"""The agent's helper, as the process that it is."""
