"""The entry point: read the command line, then print something or run the server."""

import os
import sys
from collections.abc import Sequence
from typing import Final

from cli.errors import Unreachable, UsageError
from cli.image_placement import SERVERS, check_image_placement, known_image_devices, makes_images_only
from cli.info import NATIVE, PLAIN, print_info
from cli.option import Section
from cli.parse import Values, read_arguments, read_environment
from cli.workers import UNREACHABLE, connect_servers

USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130  # what shells say of a process that SIGINT ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run llama-box with these arguments (without the program's name); the process's exit status."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print("llama-box:", *str(error).splitlines(), file=sys.stderr)
        return USAGE_ERROR
    except Unreachable as error:
        print("llama-box:", *str(error).splitlines(), file=sys.stderr)
        return UNREACHABLE
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    values = read_arguments(arguments)
    for name in PLAIN:
        if name in values:
            print_info(name)
            return 0
    values = read_environment(os.environ) | values
    serves_devices = _serves_devices(values)
    _set_polling(values)
    connect_servers(values)
    for name in NATIVE:
        if name in values:
            print_info(name, images=makes_images_only(values), servers=_servers(values))
            return 0
    # Imported late: --help must not pay for the server.
    from cli.build import build_settings, given_settings
    from cli.placement import check_placement

    if serves_devices:
        from cli import rpc_server

        return rpc_server.run(given_settings(values))
    if makes_images_only(values):
        check_image_placement(values, known_image_devices)
    else:
        check_placement(values)
    settings = build_settings(values)
    from cli.start import run

    return run(settings)


def _serves_devices(values: Values) -> bool:
    if not any(given.option.section is Section.RPC_SERVER for given in values.values()):
        return False
    from cli.rpc_server import is_wanted

    return is_wanted(values)


def _servers(values: Values) -> Sequence[str]:
    given = values.get(SERVERS)
    return given.value if given is not None else ()


def _set_polling(values: Values) -> None:
    """The OpenMP runtime reads this when it is loaded, with the native library."""
    from cli.processors import polling

    units = polling(values)
    if units is not None:
        from engine.native.threads import set_polling

        set_polling(units)
