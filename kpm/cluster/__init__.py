"""What a person asks of a cluster as a whole: answered by what operator and agents keep there."""
