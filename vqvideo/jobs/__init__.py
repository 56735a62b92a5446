"""One file per command: what the command line and the tools call."""
