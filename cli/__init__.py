"""The command line: the option table, its parser and help, and the composition root."""
