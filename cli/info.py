"""The flags that print something and end."""

import importlib.metadata
import platform
import shutil
from collections.abc import Sequence
from typing import Final

import cli.help

# Printed before anything else is looked at: a wrong variable or an unavailable flag does not hide the help.
PLAIN: Final = ("--help", "--version")
NATIVE: Final = ("--system-info", "--list-devices", "--list-buffer-types")


def print_info(name: str, *, images: bool = False, servers: Sequence[str] = ()) -> None:
    """Print what the flag of this name asks for to standard output.

    ``images``: devices are those of the image library, ``servers`` included.
    """
    match name:
        case "--help":
            print(cli.help.help_text(shutil.get_terminal_size().columns), end="")
        case "--version":
            _print_versions()
        case "--system-info":
            from engine.native.devices import system_info

            print(system_info())
        case "--list-devices":
            _print_devices(images=images, servers=servers)
        case "--list-buffer-types":
            from engine.native.devices import buffer_types

            print("\n".join(buffer_types()))
        case _:
            raise ValueError(f"{name} prints nothing")


def _print_versions() -> None:
    print(f"llama-box {_version('llama-box')}")
    print(f"Python {platform.python_version()}")
    for package in ("llama-cpp-python", "stable-diffusion-cpp-python"):
        print(f"{package} {_version(package)}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _print_devices(*, images: bool, servers: Sequence[str]) -> None:
    if images:
        from engine.native.rpc_probe import parse_endpoint
        from engine.native.sd.rpc import connect, local_devices

        found = [*connect([parse_endpoint(server) for server in servers]), *local_devices()]
    else:
        from engine.native.devices import devices

        found = devices()
    for device in found:
        print(f"{device.name}: {device.description} ({device.total_mib} MiB, {device.free_mib} MiB free)")
