"""What Kepler's dashboards ask for."""
