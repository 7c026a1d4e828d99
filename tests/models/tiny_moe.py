"""The tiny language model with four experts in place of each feed-forward network."""

from pathlib import Path
from typing import Final

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.models.tiny_llm import N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_LAYER, N_VOCAB, _add_tokenizer

N_EXPERT: Final = 4
N_EXPERT_USED: Final = 2


def write_tiny_moe(path: Path, *, seed: int = 0) -> Path:
    """Write the model to ``path`` and return it; the same seed gives the same bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-moe")
    writer.add_block_count(N_LAYER)
    writer.add_context_length(4096)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD_KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(N_EMBD // N_HEAD)
    writer.add_vocab_size(N_VOCAB)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_expert_count(N_EXPERT)
    writer.add_expert_used_count(N_EXPERT_USED)
    _add_tokenizer(writer)

    random = np.random.default_rng(seed)

    def weights(*shape: int) -> NDArray[np.float32]:
        values: NDArray[np.float32] = (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        return values

    kv = N_HEAD_KV * N_EMBD // N_HEAD
    tensors = {
        "token_embd": weights(N_VOCAB, N_EMBD),
        "output": weights(N_VOCAB, N_EMBD),
        "output_norm": weights(N_EMBD),
    }
    for layer in range(N_LAYER):
        tensors |= {
            f"blk.{layer}.{name}": weights(*shape)
            for name, shape in {
                "attn_norm": (N_EMBD,),
                "ffn_norm": (N_EMBD,),
                "attn_q": (N_EMBD, N_EMBD),
                "attn_k": (kv, N_EMBD),
                "attn_v": (kv, N_EMBD),
                "attn_output": (N_EMBD, N_EMBD),
                "ffn_gate_inp": (N_EXPERT, N_EMBD),
                "ffn_gate_exps": (N_EXPERT, N_FF, N_EMBD),
                "ffn_up_exps": (N_EXPERT, N_FF, N_EMBD),
                "ffn_down_exps": (N_EXPERT, N_EMBD, N_FF),
            }.items()
        }
    for name, values in tensors.items():
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
