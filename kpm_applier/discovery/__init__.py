"""What a machine is and what its managed files show."""
