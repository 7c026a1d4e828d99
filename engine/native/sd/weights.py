"""Looks at weight files before the library does: a header that is not what it expects ends the process."""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any, Final, TypeGuard

import attrs

from engine.errors import ModelLoadError
from engine.native.gguf_file import check_file, is_gguf, read_gguf, unreadable

_LENGTH: Final = 8  # bytes of the header's length
_MOST_HEADER: Final = 256 * 1024 * 1024
_MOST_DIMENSIONS: Final = 5
_MOST_ELEMENTS: Final = 2**48
_BYTES: Final = {
    "F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "U8": 1,
}  # fmt: skip
_LORA_PART: Final = re.compile(
    r"lora_(down|up|mid|A|B|linear_layer|magnitude)|\.(down|up)\.weight$|hada_w|lokr_|\.alpha$|\.dora_scale$|\.diff(_b)?$"
)
_VOCABULARY: Final = "tokenizer.ggml.model"
_LORA_PAIR: Final = re.compile(r"^(?P<base>.+)\.lora_?(?:\.)?(?P<part>down|up|A|B)(?:\.default)?\.weight$")


@attrs.frozen
class Tensor:
    """One tensor of a safetensors file."""

    dtype: str
    shape: tuple[int, ...]


def check_weights(path: str) -> None:
    """Raise ModelLoadError unless the file is a sound safetensors or GGUF file."""
    try:
        named_gguf = is_gguf(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if named_gguf:
        check_file(path)
    else:
        read_safetensors(path)


def check_model(path: str) -> None:
    """As ``check_weights``, and the file must be neither a language model nor a LoRA: the library divides by zero
    over the latter."""
    check_weights(path)
    if is_gguf(path):
        _check_makes_images(path)
        return
    tensors = read_safetensors(path)
    if all(_LORA_PART.search(name) for name in tensors):
        raise ModelLoadError(f"cannot load {path}: it is a LoRA, not a model (--image-lora adds one)")


def _check_makes_images(path: str) -> None:
    """A GGUF file with a vocabulary is a language model: of it the library only says that it knows no such thing."""
    try:
        file = read_gguf(path)
    except ModelLoadError:
        return  # the library may know more
    if _VOCABULARY in file.metadata:
        kind = file.metadata.get("general.architecture")
        raise ModelLoadError(
            f"cannot load {path}: it is a language model{f' ({kind})' if kind else ''}, which makes no images: "
            "--model without --images serves it, --image-model names an image model beside it"
        )


def check_lora(path: str) -> None:
    """Raise ModelLoadError unless the file is a sound safetensors file with LoRA tensors that fit each other."""
    check_weights(path)
    if is_gguf(path):
        raise ModelLoadError(f"cannot use {path} as a LoRA: the image library takes safetensors only")
    tensors = read_safetensors(path)
    if not any(_LORA_PART.search(name) for name in tensors):
        raise ModelLoadError(f"cannot use {path} as a LoRA: it has no LoRA tensors")
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _LORA_PAIR.match(name)
        if match is not None:
            part = {"A": "down", "B": "up"}.get(match["part"], match["part"])
            pairs.setdefault(match["base"], {})[part] = tensor
    for base, pair in pairs.items():
        _check_pair(path, base, pair)


def _check_pair(path: str, base: str, pair: dict[str, Tensor]) -> None:
    down, up = pair.get("down"), pair.get("up")
    if down is None or up is None:
        missing = "down" if down is None else "up"
        raise ModelLoadError(f"cannot use {path} as a LoRA: the {missing} half of {base} is missing")
    if len(down.shape) < 2 or len(up.shape) < 2 or up.shape[1] != down.shape[0]:
        raise ModelLoadError(
            f"cannot use {path} as a LoRA: the halves of {base} do not fit: {list(down.shape)} and {list(up.shape)}"
        )


def read_safetensors(path: str) -> dict[str, Tensor]:
    """The tensors that the file has, its data checked for being there. Raises ModelLoadError."""
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            head = file.read(_LENGTH)
            if len(head) < _LENGTH:
                raise _bad(path, "the file is empty" if not head else "it is truncated")
            (length,) = struct.unpack("<Q", head)
            if length < 2 or length > _MOST_HEADER:
                is_pickle = head[:2] == b"PK" or head[:1] == b"\x80"
                kind = (
                    "a PyTorch file; convert it to safetensors or GGUF" if is_pickle else "no safetensors or GGUF file"
                )
                raise _bad(path, f"{kind} (it starts with {head[:4]!r})")
            if _LENGTH + length > size:
                raise _bad(path, "it is truncated within the header, or no safetensors file")
            raw = file.read(length)
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    header = _parse(path, raw)
    available = size - _LENGTH - length
    tensors: dict[str, Tensor] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            tensors[name] = _tensor(path, name, entry, available)
    if not tensors:
        raise _bad(path, "it has no tensors")
    return tensors


def _parse(path: str, raw: bytes) -> dict[str, Any]:
    if b"\0" in raw:
        raise _bad(path, "the header has a NUL byte")
    try:
        header = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"the header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise _bad(path, "the header is no JSON object")
    return header


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _tensor(path: str, name: str, entry: Any, available: int) -> Tensor:
    if not isinstance(entry, dict):
        raise _bad(path, f"the entry of {name} is no object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise _bad(path, f"{name} has the type {dtype!r}")
    if not _are_counts(shape) or len(shape) > _MOST_DIMENSIONS or not all(shape) or math.prod(shape) > _MOST_ELEMENTS:
        raise _bad(path, f"{name} has the shape {shape!r}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _bad(path, f"{name} has the offsets {offsets!r}")
    if offsets[1] - offsets[0] != math.prod(shape) * _BYTES[dtype]:
        raise _bad(path, f"{name} has {offsets[1] - offsets[0]} bytes, which are not {shape} of {dtype}")
    if offsets[1] > available:
        raise _bad(path, f"it is truncated: {name} ends at byte {offsets[1]} of {available}")
    return Tensor(dtype, tuple(shape))


def _are_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _bad(path: str, reason: str) -> ModelLoadError:
    return ModelLoadError(f"cannot load {path}: {reason}")
