"""From a conversation to prompt tokens, and to what is known of its answer: the heart of the chat layer."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from engine.errors import InvalidRequest
from engine.guidance.gbnf import gbnf_to_lark, is_lark
from engine.text.backend import Vocab
from engine.text.info import ModelInfo
from engine.text.media import MediaItem
from engine.text.requests import GrammarSpec, Thinking, Trigger
from llamabox.chat.ask import ChatAsk, ChatPlan, ToolChoice
from llamabox.chat.budget import Limits
from llamabox.chat.builtin import CHATML, template_for
from llamabox.chat.dialect import Dialect
from llamabox.chat.errors import TemplateError, TemplateLimitError
from llamabox.chat.formats.base import ChatFormat
from llamabox.chat.grammar.turn import callable_tools, json_grammar, turn_grammar
from llamabox.chat.injection import MEDIA_MARKER, ControlTokens, Piece, Shield, control_tokens
from llamabox.chat.messages import validate
from llamabox.chat.normalise import Message
from llamabox.chat.normalise.variables import template_variables
from llamabox.chat.parser import OutputParser
from llamabox.chat.placing import Placed, place
from llamabox.chat.prefill import continued
from llamabox.chat.segments import Segments
from llamabox.chat.template import compiled
from llamabox.interpreters import InterpreterPool, JobError
from llamabox.settings import ChatSettings

if TYPE_CHECKING:
    from llamabox.media.loader import MediaLoader

logger = logging.getLogger(__name__)

# Measured with Qwen2.5's template on 2 cores: 0.13 ms + 25 µs a message (3 to 4 values each) inline; the pool adds
# 0.6 ms of latency, of which the loop pays 0.3 ms. Up to a hundred values the loop loses under 1 ms.
INLINE_VALUES: Final = 100
# A template that works more than that for few values goes to the pool after all.
INLINE_LIMITS: Final = Limits(steps=2_000, chars=1024 * 1024, output=1024 * 1024)
# Measured with Qwen2.5's vocabulary: 1,000 characters take 0.6 ms, a hop to a thread and back 0.12 ms.
INLINE_TEXT: Final = 1024  # characters
TOKENIZER_THREADS: Final = 4

# Finding out what a template can do takes some fifty renderings and its compilation, seconds at most.
ANALYSIS_TIME_LIMIT: Final = 30.0


@attrs.define(eq=False)
class PromptBuilder:
    """Plans the turns of one model. Make one with ``create_prompt_builder``."""

    dialect: Dialect
    tool_dialect: Dialect  # for requests with tools; most models have one template for both
    settings: ChatSettings
    variables: dict[str, Any]  # given to the template with every prompt; a request's own win
    _vocab: Vocab
    _pool: InterpreterPool
    _controls: Mapping[str, int]  # control tokens by their spellings
    _finder: ControlTokens
    _segments: Segments
    _bos: str  # "" where the tokenizer adds none
    _start: tuple[int, ...]  # the token of _bos, or nothing
    media: "MediaLoader | None" = None  # None: the model takes text alone
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(TOKENIZER_THREADS))

    @property
    def source(self) -> str:
        """The text of the template in use."""
        return self.dialect.source

    @property
    def reasons(self) -> bool:
        """Whether the template knows reasoning."""
        return self.dialect.format.reasoning is not None

    async def plan(self, ask: ChatAsk) -> ChatPlan:
        """The prompt, and how its answer is to be generated and read.

        Control tokens are those that the template writes; where messages, tools or variables spell one, it is text.
        A BOS that the template writes and the tokenizer adds as well comes once. Images and sounds are loaded when the
        template has a place for each, which may take as long as the network does. Raises TemplateError for messages
        that are malformed or that the template refuses, JobError if the pool cannot render, InvalidRequest for a
        grammar that is none and for media that cannot be had or read, ContextExceeded for too many of them.
        """
        dialect = self.tool_dialect if ask.tools else self.dialect
        chat_format = dialect.format_for(ask.tools if ask.choice is not ToolChoice.NONE else ())
        shield = Shield(self._finder, chat_format.reasoning)
        marks = None if self.media is None else shield.mark_media
        messages = [shield.hide_message(message) for message in validate(ask.messages, marks)]
        rendered = await self._render(dialect, chat_format, ask, messages, shield)
        pieces = shield.pieces(rendered)
        items = await self._load(ask, pieces, shield.n_media)
        placed = place(await self._tokenize_pieces(pieces, items))
        text = "".join(piece.text for piece in pieces)
        is_open = _reasons(dialect, messages[-1], rendered, ask)
        controls = {spelling: self._controls[spelling] for spelling in _spelled(chat_format, self._controls)}
        return ChatPlan(
            text=text,
            tokens=placed.tokens,
            media=placed.media,
            parser=partial(_parser, chat_format, ask, reasoning_open=is_open),
            grammar=self._grammar(dialect, chat_format, ask, controls, reasoning_open=is_open),
            visible=frozenset(controls.values()),
            thinking=await self._thinking(chat_format, ask, reasoning_open=is_open),
        )

    async def place(self, text: str, data: Sequence[str], where: str) -> Placed:
        """The tokens of a text with marks (MEDIA_MARKER) for as many media, given as base64. Raises InvalidRequest."""
        texts = text.split(MEDIA_MARKER) if data else [text]
        if len(texts) - 1 != len(data):
            raise InvalidRequest(
                f"{where}: {len(data)} media for {len(texts) - 1} marks ({MEDIA_MARKER}) in the text", where
            )
        if self.media is None and data:
            raise InvalidRequest(f"{where}: the model takes no images and no sound", where)
        items = await self.media.load_data(data, where) if self.media is not None else []
        parts: list[MediaItem] = [[await self.tokenize(texts[0], add_special=True, parse_special=True)]]
        for item, after in zip(items, texts[1:], strict=True):
            parts += [item, [await self.tokenize(after, add_special=False, parse_special=True)]]
        return place(parts)

    async def constrain(self, *, grammar: str | None, schema: Any, strict: bool) -> GrammarSpec | None:
        """What holds from the first token on: ``grammar`` (GBNF or llguidance's Lark) or a JSON schema; at most one.

        None for neither. ``strict``: see ``ChatAsk``. Raises InvalidRequest.
        """
        if schema is not None:
            return json_grammar(schema, strict=strict)
        return None if grammar is None else GrammarSpec(source=_lark(grammar))

    async def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of ``text``, long ones off the loop.

        Not abandoned on cancel: the vocabulary must outlive the call. So a cancelled caller waits for its end.
        """
        if len(text) <= INLINE_TEXT:
            return self._vocab.tokenize(text, add_special=add_special, parse_special=parse_special)
        return await trio.to_thread.run_sync(
            lambda: self._vocab.tokenize(text, add_special=add_special, parse_special=parse_special),
            limiter=self._limiter,
        )

    def _grammar(
        self,
        dialect: Dialect,
        chat_format: ChatFormat,
        ask: ChatAsk,
        controls: Mapping[str, int],
        *,
        reasoning_open: bool,
    ) -> GrammarSpec | None:
        if ask.grammar is not None:
            marks = chat_format.reasoning if reasoning_open else None
            wakes = () if marks is None else (Trigger(marks.end.strip(), included=False),)
            return GrammarSpec(source=_lark(ask.grammar), triggers=wakes)
        return turn_grammar(
            ask, chat_format, controls, reasoning_open=reasoning_open, enveloped=chat_format is not dialect.format
        )

    def _budget(self, ask: ChatAsk) -> int:
        return self.settings.reasoning_budget if ask.reasoning_budget is None else ask.reasoning_budget

    async def _thinking(self, chat_format: ChatFormat, ask: ChatAsk, *, reasoning_open: bool) -> Thinking | None:
        budget, marks = self._budget(ask), chat_format.reasoning
        if budget < 0 or marks is None:
            return None
        end = await self.tokenize(marks.end, add_special=False, parse_special=True)
        return Thinking(
            budget=budget, open=reasoning_open, start=marks.start.strip(), end_text=marks.end.strip(), end=tuple(end)
        )

    async def _render(
        self, dialect: Dialect, chat_format: ChatFormat, ask: ChatAsk, messages: list[Message], shield: Shield
    ) -> str:
        last = messages[-1]
        if ask.continue_final_message:
            if last["role"] != "assistant" or last.get("tool_calls"):
                raise TemplateError("continue_final_message needs a last message of the assistant, without tool calls")
            messages = messages[:-1]
            if not messages:
                raise TemplateError("there is no message before the one to be continued")
        thinks = self.settings.enable_thinking if ask.enable_thinking is None else ask.enable_thinking
        thinks = thinks and self._budget(ask) != 0
        variables = template_variables(
            dialect.capabilities,
            tools=ask.tools if dialect.takes_tools else (),
            enable_thinking=thinks,
            reasoning_effort=ask.reasoning_effort,
            given=ask.variables,
        )
        prompt = await self._run(
            dialect.source,
            {
                **self.variables,
                **shield.hide(variables),
                "messages": dialect.messages(messages, ask.tools if ask.choice is not ToolChoice.NONE else ()),
                "add_generation_prompt": ask.add_generation_prompt or ask.continue_final_message,
            },
        )
        if not ask.continue_final_message:
            return prompt
        if chat_format.wrapping is not None and last["content"]:
            last = {**last, "content": chat_format.wrapping.start + last["content"]}
        return continued(prompt, last, chat_format.reasoning)

    async def _run(self, source: str, variables: dict[str, Any]) -> str:
        if _few_values(variables):
            try:
                return compiled(source).render(variables, INLINE_LIMITS)
            except TemplateLimitError:
                pass  # more work than it looked like
        text: str = await self._pool.run("llamabox.chat.worker:render", source, variables)
        return text

    async def _load(self, ask: ChatAsk, pieces: list[Piece], n_media: int) -> list[MediaItem]:
        """The conversation's media, all of which the template must show, each in one place."""
        shown = [piece.media for piece in pieces if piece.media is not None]
        if sorted(shown) != list(range(n_media)):
            raise TemplateError("the chat template has no place for some of the images or sounds, or several")
        return await self.media.load(ask.messages) if self.media is not None and n_media else []

    async def _tokenize_pieces(self, pieces: list[Piece], items: list[MediaItem]) -> list[MediaItem]:
        parts: list[MediaItem] = [[self._start]]
        for index, piece in enumerate(pieces):
            text = piece.text
            if piece.media is not None:
                parts.append(items[piece.media])
                continue
            if index == 0 and piece.trusted and self._bos:
                text = text.removeprefix(self._bos)
            if piece.trusted:
                parts.append([await self._tokenize_trusted(text)])
            else:
                parts.append([await self.tokenize(text, add_special=False, parse_special=False)])
        return parts

    async def _tokenize_trusted(self, text: str) -> list[int]:
        parts = self._segments.split(text)
        missing = self._segments.missing(parts)

        def tokenize() -> dict[str, list[int]]:
            return {part: self._vocab.tokenize(part, add_special=False, parse_special=True) for part in missing}

        if sum(map(len, missing)) <= INLINE_TEXT:
            return self._segments.join(parts, tokenize())
        return self._segments.join(parts, await trio.to_thread.run_sync(tokenize, limiter=self._limiter))


def _parser(chat_format: ChatFormat, ask: ChatAsk, *, reasoning_open: bool) -> OutputParser:
    parser = OutputParser(chat_format, tools=callable_tools(ask), parallel=ask.parallel, reasoning_open=reasoning_open)
    if ask.continue_final_message and not reasoning_open and chat_format.wrapping is not None:
        parser.feed(chat_format.wrapping.start)  # the prompt has written it
    return parser


def _lark(grammar: str) -> str:
    """A user's grammar, GBNF or Lark, as Lark. Raises InvalidRequest."""
    return grammar if is_lark(grammar) else gbnf_to_lark(grammar)


def _reasons(dialect: Dialect, last: Message, prompt: str, ask: ChatAsk) -> bool:
    """Whether the model goes on inside its reasoning."""
    if ask.continue_final_message:
        if last["content"]:
            return False
        if last.get("reasoning_content"):
            return dialect.format.reasoning is not None
    return dialect.description.leaves_reasoning_open(prompt)


def _spelled(chat_format: ChatFormat, controls: Mapping[str, int]) -> set[str]:
    """The control tokens in the format's marks."""
    return {spelling for spelling in controls if any(spelling in marker for marker in chat_format.markers)}


def _few_values(value: Any) -> bool:
    """Whether JSON-like data has at most INLINE_VALUES values."""
    count = 0
    rest = [value]
    while rest:
        if count + len(rest) > INLINE_VALUES:
            return False
        count += 1
        item = rest.pop()
        if isinstance(item, Mapping):
            rest.extend(item.values())
        elif isinstance(item, list | tuple):
            rest.extend(item)
    return True


async def create_prompt_builder(
    info: ModelInfo,
    vocab: Vocab,
    pool: InterpreterPool,
    settings: ChatSettings | None = None,
    media: "MediaLoader | None" = None,
) -> PromptBuilder:
    """The prompt builder of a loaded model.

    The operator's own template must work: raises TemplateError (with the line, if it does not compile) or JobError.
    The model's own may fail: ChatML takes its place, with a warning.
    """
    settings = settings or ChatSettings()
    constants = {
        "bos_token": _text_of(vocab, info.bos),
        "eos_token": _text_of(vocab, info.eos),
        **settings.variables,
    }
    dialect, tool_dialect = await _choose(info, pool, settings, constants)
    for source in {dialect.source, tool_dialect.source}:
        await _warm(pool, source)
    controls = await trio.to_thread.run_sync(control_tokens, vocab)
    finder = ControlTokens(frozenset(controls))
    tokenize = partial(vocab.tokenize, add_special=False, parse_special=True)
    return PromptBuilder(
        dialect=dialect,
        tool_dialect=tool_dialect,
        settings=settings,
        variables=constants,
        vocab=vocab,
        pool=pool,
        controls=controls,
        finder=finder,
        segments=Segments(controls, finder, tokenize),
        bos=_text_of(vocab, info.bos) if info.add_bos else "",
        start=(info.bos,) if info.add_bos and info.bos is not None else (),
        media=media,
    )


async def _choose(
    info: ModelInfo, pool: InterpreterPool, settings: ChatSettings, constants: dict[str, Any]
) -> tuple[Dialect, Dialect]:
    async def analyze(source: str) -> Dialect:
        found = await pool.run("llamabox.chat.worker:analyze", source, constants, time_limit=ANALYSIS_TIME_LIMIT)
        return Dialect.of(source, found)

    async def own(source: str | None) -> Dialect:
        if source is None:
            logger.warning("the model has no chat template, ChatML is used")
            return await analyze(CHATML)
        try:
            return await analyze(source)
        except (TemplateError, JobError) as error:
            logger.warning("the model's chat template does not work, ChatML is used: %s", error)
            return await analyze(CHATML)

    if settings.template is not None:
        dialect = await analyze(settings.template)
        return dialect, dialect
    plain = template_for(info, jinja=settings.jinja)
    with_tools = template_for(info, tools=True, jinja=settings.jinja)
    dialect = await own(plain)
    return dialect, dialect if with_tools == plain else await own(with_tools)


async def _warm(pool: InterpreterPool, source: str) -> None:
    """Compile the template in this interpreter and in those of the pool, so that no request waits for it."""

    async def in_pool() -> None:
        try:
            await pool.prepare("llamabox.chat.worker:prepare", source, time_limit=ANALYSIS_TIME_LIMIT)
        except JobError as error:
            logger.warning("the interpreters could not be prepared: %s", error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, compiled, source)
        nursery.start_soon(in_pool)


def _text_of(vocab: Vocab, token: int | None) -> str:
    return "" if token is None else vocab.piece(token, special=True).decode("utf-8", "replace")
