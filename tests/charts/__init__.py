"""What is shipped, as it is rendered."""
