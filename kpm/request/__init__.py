"""What a command is asked: options and files, made into the inputs of a plan."""
