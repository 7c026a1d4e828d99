"""Tiny LoRA adapters and control vectors for the model of ``tests.models.tiny_llm``."""

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.models.tiny_llm import N_EMBD, N_FF, N_LAYER, N_VOCAB

RANK = 4


def write_tiny_lora(
    path: Path,
    *,
    seed: int = 1,
    architecture: str = "llama",
    n_embd: int = N_EMBD,
    alpha: float = 8.0,
    embeddings: bool = False,
    activated: bool = False,
) -> Path:
    """Write a LoRA on the attention's queries and the feed-forward's way down, strong enough to change the text.

    ``embeddings``: on the token embeddings too; ``activated``: an aLoRA, with invocation tokens.
    """
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    if activated:
        kinds = gguf.GGUFValueType
        writer.add_key_value("adapter.alora.invocation_tokens", [300, 301], kinds.ARRAY, sub_type=kinds.UINT32)
    shapes = {}
    for layer in range(N_LAYER):
        shapes[f"blk.{layer}.attn_q"] = (n_embd, n_embd)
        shapes[f"blk.{layer}.ffn_down"] = (n_embd, N_FF)
    for name, (rows, columns) in shapes.items():
        writer.add_tensor(f"{name}.weight.lora_a", _weights(random, RANK, columns))
        writer.add_tensor(f"{name}.weight.lora_b", _weights(random, rows, RANK))
    if embeddings:
        writer.add_tensor("token_embd.weight.lora_a", _weights(random, N_VOCAB, RANK))
        writer.add_tensor("token_embd.weight.lora_b", _weights(random, n_embd, RANK))
    _finish(writer)
    return path


def write_tiny_control_vector(
    path: Path, *, seed: int = 2, n_embd: int = N_EMBD, layers: tuple[int, ...] = (1,), scale: float = 1.0
) -> Path:
    """Write random directions for the given layers."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", len(layers))
    for layer in layers:
        writer.add_tensor(f"direction.{layer}", (random.standard_normal(n_embd) * scale).astype(np.float32))
    _finish(writer)
    return path


def _weights(random: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
    return values


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
