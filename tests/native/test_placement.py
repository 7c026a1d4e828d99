"""Tensors in the buffer types that they are to be in."""

import logging
import re
from pathlib import Path

import pytest

from cli.build import build_settings
from cli.parse import read_arguments
from engine.errors import ModelLoadError
from engine.native.devices import Device, DeviceType
from engine.native.model import Model
from engine.native.options import ModelOptions
from engine.native.placement import spread_over
from tests.models.tiny_moe import N_LAYER, write_tiny_moe


@pytest.fixture(scope="module")
def tiny_moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_moe(tmp_path_factory.mktemp("models") / "tiny-moe.gguf")


def overridden(options: ModelOptions, caplog: pytest.LogCaptureFixture) -> set[str]:
    """The tensors of which the library says, while it loads, that their place was overridden."""
    caplog.set_level(logging.DEBUG, "llama.cpp")
    Model(options).close()
    return set(re.findall(r"tensor (\S+)\.weight \(.*buffer type overridden to CPU", caplog.text))


def test_tensors_are_placed_by_name(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ModelOptions(path=str(tiny_model), tensor_overrides=((r"blk\.1\.ffn_(up|down)", "CPU"), ("_q", "CPU")))
    assert overridden(options, caplog) == {"blk.1.ffn_up", "blk.1.ffn_down", "blk.0.attn_q", "blk.1.attn_q"}


@pytest.mark.parametrize(
    ("arguments", "layers"), [("-cmoe", range(N_LAYER)), ("-ncmoe 1", range(1)), ("-ncmoe 0", range(0))]
)
def test_experts_stay_in_main_memory(
    tiny_moe: Path, caplog: pytest.LogCaptureFixture, arguments: str, layers: range
) -> None:
    settings = build_settings(read_arguments(["-m", str(tiny_moe), *arguments.split()]))
    expected = {f"blk.{layer}.ffn_{name}_exps" for layer in layers for name in ("gate", "up", "down")}
    assert overridden(settings.engine.model, caplog) == expected


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ((".", "GPU9"), r"no buffer type GPU9 \(known: CPU\)"),
        (("[[:nothing:]]", "CPU"), "cannot load .*: Invalid character class"),
    ],
    ids=["type", "pattern"],
)
def test_what_the_library_could_not_take_is_a_load_error(
    tiny_model: Path, override: tuple[str, str], reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        Model(ModelOptions(path=str(tiny_model), tensor_overrides=(override,)))


def device(name: str, backend: str, kind: DeviceType) -> Device:
    return Device(name=name, description="", backend=backend, type=kind, total_mib=0, free_mib=0, handle=0)


def test_models_are_spread_over_other_machines_first() -> None:
    cpu, blas = device("CPU", "CPU", DeviceType.CPU), device("BLAS", "BLAS", DeviceType.ACCELERATOR)
    gpu, graphics = device("CUDA0", "CUDA", DeviceType.GPU), device("iGPU", "Vulkan", DeviceType.IGPU)
    remote = device("RPC0", "RPC", DeviceType.GPU)

    def names(*found: Device, chosen: tuple[str, ...] | None = None) -> list[str]:
        return [each.name for each in spread_over(found, chosen)]

    assert names(cpu, blas, gpu, graphics, remote) == ["RPC0", "CUDA0"]
    assert names(cpu, blas, graphics, remote) == ["RPC0", "iGPU"]
    assert names(cpu, blas) == []
    assert names(cpu, gpu, graphics, remote, chosen=("iGPU", "RPC0")) == ["iGPU", "RPC0"]
    assert names(cpu, gpu, chosen=()) == []
