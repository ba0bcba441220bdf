"""The command line, and the forms that objects are read and written in."""
