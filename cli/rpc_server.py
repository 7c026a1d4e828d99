"""The mode that serves this machine's devices to other machines: no HTTP, no model."""

import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

import attrs
import platformdirs

from cli.cores import physical_cores
from cli.errors import UsageError
from cli.last_words import ABORTED
from cli.option import Section
from cli.parse import FLAGS, Given
from engine.errors import EngineError, RpcError
from engine.native.abort import AbortGuard, abort_guard
from engine.native.devices import Device, devices
from engine.native.rpc import serve_function
from engine.native.rpc_server import DeviceServer, NativeDeviceServer, ServeOptions, choose_device
from engine.native.sd import rpc as image_rpc
from engine.native.sd.abort_guard import image_abort_guard
from llamabox import logs
from llamabox.settings import RpcServerSettings, Settings

log: Final = logging.getLogger("cli.rpc_server")

FAILURE: Final = 1
_PORT: Final = "rpc_server.port"
_IMAGES: Final = "images.enabled"
_PATIENCE: Final = 5.0  # seconds for what a client has us compute to end
_TOLD: Final = {"Accepted client connection": "a client came", "Client connection closed": "the client left"}


@attrs.frozen
class Side:
    """One of the two libraries: their protocols differ, so a worker serves the one or the other."""

    serves: str  # which models
    guard: AbortGuard
    devices: Callable[[], Sequence[Device]]
    function: Callable[[], int]


TEXT: Final = Side("text models", abort_guard, devices, serve_function)
IMAGES: Final = Side("image models", image_abort_guard, image_rpc.local_devices, image_rpc.serve_function)

type MakeServer = Callable[[Callable[[str], None], Callable[[], int]], DeviceServer]


def is_wanted(values: Mapping[str, Given]) -> bool:
    """Whether the command line asks for this mode. UsageError for flags that would do nothing in the chosen one."""
    port = values.get(_PORT)
    wanted = port is not None and port.value != 0
    for given in values.values():
        if given.spelling not in FLAGS:
            continue  # variables are there for all modes
        section = given.option.section
        if wanted and section not in (Section.RPC_SERVER, Section.GENERAL) and given.option.setting != _IMAGES:
            raise UsageError(f"{given.spelling}: not with --rpc-server-port, which serves devices: no model, no HTTP")
        if not wanted and section is Section.RPC_SERVER and given.option.setting != _PORT:
            raise UsageError(f"{given.spelling}: needs --rpc-server-port")
    return wanted


def run(settings: Settings, make_server: MakeServer = NativeDeviceServer) -> int:
    """Serve until SIGINT or SIGTERM; the process's exit status."""
    logs.configure(settings.log)
    ended = threading.Event()  # by a signal, or because the library stopped serving
    asked: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    side = IMAGES if settings.images.enabled else TEXT
    server = make_server(_on_line, side.function)
    try:
        options = _options(settings.rpc_server, side.devices())
        side.guard.install(_on_abort)
        server.start(options, ended.set)
    except EngineError as error:
        log.error("%s", error)
        return FAILURE
    _say(options, side.serves)
    ended.wait()
    if not asked:
        log.error("the library stopped serving")
        return FAILURE
    log.info("%s: stopping", signal.Signals(asked[0]).name)
    server.stop(_PATIENCE)
    log.info("stopped")
    logging.shutdown()
    # Python's own end would run the library's destructors beside a thread that may still compute.
    os._exit(0)


def _options(settings: RpcServerSettings, found: Sequence[Device]) -> ServeOptions:
    return ServeOptions(
        address=_address(settings.host),
        port=settings.port,
        device=choose_device(settings.main_gpu, found),
        threads=settings.threads or physical_cores(),
        cache_dir=_cache_dir(settings),
    )


def _address(host: str) -> str:
    """The IPv4 address of ``host``. Raises RpcError."""
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RpcError(f"--rpc-server-host: {host} has no IPv4 address: {reason}") from None


def _cache_dir(settings: RpcServerSettings) -> Path | None:
    """The directory for tensors, made where it is missing. Raises RpcError when it cannot be written to."""
    if not settings.cache and settings.cache_dir is None:
        return None
    directory = Path(settings.cache_dir or Path(platformdirs.user_cache_dir("llama-box")) / "rpc")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RpcError(f"--rpc-server-cache-dir: cannot make {directory}: {error.strerror or error}") from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise RpcError(f"--rpc-server-cache-dir: cannot write to {directory}")
    return directory


def _say(options: ServeOptions, serves: str) -> None:
    if not ipaddress.ip_address(options.address).is_loopback:
        log.warning(
            "ANYBODY WHO REACHES %s CAN USE THIS PROCESS AND ITS MEMORY: the protocol has no authentication and no "
            "encryption; listen in a network of your own only", options,
        )  # fmt: skip
    device = options.device
    log.info(
        "serving %s (%s) to %s, %d of %d MiB free, %d threads, %s",
        device.name, device.description, serves, device.free_mib, device.total_mib, options.threads,
        f"tensors kept in {options.cache_dir}" if options.cache_dir else "no tensors kept",
    )  # fmt: skip
    log.info("listening on %s", options)


def _on_line(line: str) -> None:
    if line in _TOLD:
        log.info("%s", _TOLD[line])
    else:
        log.debug("%s", line)


def _on_abort(message: str) -> None:
    log.critical("the native library gave up: %s", message)
    logging.shutdown()
    os._exit(ABORTED)
