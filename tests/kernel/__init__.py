"""Real kernel drivers in an emulated machine, and random lives of nodes."""
