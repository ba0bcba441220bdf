"""What was there before us, kept in a file until it has been put back."""
