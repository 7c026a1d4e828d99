"""What the library says about the machine."""

import platform

from engine.native import devices


def test_processor_is_a_device() -> None:
    found = devices.devices()
    processors = [device for device in found if device.type is devices.DeviceType.CPU]
    assert len(processors) == 1
    assert processors[0].backend == "CPU"
    assert 0 < processors[0].free_mib <= processors[0].total_mib
    assert len({device.name for device in found}) == len(found)


def test_buffer_types_are_named_once() -> None:
    names = devices.buffer_types()
    assert "CPU" in names
    assert len(set(names)) == len(names)


def test_system_info_names_the_backends() -> None:
    assert devices.system_info().startswith("CPU : ")


def test_versions() -> None:
    versions = devices.versions()
    assert versions["Python"] == platform.python_version()
    assert versions["llama-cpp-python"][0].isdigit()
    assert versions["llama.cpp"]
