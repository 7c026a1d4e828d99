"""Which device images are computed on: the registry of the image library, played by a fake of it."""

import functools
import logging

import pytest

from engine.errors import RpcError
from engine.native.devices import DeviceType
from engine.native.rpc import find_serve
from engine.native.rpc_probe import parse_endpoint
from engine.native.sd import rpc

FIRST, SECOND = "10.0.0.1:1", "10.0.0.2:2"
_CPU, _CUDA, _RPC = 1, 2, 3  # registries; their devices are 10 times as much and more


class Registry:
    """What ``engine.native.ggml.Ggml`` asks of ggml, over devices with a type and a registry. Handles are numbers."""

    def __init__(self, *, gpus: int = 0, rpc: bool = True) -> None:
        self.types = {10: DeviceType.CPU} | {20 + n: DeviceType.GPU for n in range(gpus)}
        self.order = [*range(20, 20 + gpus), 10]
        self.registries = [_CUDA, _CPU] + ([_RPC] if rpc else [])
        self.servers: dict[str, int] = {}
        self.connected: list[int] = []
        self.room = True

    def add_server(self, _ggml: object, endpoint: object, name: str) -> int:
        number = self.servers.setdefault(str(endpoint), 30 + len(self.servers))
        self.types[number] = DeviceType.GPU
        return 100 * number

    def dev_count(self) -> int:
        return len(self.order)

    def dev_get(self, index: int) -> int:
        return self.order[index]

    def dev_type(self, device: int) -> int:
        return self.types[device].value

    def dev_backend_reg(self, device: int) -> int:
        return device // 10

    def dev_name(self, device: int) -> bytes:
        return {1: b"CPU", 2: b"CUDA%d", 3: b"RPC%d"}[device // 10].replace(b"%d", b"%d" % (device % 10))

    def dev_description(self, device: int) -> bytes:
        return next((end for end, number in self.servers.items() if number == device), "local").encode()

    def dev_memory(self, device: int, free: object, total: object) -> None:
        """Nobody asks."""

    def dev_buffer_type(self, device: int) -> int:
        return 1000 + device

    def buft_alloc_buffer(self, buffer_type: int, size: int) -> int:
        self.connected.append(buffer_type - 1000)
        return int(self.room)

    def device_register(self, device: int) -> None:
        self.order.append(device)

    def reg_count(self) -> int:
        return len(self.registries)

    def reg_get(self, index: int) -> int:
        return self.registries[index]

    def reg_name(self, registry: int) -> bytes:
        return {_CPU: b"CPU", _CUDA: b"CUDA", _RPC: b"RPC"}[registry]

    def reg_get_proc_address(self, registry: int, name: bytes) -> int:
        return 4711 if registry == _RPC and name == b"ggml_backend_rpc_start_server" else 0

    def reg_dev_count(self, registry: int) -> int:
        return 1 if registry >= 1000 else sum(device // 10 == registry for device in self.order)

    def reg_dev_get(self, registry: int, index: int) -> int:
        if registry >= 1000:
            return registry // 100
        return [device for device in self.order if device // 10 == registry][index]

    def unload(self, registry: int) -> None:
        self.order = [device for device in self.order if device // 10 != registry]

    def first_gpu(self) -> str:
        """What the library would compute on."""
        found = [device for device in self.order if self.types[device] is DeviceType.GPU]
        return self.dev_name(found[0]).decode() if found else "CPU"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    """Puts a registry in the library's place."""

    def use(registry: Registry) -> Registry:
        monkeypatch.setattr(rpc.library, "ggml", lambda: registry)
        monkeypatch.setattr(rpc, "add_server", registry.add_server)
        monkeypatch.setattr(rpc, "probe", lambda endpoint, protocol: None)
        monkeypatch.setattr(rpc, "_taken", [])
        monkeypatch.setattr(rpc, "local_devices", functools.cache(rpc.local_devices.__wrapped__))
        return registry

    return use


def test_servers_come_before_gpus(use) -> None:
    use(Registry(gpus=2))
    ends = [parse_endpoint(end) for end in (FIRST, SECOND)]
    assert [device.name for device in rpc.candidates(ends)] == ["RPC0", "RPC1", "CUDA0", "CUDA1"]
    assert rpc.chosen_device((), None) is None, "the library chooses by itself"
    use(Registry())
    assert rpc.chosen_device((), 0) is None, "the processor"
    with pytest.raises(RpcError, match="no device 2 for images: there are 1"):
        rpc.chosen_device((FIRST,), 2)


@pytest.mark.parametrize(
    ("number", "name", "connected"), [(None, "RPC0", [30]), (1, "RPC1", [31]), (2, "CUDA0", []), (3, "CUDA1", [])]
)
def test_the_chosen_device_is_the_first_gpu_of_the_registry(
    use, number: int | None, name: str, connected: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """A server is connected to before it is, and only the one that is used."""
    caplog.set_level(logging.INFO, "engine.image")
    registry = use(Registry(gpus=2))
    device = rpc.chosen_device((FIRST, SECOND), number)
    assert device is not None
    assert registry.first_gpu() == "CUDA0"
    rpc.take(device)
    assert registry.first_gpu() == name
    assert registry.connected == connected
    assert f"images are computed on {name}" in caplog.text
    rpc.take(device)
    assert registry.connected == connected, "once is enough"
    other = rpc.chosen_device((FIRST, SECOND), 0 if number else 1)
    assert other is not None
    with pytest.raises(RpcError, match=f"computed on {name} already"):
        rpc.take(other)


def test_a_server_without_memory_is_named(use) -> None:
    registry = use(Registry())
    registry.room = False
    device = rpc.chosen_device((FIRST,), None)
    assert device is not None
    with pytest.raises(RpcError, match=f"RPC server {FIRST}: it has no memory left"):
        rpc.take(device)
    assert registry.first_gpu() == "CPU"


def test_a_library_that_was_built_without_rpc_is_named(use) -> None:
    assert find_serve(use(Registry()), rpc.NAME) == 4711
    use(Registry(rpc=False))
    with pytest.raises(RpcError, match=r"build of stable-diffusion\.cpp has no RPC: build it with GGML_RPC=ON"):
        rpc.check_build()
