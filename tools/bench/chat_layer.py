"""What the chat layer costs: the prompt of a long conversation, the reading of output, the first use of a grammar."""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import trio

from engine.native.options import ContextOptions, ModelOptions
from engine.text.options import EngineOptions
from engine.text.start import start_text_engine
from llamabox.chat.ask import ChatAsk, ToolChoice
from llamabox.chat.errors import TEMPLATE_ERRORS
from llamabox.chat.formats.base import Tool
from llamabox.interpreters import open_interpreter_pool
from llamabox.prompts import create_prompt_builder
from tools.bench.prompts import Prompts
from tools.bench.structured import SCHEMA

MESSAGES = 42
WEATHER = Tool(
    name="get_weather",
    description="The current weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def show(name: str, seconds: Sequence[float], unit: str, factor: float) -> None:
    """A row of the table."""
    values = [value * factor for value in seconds]
    print(f"| {name}, {unit} | {min(values):.3g} | **{statistics.median(values):.3g}** | {max(values):.3g} |")


async def measure(args: argparse.Namespace) -> None:
    """Print the table."""
    options = EngineOptions(model=ModelOptions(path=args.model), context=ContextOptions(n_ctx=4096))
    started = start_text_engine(options, lambda batch: None)
    backend = started.backend
    prompts = Prompts(seed=1, scenario="chat", round=0)
    messages = [{"role": "assistant" if n % 2 else "user", "content": prompts.text(60, n)} for n in range(MESSAGES - 1)]
    async with open_interpreter_pool(1, known=TEMPLATE_ERRORS) as pool:
        builder = await create_prompt_builder(backend.info, backend.vocab, pool)
        ask = ChatAsk(messages=messages, tools=(WEATHER,))
        plans, reads = [], []
        for _ in range(args.rounds):
            began = time.perf_counter()
            plan = await builder.plan(ask)
            plans.append(time.perf_counter() - began)
        answer = f"Let me look. {prompts.text(400, 'answer')}\n{CALL}"
        tokens = backend.vocab.tokenize(answer, add_special=False, parse_special=True)
        pieces = [backend.vocab.piece(token, special=True).decode() for token in tokens]
        for _ in range(args.rounds):
            parser = plan.parser()

            def read() -> None:
                for piece in pieces:
                    parser.feed(piece)  # noqa: B023 - called at once
                parser.finish()  # noqa: B023

            reads.append(timed(read) / len(pieces))
        grammars = backend.grammars
        required = await builder.plan(ChatAsk(messages=messages, tools=(WEATHER,), choice=ToolChoice.REQUIRED))
        by_schema = await builder.constrain(grammar=None, schema=SCHEMA, strict=True)
        assert required.grammar is not None and by_schema is not None  # noqa: PT018 - what was asked for
        wait = timed(lambda: grammars.compile(required.grammar))
        print("| what | min | median | max |\n|---|---|---|---|")
        show(f"prompt of {MESSAGES} messages, {len(plan.tokens)} tokens", plans, "ms", 1e3)
        show("reading output, a token", reads, "µs", 1e6)
        show("the first grammar, with what was left of preparing the vocabulary", [wait], "ms", 1e3)
        show("another grammar: JSON by schema", [timed(lambda: grammars.compile(by_schema))], "ms", 1e3)
        show("the same again", [timed(lambda: grammars.compile(by_schema)) for _ in range(args.rounds)], "ms", 1e3)
    backend.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of times; they are this machine's."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench chat", description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    trio.run(measure, parser.parse_args(arguments))
    return 0
