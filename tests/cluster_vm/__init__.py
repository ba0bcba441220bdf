"""The same on an emulated machine with real drivers."""
