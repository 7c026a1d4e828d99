"""The first steps of a server. Light to import: the port is taken and the load begun before the rest is there."""

import logging
import os
import sys
from time import monotonic
from typing import Final

from api.listen import BindError, bind_sockets
from cli.report import report_ignored
from llamabox import logs
from llamabox.settings import Settings

log = logging.getLogger("cli.serve")

FAILURE: Final = 1
# The engine thread must not wait 5 ms for the interpreter lock when a step's results are there.
_SWITCH_INTERVAL: Final = 0.0005


def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; the process's exit status."""
    began = monotonic()
    logs.configure(settings.log)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    report_ignored(settings)
    try:
        listening = bind_sockets(settings.server)
    except BindError as error:
        log.error("%s", error)
        return FAILURE
    try:
        from cli.early_load import early_load

        with early_load(settings) as load:
            from cli.serve import serve

            status, stuck = serve(settings, listening.sockets, load, began)
    finally:
        listening.close()
    if stuck:
        # Finalizing Python would wait for ever for a native function inside an interpreter.
        logging.shutdown()
        os._exit(status)
    return status
