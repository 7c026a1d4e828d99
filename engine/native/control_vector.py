"""Control vectors: directions that are added to the hidden state behind each layer."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray

from engine.errors import ModelLoadError
from engine.native.gguf_file import FLOAT32, GgufFile, Tensor, read_gguf
from engine.native.options import Scaled

_ARCHITECTURE: Final = "controlvector"
_DIRECTION: Final = re.compile(r"direction\.([0-9]{1,5})")


@attrs.frozen
class ControlVector:
    """``directions``: float32[n_layer - 1, n_embd], row i for layer i + 1; ``first`` … ``last`` get theirs."""

    directions: NDArray[np.float32]
    first: int
    last: int

    @property
    def acts(self) -> bool:
        """Whether it changes anything."""
        return bool(self.directions[self.first - 1 : self.last].any())


def load_control_vector(
    files: Sequence[Scaled], layers: tuple[int, int] | None, *, n_layer: int, n_embd: int
) -> ControlVector:
    """The sum of the files, each times its scale. ``layers``: first and last one that change; None: all.

    Layer 0 has no direction. Raises ModelLoadError, which names the file and the reason.
    """
    directions = np.zeros((max(n_layer - 1, 0), n_embd), np.float32)
    for scaled in files:
        for layer, direction in _directions(read_gguf(scaled.path), n_layer, n_embd):
            directions[layer - 1] += np.float32(scaled.scale) * direction
    first, last = layers or (1, n_layer - 1)
    if first > n_layer - 1:
        raise ModelLoadError(
            f"control vectors change the layers 1 to {n_layer - 1} of this model: there is no layer {first}"
        )
    return ControlVector(directions, first, min(last, n_layer - 1))


def _directions(file: GgufFile, n_layer: int, n_embd: int) -> list[tuple[int, NDArray[np.float32]]]:
    if (architecture := file.text("general.architecture")) != _ARCHITECTURE:
        raise _wrong(file, f"its architecture is {architecture!r}, not {_ARCHITECTURE!r}")
    if not file.tensors:
        raise _wrong(file, "it has no directions")
    return [(_layer(file, tensor, n_layer, n_embd), _values(file, tensor)) for tensor in file.tensors]


def _layer(file: GgufFile, tensor: Tensor, n_layer: int, n_embd: int) -> int:
    """The layer of a direction that fits the model."""
    named = _DIRECTION.fullmatch(tensor.name)
    if named is None:
        raise _wrong(file, f"the tensor {tensor.name!r} is no direction of a layer")
    if tensor.type != FLOAT32:
        raise _wrong(file, f"the tensor {tensor.name!r} is not of 32-bit floats")
    if tensor.shape != (n_embd,):
        raise _wrong(file, f"{tensor.name} has the shape {tensor.shape}, the model needs ({n_embd},)")
    layer = int(named[1])
    if not 1 <= layer < n_layer:
        raise _wrong(file, f"{tensor.name}: the model has directions for the layers 1 to {n_layer - 1}")
    return layer


def _values(file: GgufFile, tensor: Tensor) -> NDArray[np.float32]:
    (count,) = tensor.shape
    with Path(file.path).open("rb") as stream:
        stream.seek(tensor.offset)
        data = stream.read(4 * count)
    if len(data) != 4 * count:
        raise _wrong(file, "the file is truncated")
    values = np.frombuffer(data, "<f4")
    if not np.isfinite(values).all():
        raise _wrong(file, f"{tensor.name} has values that are not finite")
    return values.astype(np.float32)


def _wrong(file: GgufFile, reason: str) -> ModelLoadError:
    return ModelLoadError(f"cannot load the control vector {file.path}: {reason}")
