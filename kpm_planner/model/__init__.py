"""Values: what users ask for, what a cluster and a machine are, what is to be written."""
