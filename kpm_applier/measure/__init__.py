"""Energy meters, CPU time and frequencies, read again and again."""
