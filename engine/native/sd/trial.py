"""Tries a model, its LoRAs and its upscaler in a child process: what kills that would kill the server.

A LoRA of another model's shapes, or a file that only looks like a model, ends the process in an assertion, not in an
error. A child makes one small image of one step with each LoRA; if a signal ends it, the start fails with the reason.
The verdict is remembered for the files and the library, so that later starts do not pay for it.
"""

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from engine.errors import EngineError, ModelLoadError
from engine.native.sd import library
from engine.native.sd.context import ImageContext
from engine.native.sd.image import ImageParams, LoraUse, RgbImage
from engine.native.sd.options import ImageModelOptions, LoraMode, Sampler, UpscalerOptions, WeightType
from engine.native.sd.upscaler import Upscaler
from engine.native.trial import Memory, module_command, no_core_dump, run_child

_GOOD: Final = "good"
_TIMEOUT: Final = 1800.0  # seconds; a large model may take minutes to load
_SIDE: Final = 64
STACK: Final = 8 * 1024 * 1024  # bytes: what the library needs for the longest prompts


def check(
    model: ImageModelOptions,
    upscaler: UpscalerOptions | None,
    cache_dir: Path | None = None,
    *,
    command: Sequence[str] | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Raise ModelLoadError if using the files would kill the process.

    Blocks while a child loads the model, once for the same files. Errors that the library reports itself are left to
    the load proper. The trial ends without a verdict once ``go_on`` says no.
    """
    job = _describe(model, upscaler)
    memory, name = Memory(cache_dir), f"image-{hashlib.sha256(_identity(job).encode()).hexdigest()[:32]}"
    if memory.recall(name) == _GOOD:
        return
    outcome = run_child(command or module_command("engine.native.sd.trial"), json.dumps(job), _TIMEOUT, go_on)
    if outcome.killed_by:
        reason = outcome.complaint or outcome.killed_by
        raise ModelLoadError(f"cannot use {_culprits(model, upscaler)}: tried, it kills the process: {reason}")
    if outcome.status == 0:
        memory.remember(name, _GOOD)


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
    model["loras"] = tuple(model["loras"])
    upscaler = job["upscaler"]
    return ImageModelOptions(**model), UpscalerOptions(**upscaler) if upscaler is not None else None


def _identity(job: dict[str, Any]) -> str:
    """Changes with the options, the files and the library."""
    paths = [value for value in job["model"].values() if isinstance(value, str)] + list(job["model"]["loras"])
    if job["upscaler"] is not None:
        paths.append(job["upscaler"]["path"])
    files = []
    for path in (Path(text) for text in paths):
        if path.is_file():
            stat = path.stat()
            files.append(f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns}")
    return "\0".join((library.version(), json.dumps(job, sort_keys=True), *files))


def try_files(model: ImageModelOptions, upscaler: UpscalerOptions | None) -> None:
    """One small image without and with each LoRA, and upscaled. May kill the process. Raises EngineError."""
    context = ImageContext(model)
    picture = RgbImage(width=_SIDE, height=_SIDE, data=bytes(range(192)) * _SIDE)
    params = ImageParams(
        prompt="a cat", negative_prompt="a dog", width=_SIDE, height=_SIDE, sampler=Sampler.EULER, steps=1,
        init_image=picture, strength=1.0, control_image=picture if model.control_net is not None else None,
    )  # fmt: skip
    for uses in ((), *((LoraUse(path=path),) for path in model.loras)):
        context.generate(attrs.evolve(params, loras=uses), lambda step, steps: None, lambda step, frame: None)
    context.close()
    if upscaler is not None:
        enlarger = Upscaler(upscaler)
        enlarger.upscale(picture)
        enlarger.close()


def main(job: str) -> int:
    """The child: exit status 0 if all went well, 1 if the library reported an error."""
    no_core_dump()
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
