"""Connects to the machines that --rpc names, before anything asks for their devices."""

import os
import sys
from collections.abc import Mapping
from typing import Final

from cli.errors import Unreachable
from cli.image_placement import SERVERS, makes_images_only
from cli.parse import Given
from engine.errors import EngineError

# EX_UNAVAILABLE of sysexits.h: what the process needs from elsewhere is not there. Starting again may help.
UNREACHABLE: Final = 69


def connect_servers(values: Mapping[str, Given]) -> None:
    """Make the devices of --rpc known to the library. Unreachable when a server is not usable.

    That is the image library where the only model makes images, else llama.cpp: their protocols differ.
    """
    given = values.get(SERVERS)
    if given is None:
        return
    from engine.native.rpc_probe import parse_endpoint

    endpoints = [parse_endpoint(text) for text in given.value]
    try:
        # The guards are for a server that goes away between our look at it and the library's.
        if makes_images_only(values):
            from engine.native.sd import rpc as image_rpc
            from engine.native.sd.abort_guard import image_abort_guard

            image_rpc.check_build()
            image_abort_guard.install(_end_at_once)
            image_rpc.connect(endpoints)
        else:
            from engine.native.abort import abort_guard
            from engine.native.rpc import connect

            abort_guard.install(_end_at_once)
            connect(endpoints)
    except EngineError as error:
        raise Unreachable(f"{given.spelling}: {error}") from None


def _end_at_once(message: str) -> None:
    print(f"llama-box: an RPC server failed: {message}", file=sys.stderr, flush=True)
    os._exit(UNREACHABLE)
