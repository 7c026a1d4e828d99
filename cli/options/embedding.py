"""Options about embeddings."""

from functools import partial
from typing import Final

from cli.kinds import members
from cli.option import Option, Section
from engine.native.options import Attention, Pooling

_option = partial(Option, section=Section.EMBEDDING)

EMBEDDING: Final = (
    _option(
        flags="--pooling",
        kind=members(Pooling),
        metavar="none|mean|cls|last|rank",
        setting="engine.embedding.pooling",
        default="the model's; where it names none, last (mean without causal attention)",
        help="how token vectors become one; needs --embeddings or --rerank",
    ),
    _option(
        flags="--attention",
        kind=members(Attention),
        metavar="causal|non-causal",
        setting="engine.embedding.attention",
        default="the model's",
        help="whether a token sees the ones after it when texts are embedded; needs --embeddings or --rerank",
    ),
)
