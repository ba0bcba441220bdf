"""Tests: one folder for each part of the project, and what they share."""
