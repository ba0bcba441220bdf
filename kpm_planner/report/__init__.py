"""What is said of a plan: states and statuses of objects, and explanations in words."""
