"""The earlier capping tool's interface: its settings, its data files, its annotations."""
