"""Finds out, in a child process, whether a projector's file makes the library abort.

A file of another kind, or one with senseless sizes, may end the process in an assertion of the library.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.errors import ModelLoadError
from engine.native import library
from engine.native.gguf_file import check_file, read_gguf
from engine.native.trial import module_command, no_core_dump, try_file

_TYPES: Final = ("clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type")
# Their embeddings depend on where an image stands in the prompt, so they cannot be shared by content.
_POSITIONAL: Final = frozenset({"deepseek4v", "hunyuanvl"})


def check_projector(path: str, cache_dir: Path | None = None, *, command: Sequence[str] | None = None) -> None:
    """Raise ModelLoadError for a file that is no projector, that we cannot serve, or that would kill the process.

    Blocks while a child loads it and encodes an empty image; a file that was good stays good as long as its size and
    date do. Other faults are left to the load proper, which names them.
    """
    check_file(path)
    metadata = read_gguf(path).metadata
    if (kind := metadata.get("general.architecture", "unknown")) != "clip":
        raise ModelLoadError(f"cannot load {path}: it is no projector for images or sound, but of the kind {kind!r}")
    if unserved := _POSITIONAL & {metadata.get(key) for key in _TYPES}:
        raise ModelLoadError(
            f"cannot load {path}: projectors of the kind {min(unserved)} are not supported, "
            "their images depend on where in the prompt they stand"
        )
    killer = try_file("projector", path, command or module_command("engine.native.projector_check"), cache_dir)
    if killer is not None:
        raise ModelLoadError(f"cannot load {path}: it makes the library abort: {killer}")


def main(path: str) -> int:
    """The child: exit status 0 if the library can load the projector and use it, 1 if it says that it cannot."""
    no_core_dump()
    mtmd = library.start_mtmd()
    params = mtmd.mtmd_context_params_default()
    params.use_gpu = False
    params.print_timings = False
    return 0 if mtmd.mtmd_init_from_file(path.encode(), None, params) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
