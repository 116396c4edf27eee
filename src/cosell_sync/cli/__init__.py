"""The command line: one file per command; ``main`` parses, dispatches and sets the exit code."""
