"""Loads a model with its upscaler to where they belong."""

from engine.native.devices import RPC
from engine.native.sd.context import ImageContext
from engine.native.sd.options import ImageModelOptions, UpscalerOptions
from engine.native.sd.rpc import chosen_device, take
from engine.native.sd.upscaler import Upscaler


def load_model(model: ImageModelOptions, upscaler: UpscalerOptions | None) -> tuple[ImageContext, Upscaler | None]:
    """Choose the device and load both. Raises ModelLoadError and RpcError.

    The upscaler stays on this machine: a server keeps one graph a device for being computed again, so two models there
    could get each other's.
    """
    device = chosen_device(model.rpc_servers, model.device)
    remote = device is not None and device.backend == RPC
    if device is not None and not remote:
        take(device)
    enlarger = Upscaler(upscaler) if upscaler is not None else None
    try:
        if device is not None and remote:
            take(device)
        return ImageContext(model, remote=remote), enlarger
    except BaseException:
        if enlarger is not None:
            enlarger.close()
        raise
