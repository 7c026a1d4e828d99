"""LoRA adapters: loaded beside the model, applied by a context (see ``Context.set_adapters``)."""

from math import isfinite
from pathlib import Path
from typing import Any, Final

from engine.errors import ModelLoadError
from engine.native.gguf_file import GgufFile, Tensor, has_tensor, read_gguf
from engine.native.log import explain, native_log
from engine.native.model import Model

# F32 F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K BF16: what the library can multiply with.
_TENSOR_TYPES: Final = frozenset({0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 30})
_PARTS: Final = (".lora_a", ".lora_b")
_EXPERTS: Final = "_exps."
_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"


class LoraAdapter:
    """One adapter. ``handle`` is the native pointer; freed before the model."""

    def __init__(self, model: Model, path: str) -> None:
        """Load the file. Raises ModelLoadError, which names the file and the reason."""
        if model.closed:
            raise ModelLoadError(f"{model.path} has been closed")
        self.path = path
        self.handle: Any = None
        self._lib = model.lib
        _check(read_gguf(path), model)
        with native_log.collect_errors() as errors:
            handle = self._lib.llama_adapter_lora_init(model.handle, str(Path(path)).encode())
        if not handle:
            raise ModelLoadError(f"cannot load the LoRA {path}: {explain(errors)}")
        self.handle = handle
        model.register(self)
        if self._lib.llama_adapter_get_alora_n_invocation_tokens(handle):
            self.close()
            raise ModelLoadError(
                f"cannot load the LoRA {path}: it is an activated LoRA (aLoRA), which changes a prompt only from its "
                "invocation tokens on; that is not supported"
            )

    def close(self) -> None:
        """Free it. Idempotent. No context may compute with it afterwards."""
        if self.handle is None:
            return
        handle, self.handle = self.handle, None
        self._lib.llama_adapter_lora_free(handle)


def _check(file: GgufFile, model: Model) -> None:
    """Refuse what makes the library abort, at the load or in a later decode. Raises ModelLoadError."""
    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora")):
        if file.text(key) != wanted:
            raise _wrong(file, f"{key} is {file.text(key)!r}, not {wanted!r}")
    file.text("general.architecture")
    alpha = file.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not isfinite(alpha):
        raise _wrong(file, f"adapter.lora.alpha is {alpha!r}, not a number")
    if not file.tensors:
        raise _wrong(file, "it has no tensors")
    facts = model.facts()
    n_expert = int(facts.metadata.get(f"{facts.architecture}.expert_count") or 0)
    for tensor in file.tensors:
        _check_tensor(file, tensor, n_expert)
    _check_embedding(file, model)


def _check_embedding(file: GgufFile, model: Model) -> None:
    shapes = [tensor.shape for tensor in file.tensors if tensor.name in {_EMBEDDING + part for part in _PARTS}]
    if not shapes:
        return
    if len({shape[0] for shape in shapes}) != 1:
        raise _wrong(file, f"the ranks of the two tensors of {_EMBEDDING} differ")
    # The library would apply it to the output too, where its shape is none that can be multiplied.
    if not has_tensor(model.path, {_OUTPUT}):
        raise _wrong(file, f"it changes {_EMBEDDING}, which this model uses for its output too; that is not supported")


def _check_tensor(file: GgufFile, tensor: Tensor, n_expert: int) -> None:
    if not tensor.name.endswith(_PARTS):
        return  # the library skips norms and refuses everything else
    if tensor.type not in _TENSOR_TYPES:
        raise _wrong(file, f"the tensor {tensor.name!r} has the type {tensor.type}, which cannot be multiplied")
    rest = tensor.shape[2:]
    expected = (n_expert,) if _EXPERTS in tensor.name else ()
    if tuple(size for size in rest if size != 1) != tuple(size for size in expected if size != 1):
        raise _wrong(file, f"the tensor {tensor.name!r} has the shape {tensor.shape} (made for another model?)")


def _wrong(file: GgufFile, reason: str) -> ModelLoadError:
    return ModelLoadError(f"cannot load the LoRA {file.path}: {reason}")
