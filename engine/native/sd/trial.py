"""Tries a model, its LoRAs and its upscaler in a child process: what kills that would kill the server.

A LoRA of another model's shapes, or a file that only looks like a model, ends the process in an assertion, not in an
error. A child makes one small image of one step with each LoRA; if a signal ends it, the start fails with the reason.
The verdict is remembered for the files and the library, so that later starts do not pay for it.
"""

import contextlib
import importlib
import json
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from engine.errors import EngineError, ModelLoadError, RpcError
from engine.native import library as text_library
from engine.native.sd import library
from engine.native.sd.image import ImageParams, LoraUse, RgbImage
from engine.native.sd.loading import load_model
from engine.native.sd.options import ImageModelOptions, LoraMode, Sampler, UpscalerOptions, WeightType
from engine.native.trial import file_identity, module_command, no_core_dump, try_once

_TIMEOUT: Final = 1800.0  # seconds; a large model may take minutes to load
_SIDE: Final = 64
_SERVER_FAILED: Final = "RPC server"  # in what the library says of a server that hangs up
STACK: Final = 8 * 1024 * 1024  # bytes: what the library needs for the longest prompts


def check(
    model: ImageModelOptions,
    upscaler: UpscalerOptions | None,
    cache_dir: Path | None = None,
    *,
    command: Sequence[str] | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Raise ModelLoadError if using the files would kill the process, RpcError if an RPC server was to blame.

    Blocks while a child loads the model, once for the same files. Errors that the library reports itself are left to
    the load proper. The trial ends without a verdict once ``go_on`` says no.
    """
    job = _describe(model, upscaler)
    command = command or module_command("engine.native.sd.trial")
    killer = try_once("image", _identity(job), command, json.dumps(job), cache_dir, timeout=_TIMEOUT, go_on=go_on)
    if killer is None:
        return
    if model.rpc_servers and _SERVER_FAILED in killer:
        raise RpcError(f"an RPC server ({', '.join(model.rpc_servers)}) failed while the model was tried: {killer}")
    raise ModelLoadError(f"cannot use {_culprits(model, upscaler)}: tried, it kills the process: {killer}")


def _culprits(model: ImageModelOptions, upscaler: UpscalerOptions | None) -> str:
    files = [path for _, path in model.parts()] + list(model.loras)
    if upscaler is not None:
        files.append(upscaler.path)
    return " with ".join(files)


def _describe(model: ImageModelOptions, upscaler: UpscalerOptions | None) -> dict[str, Any]:
    """The options as JSON; enums by name."""
    described = attrs.asdict(model)
    described["lora_mode"] = model.lora_mode.name
    described["weight_type"] = model.weight_type.name if model.weight_type is not None else None
    return {"model": described, "upscaler": attrs.asdict(upscaler) if upscaler is not None else None}


def _options(job: dict[str, Any]) -> tuple[ImageModelOptions, UpscalerOptions | None]:
    """The reverse of ``_describe``."""
    model = dict(job["model"])
    model["lora_mode"] = LoraMode[model["lora_mode"]]
    model["weight_type"] = WeightType[model["weight_type"]] if model["weight_type"] is not None else None
    for name in ("loras", "rpc_servers"):
        model[name] = tuple(model[name])
    upscaler = job["upscaler"]
    return ImageModelOptions(**model), UpscalerOptions(**upscaler) if upscaler is not None else None


def _identity(job: dict[str, Any]) -> str:
    """Changes with the options, the files and the library."""
    paths = [value for value in job["model"].values() if isinstance(value, str)] + list(job["model"]["loras"])
    if job["upscaler"] is not None:
        paths.append(job["upscaler"]["path"])
    files = [file_identity(path) for path in map(Path, paths) if path.is_file()]
    return "\0".join((library.version(), json.dumps(job, sort_keys=True), *files))


def try_files(model: ImageModelOptions, upscaler: UpscalerOptions | None) -> None:
    """One small image without and with each LoRA, and upscaled. May kill the process. Raises EngineError."""
    context, enlarger = load_model(model, upscaler)
    picture = RgbImage(width=_SIDE, height=_SIDE, data=bytes(range(192)) * _SIDE)
    params = ImageParams(
        prompt="a cat", negative_prompt="a dog", width=_SIDE, height=_SIDE, sampler=Sampler.EULER, steps=1,
        init_image=picture, strength=1.0, control_image=picture if model.control_net is not None else None,
    )  # fmt: skip
    for uses in ((), *((LoraUse(path=path),) for path in model.loras)):
        context.generate(attrs.evolve(params, loras=uses), lambda step, steps: None, lambda step, frame: None)
    context.close()
    if enlarger is not None:
        enlarger.upscale(picture)
        enlarger.close()


def load_what_the_server_has() -> None:
    """The other native libraries of the server's process, before the image library: one of them can be its end.

    Seen with an image library that has a C++ runtime of its own and exports it: alone in a process it worked.
    """
    importlib.import_module("numpy")
    with contextlib.suppress(ImportError, OSError, RuntimeError):  # an installation for images only
        text_library.load()


def main(job: str) -> int:
    """The child: exit status 0 if all went well, 1 if the library reported an error."""
    no_core_dump()
    load_what_the_server_has()
    results: list[int] = []

    def body() -> None:
        try:
            try_files(*_options(json.loads(job)))
            results.append(0)
        except EngineError as error:
            sys.stderr.write(f"{error}\n")

    threading.stack_size(STACK)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return results[0] if results else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
