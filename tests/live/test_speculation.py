"""Speculation with real models: the text of plain greedy decoding, numeric ties excepted, whoever drafts it."""

import json
from pathlib import Path

import attrs
import pytest
import trio

from engine.bridge import BridgedEngine, open_text_engine
from engine.errors import ModelLoadError
from engine.native.options import ModelOptions
from engine.text.options import EngineOptions
from engine.text.requests import GenerationRequest, GrammarSpec, SamplingParams
from engine.text.speculation.options import SpeculationOptions
from engine.text.start import start_text_engine
from tests.live.agreement import Outcome, assert_agree, generate, options, together
from tests.live.test_agreement import prompts
from tests.models.tiny_bert import write_tiny_bert
from tools.bench import agreement

CODE = """def area(width, height):
    total = width * height
    return total
"""


@attrs.frozen
class Work:
    """``n_alone`` prompts one by one, then ``n_together`` at once, every second of which asks for a copy."""

    path: Path
    n_tokens: int = 48
    n_alone: int = 2
    n_together: int = 8


@pytest.fixture(scope="module", params=["tiny", "real"])
def work(request: pytest.FixtureRequest) -> Work:
    """The real model takes a hundred times as long."""
    if request.param == "tiny":
        return Work(request.getfixturevalue("tiny_model"))
    return Work(request.getfixturevalue("demo_model"), n_tokens=12, n_alone=1, n_together=4)


@pytest.fixture(scope="module")
def plain(work: Work) -> list[Outcome]:
    """What the model says without drafts."""
    return trio.run(run, options(work.path), work)


def drafting(path: Path, **fields: object) -> EngineOptions:
    return options(path, speculation=SpeculationOptions(least=1, **fields))


def by_itself(path: Path) -> EngineOptions:
    """The model as its own draft."""
    return drafting(path, model=ModelOptions(path=str(path)), least_probability=0.3, longest=4)


def jobs(engine: BridgedEngine, count: int = 8) -> list[list[int]]:
    """Prompts that ask for copies, and others, in turns."""
    copies = [f"{CODE}\nThe same file once more:\n\n{CODE[: 40 + n]}" for n in range(count // 2)]
    tokens = [engine.vocab.tokenize(text, add_special=True, parse_special=False) for text in copies]
    return [job for pair in zip(tokens, prompts(engine), strict=False) for job in pair]


async def run(settings: EngineOptions, work: Work) -> list[Outcome]:
    async with open_text_engine(lambda publish: start_text_engine(settings, publish)) as engine:
        every, count = jobs(engine, work.n_together), work.n_tokens
        alone = [await generate(engine, f"alone-{i}", job, count) for i, job in enumerate(every[: work.n_alone])]
        return alone + await together(engine, every, count)


def n_taken(outcomes: list[Outcome]) -> int:
    """Drafted tokens that were right."""
    return sum(outcome.finished.timings.draft_n_accepted for outcome in outcomes)


@pytest.mark.parametrize("who", ["lookup", "model"])
async def test_greedy_text_is_that_of_plain_decoding(who: str, work: Work, plain: list[Outcome]) -> None:
    settings = drafting(work.path, lookup_ngram_min=2) if who == "lookup" else by_itself(work.path)
    drafted = await run(settings, work)
    for without, with_drafts in zip(plain, drafted, strict=True):
        assert_agree(without, with_drafts)
    assert n_taken(drafted) > 0


async def fifty(settings: EngineOptions) -> list[Outcome]:
    """Fifty prompts at once; `python -m tools.bench agreement` does this with a real model."""
    return await agreement.texts(settings, 50, 16)


@pytest.mark.parametrize("who", ["lookup", "model"])
async def test_fifty_greedy_texts_are_those_of_plain_decoding(who: str, tiny_model: Path) -> None:
    settings = drafting(tiny_model, lookup_ngram_min=1) if who == "lookup" else by_itself(tiny_model)
    plain, drafted = await fifty(options(tiny_model)), await fifty(settings)
    report = agreement.Report.of(plain, drafted)
    assert report.wrong == []
    assert report.n_equal + len(report.ties) == 50
    assert report.n_equal > 40, "ties are rare"
    assert report.n_drafted > 0


async def test_a_schema_holds_with_lookup(demo_model: Path) -> None:
    settings = drafting(demo_model, lookup_ngram_min=1)
    async with open_text_engine(lambda publish: start_text_engine(settings, publish)) as engine:
        schema = {"type": "array", "items": {"enum": ["width", "height"]}, "minItems": 6, "maxItems": 6}
        grammar = engine.grammars.compile(GrammarSpec(source=f"start: json\njson: %json {json.dumps(schema)}"))
        prompt = engine.vocab.tokenize(CODE + '["width","height","width"]', add_special=True, parse_special=False)
        request = GenerationRequest(
            id="x", prompt=prompt, max_tokens=80, grammar=grammar, sampling=SamplingParams(temperature=1.0, seed=3)
        )
        async with engine.generate(request) as events:
            text = "".join([event.text async for event in events if hasattr(event, "text")])
    assert len(json.loads(text)) == 6


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("who", ["lookup", "model"])
async def test_a_seed_gives_the_same_text_with_drafts(who: str, temperature: float, tiny_model: Path) -> None:
    texts = []
    drafts = drafting(tiny_model, lookup_ngram_min=1) if who == "lookup" else by_itself(tiny_model)
    for settings in (options(tiny_model), drafts):
        async with open_text_engine(lambda publish, s=settings: start_text_engine(s, publish)) as engine:
            sampling = SamplingParams(temperature=temperature, seed=5, ignore_eos=True, repeat_penalty=1.1)
            request = GenerationRequest(id="x", prompt=jobs(engine)[0], max_tokens=64, sampling=sampling)
            async with engine.generate(request) as events:
                texts.append("".join([event.text async for event in events if hasattr(event, "text")]))
    assert texts[0] == texts[1]


async def refused(settings: EngineOptions, reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        async with open_text_engine(lambda publish: start_text_engine(settings, publish)):
            pass


async def test_a_draft_model_with_another_vocabulary_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    write_tiny_bert(tmp_path / "bert.gguf")
    other = drafting(tiny_model, model=ModelOptions(path=str(tmp_path / "bert.gguf")))
    await refused(other, "cannot draft with .*bert.gguf: its vocabulary")


async def test_a_lookup_cache_must_load(tiny_model: Path, tmp_path: Path) -> None:
    await refused(
        drafting(tiny_model, lookup_ngram_min=2, lookup_static=str(tmp_path / "no")), "cannot load the lookup"
    )
    (tmp_path / "bad").write_bytes(b"bad")
    await refused(drafting(tiny_model, lookup_ngram_min=2, lookup_dynamic=str(tmp_path / "bad")), "it is cut off")


async def test_a_dynamic_cache_is_saved_at_the_end(tiny_model: Path, tmp_path: Path) -> None:
    settings = drafting(tiny_model, lookup_ngram_min=2, lookup_dynamic=str(tmp_path / "cache"))
    await run(settings, Work(tiny_model))
    assert (tmp_path / "cache").stat().st_size > 0
    await run(settings, Work(tiny_model, n_tokens=8))  # it loads again
