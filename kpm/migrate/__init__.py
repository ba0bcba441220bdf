"""What other systems say of power, said in this system's objects, with what changes in meaning."""
