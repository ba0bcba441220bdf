"""Gates: what keeps the three packages what they are."""
