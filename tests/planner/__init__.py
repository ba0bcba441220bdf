"""The planner's tests: examples that read as the specification, and laws below property/."""
