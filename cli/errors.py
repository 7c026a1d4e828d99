"""What the command line refuses."""


class UsageError(Exception):
    """The command line, the environment or a file that they name is wrong. The text is one line; exit status 2."""
