"""Serves this machine's devices to other machines by a library's RPC protocol."""

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final, Protocol

import attrs

from engine.errors import RpcError
from engine.native.devices import Device, DeviceType
from engine.native.rpc_watch import process_sockets

_SOON: Final = 0.01  # seconds between two looks


@attrs.frozen(kw_only=True)
class ServeOptions:
    """What a library's RPC server needs. ``address`` is a numeric IPv4 address."""

    address: str
    port: int
    device: Device
    threads: int
    cache_dir: Path | None = None

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


class DeviceServer(Protocol):
    """The RPC server of one library: llama.cpp's and the image library's speak different protocols."""

    def start(self, options: ServeOptions, ended: Callable[[], None]) -> None:
        """Serve on a thread of its own; returns when it listens. Raises RpcError.

        ``ended`` is called on that thread if serving ends.
        """

    def stop(self, patience: float) -> None:
        """End the clients' connections and wait until they are done with, ``patience`` seconds at most."""


def choose_device(number: int, found: Sequence[Device]) -> Device:
    """The device of this number among those found, counted without CPUs, RPC devices and mere accelerators.

    A negative number is the CPU, and so is 0 where there is no other. Raises RpcError.
    """
    served = [device for device in found if device.type in (DeviceType.GPU, DeviceType.IGPU)]
    if number < 0 or (number == 0 and not served):
        return next(device for device in found if device.type is DeviceType.CPU)
    if number >= len(served):
        known = ", ".join(f"{index} = {device.name}" for index, device in enumerate(served)) or "none but the processor"
        raise RpcError(f"there is no device {number}; known: {known}")
    return served[number]


class NativeDeviceServer:
    """A library's ``ggml_backend_rpc_start_server``. It can be started once a process, and has no stop of its own."""

    def __init__(self, on_line: Callable[[str], None], entry: Callable[[], int]) -> None:
        """``on_line`` gets what the library prints: clients that come and go; ``entry`` gives that function's address.

        It raises RpcError where the library has none.
        """
        self._on_line = on_line
        self._entry = entry
        self._thread: threading.Thread | None = None
        self._port = 0

    def start(self, options: ServeOptions, ended: Callable[[], None]) -> None:
        """See DeviceServer."""
        signature = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)
        serve = ctypes.CFUNCTYPE(None, *signature)(self._entry())
        check_free(options)
        self._port = options.port
        _read_standard_output(self._on_line)
        # A daemon: the process may end while the library computes.
        self._thread = threading.Thread(
            target=self._serve, args=(serve, options, ended), name="llama-box RPC server", daemon=True
        )
        self._thread.start()
        while not any(_listens(options)):
            self._thread.join(_SOON)
            if not self._thread.is_alive():
                raise RpcError(f"cannot serve devices on {options}: the library gave up")

    def _serve(self, serve: Any, options: ServeOptions, ended: Callable[[], None]) -> None:
        handles = (ctypes.c_void_p * 1)(options.device.handle)
        cache = None if options.cache_dir is None else os.fsencode(options.cache_dir)
        serve(str(options).encode(), cache, options.threads, len(handles), ctypes.addressof(handles))
        ended()

    def stop(self, patience: float) -> None:
        """See DeviceServer. The library takes leave of a client whose connection ends, and writes its files before."""
        deadline = monotonic() + patience
        while self._thread is not None and self._end_connections() and monotonic() < deadline:
            self._thread.join(_SOON)

    def _end_connections(self) -> int:
        """End what is left of them, and say how many there were."""
        count = 0
        for connection in process_sockets():
            with connection:
                if connection.getsockname()[1] == self._port and not _is_listening(connection):
                    count += 1
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
        return count


def check_free(options: ServeOptions) -> None:
    """Raise RpcError when the port cannot be listened on, e.g. because somebody else does."""
    with socket.socket(socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((options.address, options.port))
        except OSError as error:
            raise RpcError(f"cannot serve devices on {options}: {error.strerror or error}") from None


def _listens(options: ServeOptions) -> Iterator[bool]:
    for connection in process_sockets():
        with connection:
            yield connection.getsockname() == (options.address, options.port) and _is_listening(connection)


def _is_listening(connection: socket.socket) -> bool:
    return bool(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _read_standard_output(on_line: Callable[[str], None]) -> None:
    """Have ``on_line`` called for each line that native code prints from now on."""
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(writer)

    def read() -> None:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                on_line(line.rstrip())

    threading.Thread(target=read, name="llama-box RPC log", daemon=True).start()
