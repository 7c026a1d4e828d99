"""best_of: more choices are generated than are told."""

from collections.abc import Sequence

from api.errors import bad_request
from api.generation import Choice
from api.shapes import CompletionFields


def candidates(fields: CompletionFields) -> int:
    """How many choices to generate for each prompt. Raises ApiError 400."""
    n = fields.n or 1
    if fields.best_of is not None and fields.best_of < n:
        raise bad_request(f"best_of: at least as many as n, {n}", "best_of")
    return fields.best_of or n


def best(choices: Sequence[Choice], *, n: int, of: int) -> list[int]:
    """Positions of the choices to tell: of each prompt's ``of`` the ``n`` with the highest log probability a token.

    The best one comes first; equals stay in order.
    """
    kept: list[int] = []
    for first in range(0, len(choices), of):
        group = range(first, first + of)
        kept += sorted(group, key=lambda position: -_mean(choices[position]))[:n] if n < of else group
    return kept


def _mean(choice: Choice) -> float:
    """Log probability a token. A choice without text says nothing and comes last."""
    logprobs = [info.logprob for info in choice.infos]
    return sum(logprobs) / len(logprobs) if logprobs else float("-inf")
