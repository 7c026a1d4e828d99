"""Network namespaces that play machines with a network between them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

type Machines = tuple[str, list[tuple[str, str]]]
"""A namespace, and (namespace, address) of those that it reaches."""


class NoNetworkError(Exception):
    """There are no namespaces to be had; the text says why."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def network() -> Iterator[Machines]:
    """One machine and two more that it reaches, each by a cable of its own. Raises NoNetworkError."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        raise NoNetworkError("network namespaces need root and the command ip")
    names = [f"llamabox{os.getpid()}{letter}" for letter in "cab"]
    made: list[str] = []
    try:
        for name in names:
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                raise NoNetworkError(f"no network namespaces here: {error.stderr.decode().strip()}") from None
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        client, *others = names
        for number, name in enumerate(others):
            ip("-n", client, "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            for namespace, device, host in ((client, f"to{number}", 1), (name, "eth0", 2)):
                ip("-n", namespace, "address", "add", f"10.99.{number}.{host}/24", "dev", device)
                ip("-n", namespace, "link", "set", device, "up")
        yield client, [(name, f"10.99.{number}.2") for number, name in enumerate(others)]
    finally:
        for name in made:
            ip("netns", "delete", name)
