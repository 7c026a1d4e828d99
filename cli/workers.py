"""Connects to the machines that --rpc names, before anything asks for their devices."""

import os
import sys
from collections.abc import Mapping
from typing import Final

from cli.errors import Unreachable
from cli.parse import Given
from engine.errors import RpcError

# EX_UNAVAILABLE of sysexits.h: what the process needs from elsewhere is not there. Starting again may help.
UNREACHABLE: Final = 69


def connect_servers(values: Mapping[str, Given]) -> None:
    """Make the devices of --rpc known to the library. Unreachable when a server is not usable."""
    given = values.get("engine.model.rpc_servers")
    if given is None:
        return
    from engine.native.abort import abort_guard
    from engine.native.rpc import connect
    from engine.native.rpc_probe import parse_endpoint

    # A server that goes away between our look at it and the library's.
    abort_guard.install(_end_at_once)
    try:
        connect([parse_endpoint(text) for text in given.value])
    except RpcError as error:
        raise Unreachable(f"{given.spelling}: {error}") from None


def _end_at_once(message: str) -> None:
    print(f"llama-box: an RPC server failed: {message}", file=sys.stderr, flush=True)
    os._exit(UNREACHABLE)
