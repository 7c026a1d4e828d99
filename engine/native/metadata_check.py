"""Finds out, in a child process, whether a model file's metadata makes the library abort.

A damaged vocabulary or a senseless number of layers ends the process in an assertion of the library, not in an error.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from engine.errors import ModelLoadError
from engine.native import library
from engine.native.gguf_file import check_file
from engine.native.trial import module_command, no_core_dump, try_file


def check_metadata(path: str, cache_dir: Path | None = None, *, command: Sequence[str] | None = None) -> None:
    """Raise ModelLoadError if loading the file would kill the process, or if it is no model at all.

    Blocks while a child reads the metadata and the vocabulary (about a second for a big one); a file that was good
    stays good as long as its size and date do. Other faults are left to the load proper, which names them.
    """
    check_file(path)
    killer = try_file("model", path, command or module_command("engine.native.metadata_check"), cache_dir)
    if killer is not None:
        raise ModelLoadError(f"cannot load {path}: its metadata makes the library abort: {killer}")


def main(path: str) -> int:
    """The child: exit status 0 if the library can read the metadata, 1 if it says that it cannot."""
    no_core_dump()
    lib = library.start()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    return 0 if lib.llama_model_load_from_file(path.encode(), params) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
