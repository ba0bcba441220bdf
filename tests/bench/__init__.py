"""Costs as ratios to a floor; each bench is a program that `make bench...` runs."""
