"""Options about embeddings."""

from functools import partial
from typing import Final

from cli.kinds import choice
from cli.option import Option, Section

_later = partial(Option, section=Section.EMBEDDING, available=False)

EMBEDDING: Final = (
    _later(
        flags="--pooling",
        kind=choice("none", "mean", "cls", "last", "rank"),
        metavar="none|mean|cls|last|rank",
        default="the model's",
        help="how token vectors become one",
    ),
    _later(
        flags="--attention",
        kind=choice("causal", "non-causal"),
        metavar="causal|non-causal",
        default="the model's",
        help="whether a token sees the ones after it",
    ),
)
