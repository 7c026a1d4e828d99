"""Whether speculation changes greedy text: many prompts with drafts against plain decoding, by the engine itself.

Texts may part where the two best candidates are practically equal, because batches of other sizes move logits a
little; anything else is an error.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, Self

import attrs
import trio

from engine.bridge import open_text_engine
from engine.native.options import ModelOptions
from engine.text.backend import Vocab
from engine.text.options import EngineOptions
from engine.text.speculation.options import SpeculationOptions
from engine.text.start import start_text_engine
from tests.live.agreement import Outcome, Tie, compare, options, together
from tools.bench.prompts import WORDS

# Five kinds: to copy, to go on counting, to go on with code, to answer, to go on with prose.
_KINDS: Final = (
    "Say it twice. {0} {1} {2} {3} {4}. Again: {0} {1}",
    "Number {n}: {0}\nNumber {m}: {1}\nNumber",
    "def {0}_{1}({2}, {3}):\n    return {2} + {3}\n\ndef {4}_{1}({2}, {3}):\n",
    "Question: What has {0} to do with {1}?\nAnswer:",
    "The {0} and the {1} met in {n}, and the {2}",
)


def prompts(count: int) -> list[str]:
    """Short texts, no two alike."""
    size = len(WORDS)
    every = ([WORDS[(7 * n + 13 * place) % size] for place in range(5)] for n in range(count))
    return [_KINDS[n % len(_KINDS)].format(*words, n=n, m=n + 1) for n, words in enumerate(every)]


def tokenized(vocab: Vocab, count: int) -> list[list[int]]:
    """The prompts as a model reads them."""
    return [vocab.tokenize(text, add_special=True, parse_special=False) for text in prompts(count)]


@attrs.frozen(kw_only=True)
class Report:
    """``wrong``: a line for each text that is another one without a tie."""

    n_equal: int
    ties: list[Tie]
    wrong: list[str]
    n_drafted: int
    n_right: int

    @classmethod
    def of(cls, plain: Sequence[Outcome], drafted: Sequence[Outcome]) -> Self:
        """Compare text by text."""
        ties, wrong = [], []
        for index, (a, b) in enumerate(zip(plain, drafted, strict=True)):
            try:
                tie = compare(a, b)
            except AssertionError as error:
                wrong.append(f"prompt {index}: {error}")
            else:
                ties += [tie] if tie else []
        timings = [outcome.finished.timings for outcome in drafted]
        return cls(
            n_equal=len(plain) - len(ties) - len(wrong),
            ties=ties,
            wrong=wrong,
            n_drafted=sum(timing.draft_n for timing in timings),
            n_right=sum(timing.draft_n_accepted for timing in timings),
        )

    def line(self, who: str) -> str:
        """What to print."""
        widest = max((tie.gap for tie in self.ties), default=0.0)
        return (
            f"{who}: {self.n_equal} equal, {len(self.ties)} part at a tie (widest gap {widest:.2f}), "
            f"{len(self.wrong)} wrong; {self.n_right} of {self.n_drafted} drafted tokens right"
        )


async def texts(settings: EngineOptions, count: int, tokens: int) -> list[Outcome]:
    """The texts behind all prompts, eight at a time, of an engine of its own."""
    async with open_text_engine(lambda publish: start_text_engine(settings, publish)) as engine:
        return await together(engine, tokenized(engine.vocab, count), tokens)


async def measure(args: argparse.Namespace) -> int:
    """Print a line for each drafter; how many texts are wrong."""
    drafters = {
        "lookup": SpeculationOptions(least=1, lookup_ngram_min=1),
        "model": SpeculationOptions(
            least=1, longest=4, least_probability=0.3, model=ModelOptions(path=str(args.draft or args.model))
        ),
    }
    run = partial(texts, count=args.prompts, tokens=args.tokens)
    plain, n_wrong = await run(options(args.model)), 0
    for who in args.who:
        report = Report.of(plain, await run(options(args.model, speculation=drafters[who])))
        print(report.line(who), *report.wrong, sep="\n", flush=True)
        n_wrong += len(report.wrong)
        if not report.n_drafted:
            print(f"{who}: nothing was drafted")
            n_wrong += 1
    return n_wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 when a text is another one."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench agreement", description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--draft", type=Path, help="a draft model; default: the model itself")
    parser.add_argument("--who", nargs="+", choices=("lookup", "model"), default=["lookup", "model"])
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=24, help="of each text")
    return 1 if trio.run(measure, parser.parse_args(arguments)) else 0
