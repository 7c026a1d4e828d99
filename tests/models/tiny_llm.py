"""A language model of half a megabyte with random weights: quick to load, deterministic, without meaning.

The tokenizer is an SPM one with all bytes, printable ASCII, beginnings of common words, ChatML and infill markers.
Greedy decoding prints text for ever: the output rows of everything but normal tokens are zero.
"""

import re
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from numpy.typing import NDArray

N_EMBD: Final = 64
N_LAYER: Final = 2
N_HEAD: Final = 4
N_HEAD_KV: Final = 2
N_FF: Final = 128
N_VOCAB: Final = 512
N_CONV: Final = 3  # tokens that a convolution sees

BOS: Final = 1
EOS: Final = 2
FIRST_BYTE: Final = 3  # token of byte 0

SPACE: Final = "\u2581"  # how SPM writes a blank
WORDS: Final = tuple(
    re.findall(
        r"\w+",
        "the and of to in is that for it was on with as are this be at by not or from but they have an all were when "
        "we there can use each which",
    )
)
CONTROLS: Final = ("<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
MARKERS: Final = ("<tool_call>", "</tool_call>")

CHAT_TEMPLATE: Final = """\
{%- if tools %}<|im_start|>system
{{ messages[0].content if messages[0].role == 'system' else 'You are a test model.' }}
# Tools
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
Reply with <tool_call>
{"name": ..., "arguments": ...}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}{% if not (tools and loop.first and message.role == 'system') %}<|im_start|>{{ message.role }}
{{ message.content or '' }}{% for call in message.tool_calls or [] %}<tool_call>
{{ (call.function or call) | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""  # noqa: E501  # a template's lines end where the prompt's do

type Token = tuple[str, float, gguf.TokenType]


def vocabulary() -> list[Token]:
    """(text, score, type) of all tokens, in the order of their ids."""
    tokens: list[Token] = [
        ("<unk>", 0.0, gguf.TokenType.UNKNOWN),
        ("<s>", 0.0, gguf.TokenType.CONTROL),
        ("</s>", 0.0, gguf.TokenType.CONTROL),
    ]
    tokens += [(f"<0x{byte:02X}>", 0.0, gguf.TokenType.BYTE) for byte in range(256)]
    tokens += [(text, 0.0, gguf.TokenType.CONTROL) for text in CONTROLS]
    tokens += [(text, 0.0, gguf.TokenType.USER_DEFINED) for text in MARKERS]
    tokens += [(char, -1000.0, gguf.TokenType.NORMAL) for char in (SPACE, *map(chr, range(33, 127)))]
    # SPM merges pairs, so every beginning of a word must be a token for the word to be reached.
    prefixes = dict.fromkeys((SPACE + word)[:n] for word in WORDS for n in range(2, len(word) + 2))
    room = N_VOCAB - len(tokens)
    tokens += [(text, -float(rank), gguf.TokenType.NORMAL) for rank, text in enumerate(list(prefixes)[:room])]
    tokens += [(f"<unused{n}>", 0.0, gguf.TokenType.UNUSED) for n in range(len(tokens), N_VOCAB)]
    return tokens


def write_tiny_llm(
    path: Path,
    *,
    seed: int = 0,
    n_ctx_train: int = 4096,
    sliding_window: int | None = None,
    mrope: bool = False,
    recurrent: bool = False,
) -> Path:
    """Write the model to ``path`` and return it; the same arguments give the same bytes.

    ``sliding_window`` (tokens) gives an architecture whose layers alternate between that window and full attention,
    ``mrope`` one in which an image's tokens have positions in time, height and width, ``recurrent`` one in which the
    first layer has a state (of a short convolution) in place of attention.
    """
    family = "lfm2" if recurrent else "qwen2vl" if mrope else "llama" if sliding_window is None else "gemma3"
    writer = gguf.GGUFWriter(path, family)
    writer.add_name("tiny-llm")
    writer.add_block_count(N_LAYER)
    writer.add_context_length(n_ctx_train)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv([0] + [N_HEAD_KV] * (N_LAYER - 1) if recurrent else N_HEAD_KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(N_VOCAB)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if recurrent:
        writer.add_shortconv_l_cache(N_CONV)
    elif mrope:
        writer.add_rope_dimension_sections([2, 3, 3, 0])
    elif sliding_window is None:
        writer.add_rope_dimension_count(N_EMBD // N_HEAD)
    else:
        writer.add_key_length(N_EMBD // N_HEAD)
        writer.add_value_length(N_EMBD // N_HEAD)
        writer.add_sliding_window(sliding_window)
        # One layer in two slides: with the usual one in six, two layers would both slide.
        writer.add_uint32("gemma3.attention.sliding_window_pattern", N_LAYER)
    _add_tokenizer(writer)
    _add_tensors(writer, np.random.default_rng(seed), norms_twice=sliding_window is not None, recurrent=recurrent)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokens = vocabulary()
    ids = {text: token for token, (text, _, _) in enumerate(tokens)}
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text.encode() for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_eot_token_id(ids["<|im_end|>"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_uint32("tokenizer.ggml.fim_pre_token_id", ids["<|fim_prefix|>"])
    writer.add_uint32("tokenizer.ggml.fim_suf_token_id", ids["<|fim_suffix|>"])
    writer.add_uint32("tokenizer.ggml.fim_mid_token_id", ids["<|fim_middle|>"])
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensors(writer: gguf.GGUFWriter, random: np.random.Generator, *, norms_twice: bool, recurrent: bool) -> None:
    def weights(*shape: int, fan_in: int | None = None) -> NDArray[np.float32]:
        scale = np.sqrt(shape[-1] if fan_in is None else fan_in)
        values: NDArray[np.float32] = (random.standard_normal(shape) / scale).astype(np.float32)
        return values

    n_head_embd = N_EMBD // N_HEAD
    writer.add_tensor("token_embd.weight", weights(N_VOCAB, N_EMBD, fan_in=1))
    output = weights(N_VOCAB, N_EMBD) * 3
    normal = np.array([kind == gguf.TokenType.NORMAL for _, _, kind in vocabulary()])
    output[~normal] = 0
    writer.add_tensor("output.weight", output)
    writer.add_tensor("token_embd_norm.weight" if recurrent else "output_norm.weight", np.ones(N_EMBD, np.float32))
    for layer in range(N_LAYER):
        block = f"blk.{layer}."
        norms = {"attn_norm": N_EMBD, "ffn_norm": N_EMBD}
        if norms_twice:
            norms |= {"post_attention_norm": N_EMBD, "post_ffw_norm": N_EMBD}
        if norms_twice or (recurrent and layer > 0):
            norms |= {"attn_q_norm": n_head_embd, "attn_k_norm": n_head_embd}
        for name, size in norms.items():
            writer.add_tensor(f"{block}{name}.weight", np.ones(size, np.float32))
        attention = (
            ("attn_q", N_EMBD, N_EMBD),
            ("attn_k", N_HEAD_KV * n_head_embd, N_EMBD),
            ("attn_v", N_HEAD_KV * n_head_embd, N_EMBD),
            ("attn_output", N_EMBD, N_EMBD),
        )
        convolution = (
            ("shortconv.conv", N_EMBD, N_CONV),
            ("shortconv.in_proj", 3 * N_EMBD, N_EMBD),
            ("shortconv.out_proj", N_EMBD, N_EMBD),
        )
        for name, rows, columns in (
            *(convolution if recurrent and layer == 0 else attention),
            ("ffn_gate", N_FF, N_EMBD),
            ("ffn_up", N_FF, N_EMBD),
            ("ffn_down", N_EMBD, N_FF),
        ):
            writer.add_tensor(f"{block}{name}.weight", weights(rows, columns))
