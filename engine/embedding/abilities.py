"""What a model file says about whether it generates, embeds or ranks."""

from typing import Final

from engine.native.gguf_file import has_tensor
from engine.native.model import ModelFacts
from engine.native.options import Pooling

# These architectures see a text as a whole and have no KV cache: nothing can be continued token by token.
WHOLE_TEXT: Final = frozenset({
    "bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert", "modern-bert",
    "gemma-embedding", "wavtokenizer-dec", "dream", "llada", "llada-moe", "rnd1",
})  # fmt: skip
_POOLINGS: Final = {"1": "mean", "2": "cls", "3": "last", "4": "rank"}
_RANK_HEADS: Final = frozenset({"cls.weight", "cls.output.weight"})
# Their rank head ends in a softmax.
_SHARES: Final = frozenset({"qwen3", "qwen3vl"})


def why_no_generation(facts: ModelFacts) -> str | None:
    """The reason why the model cannot generate text; None where it can."""
    name = facts.architecture
    pooling = _POOLINGS.get(facts.metadata.get(f"{name}.pooling_type", ""))
    if pooling is not None:
        return f"it is an embedding model ({name}, pooling {pooling})"
    if name in WHOLE_TEXT:
        return f"models of the architecture {name} see a text as a whole"
    if not is_causal(facts):
        return f"its attention is not causal ({name})"
    return None


def is_causal(facts: ModelFacts) -> bool:
    """Whether tokens see only the ones before them, as far as the metadata says."""
    said = facts.metadata.get(f"{facts.architecture}.attention.causal", "true")
    return said != "false" and facts.architecture != "gemma-embedding"


def names_pooling(facts: ModelFacts) -> bool:
    """Whether the file says how its tokens' vectors become one, or that they do not."""
    return f"{facts.architecture}.pooling_type" in facts.metadata


def usual_pooling(*, causal: bool) -> Pooling:
    """What serves where the file names none, as generative models do: a causal model's last token has seen all others.

    vLLM and Ollama take the last token likewise; the library would give a vector for each token.
    """
    return Pooling.LAST if causal else Pooling.MEAN


def ranks(facts: ModelFacts) -> bool:
    """Whether the file calls the model a reranker."""
    return _POOLINGS.get(facts.metadata.get(f"{facts.architecture}.pooling_type", "")) == "rank"


def has_rank_head(path: str) -> bool:
    """Whether the model has the tensors that turn a text into scores: the library does not tell.

    Raises ModelLoadError.
    """
    return has_tensor(path, _RANK_HEADS)


def scores_are_shares(facts: ModelFacts) -> bool:
    """Whether the rank head's scores lie between 0 and 1 already."""
    return facts.architecture in _SHARES
