"""What the command line refuses."""


class UsageError(Exception):
    """The command line, the environment or a file that they name is wrong. The text is one line; exit status 2."""


class Unreachable(Exception):
    """Another machine that the command line names cannot be used now. The text is one line; exit status 69."""
