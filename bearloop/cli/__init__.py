"""The command line: each step of the life as a command, over the SDK."""
