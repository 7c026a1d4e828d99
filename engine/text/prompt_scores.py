"""How probable the tokens of a prompt are: read from the logits while it is computed."""

from engine.text.backend import Run, Vocab
from engine.text.generation import Generation
from engine.text.requests import TokenInfo


def begin_scores(generation: Generation, vocab: Vocab) -> None:
    """The first token follows on nothing, so that nothing can be said of it."""
    first = generation.sequence.request.prompt[0]
    generation.score(TokenInfo(token=first, piece=vocab.piece(first, special=True), logprob=0.0))


def score(generation: Generation, run: Run, last: int) -> None:
    """Read those of the tokens that follow on the run's, whose last one has the batch index ``last``.

    What is known already, of a prompt that was computed before and had to give way, is left out.
    """
    prompt, sampler = generation.sequence.request.prompt, generation.sampler
    before_first = last - len(run.tokens) - run.start
    for position in range(max(run.start + 1, generation.n_scored), min(run.start + len(run.tokens) + 1, len(prompt))):
        generation.score(sampler.describe(before_first + position, prompt[position]))
