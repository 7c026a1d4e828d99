"""Devices and tensors: what is named must exist and be in use; endpoints and patterns are read."""

import pytest

from cli.errors import UsageError
from cli.parse import read_arguments
from cli.placement import Known, check_placement


def known(*names: str, shared: tuple[str, ...] | None = None) -> Known:
    """A machine with these devices, each with a buffer type of its own."""
    taken = names if shared is None else shared
    return Known(
        devices=names,
        shared=taken,
        buffer_types=lambda chosen: ["CPU", *(f"{name}-memory" for name in (taken if chosen is None else chosen))],
    )


@pytest.mark.parametrize(
    ("arguments", "there", "message"),
    [
        ("-dev X", known("A", "B"), "-dev: unknown device 'X'; known: A, B"),
        ("-dev X", known(), "-dev: unknown device 'X'; known: none"),
        ("-dev A,A", known("A", "B"), "-dev: A is named twice"),
        ("-mg 2", known("A", "B"), "-mg: 2 is not below the number of devices, 2"),
        ("-mg 1 -dev B", known("A", "B"), "-mg: 1 is not below the number of devices, 1"),
        ("-mg 1", known(), "-mg: 1 is not below the number of devices, 0"),
        ("-ts 1,1,1", known("A", "B"), "-ts: 3 shares for 2 devices"),
        ("-ts 1,1", known("A", "iGPU", shared=("A",)), "-ts: 2 shares for 1 devices"),
        (
            "-ot x=B-memory -dev A", known("A", "B"),
            "-ot: 'B-memory' is no buffer type of the devices in use; known: CPU, A-memory",
        ),
        (
            "-ot x=A-memory -sm none -mg 1", known("A", "B"),
            "-ot: 'A-memory' is no buffer type of the devices in use; known: CPU, B-memory",
        ),
        ("-ot x=GPU", known(), "-ot: 'GPU' is no buffer type of the devices in use; known: CPU"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_refused(arguments: str, there: Known, message: str):
    with pytest.raises(UsageError) as caught:
        check_placement(read_arguments(arguments.split()), lambda: there)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "arguments",
    ["-dev none -mg 0 -ts 1", "-dev A,B -mg 1 -ts 1,2", "-dev B,A", "-ot x=B-memory,y=CPU", "-dev B -ot x=B-memory"],
)
def test_what_exists_is_fine(arguments: str):
    check_placement(read_arguments(arguments.split()), lambda: known("A", "B"))


def test_nothing_native_is_asked_when_nothing_is_named():
    check_placement(read_arguments(["--port", "1"]), lambda: pytest.fail("asked"))


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "a:0", "a:65536", "a:b", "[::1]:1", "::1", "a:1,a:1", "a:1,", "http://a:1"]
)
def test_endpoints_are_ipv4_hosts_with_ports(text: str):
    with pytest.raises(UsageError, match="expected HOST:PORT by comma"):
        read_arguments(["--rpc", text])


@pytest.mark.parametrize(
    "text", ["", "CPU", "=CPU", "a=", "a(=CPU", "(?P<x>a)=CPU", "(?i)a=CPU", "(?<=a)b=CPU", "a=CPU,"]
)
def test_patterns_are_checked_before_the_library_sees_them(text: str):
    with pytest.raises(UsageError, match="expected PATTERN=BUFFER_TYPE by comma"):
        read_arguments(["-ot", text])


def test_memory_cannot_be_reserved():
    assert "--rpc-server-reserve-memory" in read_arguments(["--rpc-server-reserve-memory", "0"])
    with pytest.raises(UsageError, match="knows no reserve"):
        read_arguments(["--rpc-server-reserve-memory", "512"])
