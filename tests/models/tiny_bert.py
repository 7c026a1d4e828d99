"""A BERT of 100 KB with random weights: an embedder, or with a rank head a reranker. Quick, without meaning."""

from pathlib import Path
from typing import Final

import gguf
import numpy as np
from numpy.typing import NDArray

N_EMBD: Final = 32
N_HEAD: Final = 2
N_FF: Final = 64
N_CTX: Final = 512  # a token at a later position would end the process

PAD, UNK, CLS, SEP, MASK = range(5)
START_OF_WORD: Final = "\u2581"  # how the library writes it; a word goes on without a mark
WORDS: Final = ["the", "of", "and", "cat", "dog", "sat", "mat", "paris", "is", "capital", "france", "python", "code"]


def vocabulary() -> list[str]:
    """The WordPiece tokens in the order of their ids: control tokens, characters, some words."""
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    return [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *(START_OF_WORD + character for character in characters),
        *characters,
        *(START_OF_WORD + word for word in WORDS),
    ]


def write_tiny_bert(
    path: Path, *, rank: bool = False, pooling: gguf.PoolingType = gguf.PoolingType.MEAN, seed: int = 4
) -> Path:
    """Write the model to ``path`` and return it; the same arguments give the same bytes."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny-rerank" if rank else "tiny-bert")
    writer.add_block_count(1)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if rank else pooling)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if rank:
        writer.add_array("bert.classifier.output_labels", ["relevance"])
    tokens = vocabulary()
    _add_tokenizer(writer, tokens)
    _add_tensors(writer, len(tokens), np.random.default_rng(seed), rank=rank)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    kinds = [gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(tokens) - 5)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_types(kinds)
    writer.add_token_type_count(2)
    writer.add_vocab_size(len(tokens))
    writer.add_bos_token_id(CLS)
    writer.add_eos_token_id(SEP)
    writer.add_sep_token_id(SEP)
    writer.add_unk_token_id(UNK)
    writer.add_pad_token_id(PAD)
    writer.add_mask_token_id(MASK)


def _add_tensors(writer: gguf.GGUFWriter, n_vocab: int, random: np.random.Generator, *, rank: bool) -> None:
    def weights(*shape: int) -> NDArray[np.float32]:
        values: NDArray[np.float32] = (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        return values

    def linear(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{name}.weight", weights(rows, columns))
        writer.add_tensor(f"{name}.bias", np.zeros(rows, np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(N_EMBD, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(N_EMBD, np.float32))

    writer.add_tensor("token_embd.weight", weights(n_vocab, N_EMBD))
    writer.add_tensor("token_types.weight", weights(2, N_EMBD))
    writer.add_tensor("position_embd.weight", weights(N_CTX, N_EMBD) * np.float32(0.1))
    norm("token_embd_norm")
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        linear(f"blk.0.{name}", N_EMBD, N_EMBD)
    norm("blk.0.attn_output_norm")
    norm("blk.0.layer_output_norm")
    linear("blk.0.ffn_up", N_FF, N_EMBD)
    linear("blk.0.ffn_down", N_EMBD, N_FF)
    if rank:
        linear("cls", N_EMBD, N_EMBD)
        linear("cls.output", 1, N_EMBD)
