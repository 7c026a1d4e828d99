"""The entry point: read the command line, then print something or run the server."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from cli.errors import UsageError
from cli.info import NATIVE, PLAIN, print_info
from cli.parse import check_available, read_arguments, read_environment

USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130  # what shells say of a process that SIGINT ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run llama-box with these arguments (without the program's name); the process's exit status."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print("llama-box:", *str(error).splitlines(), file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    values = read_arguments(arguments)
    for name in PLAIN:
        if name in values:
            print_info(name)
            return 0
    values = read_environment(os.environ) | values
    check_available(values)
    for name in NATIVE:
        if name in values:
            print_info(name)
            return 0
    # Imported late: --help must not pay for the server.
    from cli.build import build_settings
    from cli.placement import check_placement

    check_placement(values)
    settings = build_settings(values)
    from cli.serve import run

    return run(settings)
