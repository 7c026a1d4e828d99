"""Whether and how texts become vectors."""

import attrs

from engine.native.options import Attention, Pooling


@attrs.frozen(kw_only=True)
class EmbeddingOptions:
    """None: the model's own value."""

    embeddings: bool = False
    rerank: bool = False  # implies embeddings, and that vectors are scores
    pooling: Pooling | None = None
    attention: Attention | None = None

    @property
    def enabled(self) -> bool:
        return self.embeddings or self.rerank
