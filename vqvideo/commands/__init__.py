"""One module per command: the functions that the command line and the tools call."""
