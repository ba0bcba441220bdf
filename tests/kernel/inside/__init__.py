"""Programs that run in an emulated machine, on its own /sys."""
