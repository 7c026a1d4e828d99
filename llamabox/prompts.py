"""From messages to prompt tokens: the model's template, the pool that renders it, and the tokenizer."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import trio

from engine.text.backend import Vocab
from engine.text.info import ModelInfo
from llamabox.chat.budget import Limits
from llamabox.chat.builtin import CHATML
from llamabox.chat.capabilities import Capabilities
from llamabox.chat.errors import TemplateError, TemplateLimitError
from llamabox.chat.injection import ControlTokens, Piece, Shield, control_spellings
from llamabox.chat.messages import Message, suit, validate
from llamabox.chat.prefill import continued
from llamabox.chat.template import compiled
from llamabox.interpreters import InterpreterPool, JobError

logger = logging.getLogger(__name__)

# Measured with Qwen2.5's template on 2 cores: 0.13 ms + 25 µs a message (3 to 4 values each) inline; the pool adds
# 0.6 ms of latency, of which the loop pays 0.3 ms. Up to a hundred values the loop loses under 1 ms.
INLINE_VALUES: Final = 100
# A template that works more than that for few values goes to the pool after all.
INLINE_LIMITS: Final = Limits(steps=2_000, chars=1024 * 1024, output=1024 * 1024)
# Measured with Qwen2.5's vocabulary: 1,000 characters take 0.6 ms, a hop to a thread and back 0.12 ms.
INLINE_TEXT: Final = 1024  # characters
TOKENIZER_THREADS: Final = 4

# Finding out what a template can do takes about ten renderings and its compilation, seconds.
INSPECT_TIME_LIMIT: Final = 30.0


@attrs.define(eq=False)
class PromptBuilder:
    """Builds the prompts of one model. Make one with ``create_prompt_builder``."""

    source: str  # the template in use
    capabilities: Capabilities
    variables: dict[str, Any]  # given to the template with every prompt; a request's own win
    _vocab: Vocab
    _pool: InterpreterPool
    _controls: ControlTokens
    _bos: str  # "" where the tokenizer adds none
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(TOKENIZER_THREADS))

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt text of a conversation.

        ``continue_final_message`` has the model go on with the last message, which must be the assistant's; the
        generation prompt is implied. Raises TemplateError for messages that are malformed or that the template
        refuses, JobError if the pool cannot render.
        """
        return await self._render(
            validate(messages), dict(variables or {}), add_generation_prompt, continue_final_message
        )

    async def chat_tokens(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> tuple[str, list[int]]:
        """The prompt of a conversation as text and tokens; raises as ``chat`` does.

        Control tokens are those that the template writes; where the messages or variables spell one, it is text.
        A BOS that the template writes and the tokenizer adds as well comes once.
        """
        shield = Shield(self._controls)
        shielded = [shield.hide_message(message) for message in validate(messages)]
        rendered = await self._render(
            shielded, shield.hide(dict(variables or {})), add_generation_prompt, continue_final_message
        )
        pieces = shield.pieces(rendered)
        text = "".join(piece.text for piece in pieces)
        return text, await self._tokenize_pieces(pieces)

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

    async def _tokenize_pieces(self, pieces: list[Piece]) -> list[int]:
        tokens: list[int] = []
        for index, piece in enumerate(pieces):
            text = piece.text
            if index == 0 and piece.trusted and self._bos:
                text = text.removeprefix(self._bos)
            tokens += await self.tokenize(text, add_special=index == 0, parse_special=piece.trusted)
        return tokens

    async def _render(
        self, messages: list[Message], variables: dict[str, Any], add_generation_prompt: bool, continue_final: bool
    ) -> str:
        last = messages[-1]
        if continue_final:
            if last["role"] != "assistant" or last.get("tool_calls"):
                raise TemplateError("continue_final_message needs a last message of the assistant, without tool calls")
            messages = messages[:-1]
            if not messages:
                raise TemplateError("there is no message before the one to be continued")
        prompt = await self._run(
            {
                **self.variables,
                **variables,
                "messages": suit(messages, self.capabilities),
                "add_generation_prompt": add_generation_prompt or continue_final,
            }
        )
        return continued(prompt, last, self.source) if continue_final else prompt

    async def _run(self, variables: dict[str, Any]) -> str:
        if _few_values(variables):
            try:
                return compiled(self.source).render(variables, INLINE_LIMITS)
            except TemplateLimitError:
                pass  # more work than it looked like
        text: str = await self._pool.run("llamabox.chat.worker:render", self.source, variables)
        return text


def _few_values(value: Any) -> bool:
    """Whether JSON-like data has at most INLINE_VALUES values."""
    count = 0
    rest = [value]
    while rest:
        count += 1
        if count > INLINE_VALUES:
            return False
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
    *,
    template: str | None = None,
    variables: Mapping[str, Any] | None = None,
) -> PromptBuilder:
    """The prompt builder of a loaded model.

    ``template`` is the operator's own text and must work: raises TemplateError (with the line, if it does not
    compile) or JobError. The model's own template may fail: ChatML takes its place, with a warning. ``variables``
    are the operator's for the template.
    """
    constants = {
        "enable_thinking": True,
        "bos_token": _text_of(vocab, info.bos),
        "eos_token": _text_of(vocab, info.eos),
        **(variables or {}),
    }
    source, capabilities = await _choose(info, pool, template, constants)
    await _warm(pool, source)
    spellings = await trio.to_thread.run_sync(control_spellings, vocab)
    return PromptBuilder(
        source=source,
        capabilities=capabilities,
        variables=constants,
        vocab=vocab,
        pool=pool,
        controls=ControlTokens(spellings),
        bos=_text_of(vocab, info.bos) if info.add_bos else "",
    )


async def _choose(
    info: ModelInfo, pool: InterpreterPool, template: str | None, constants: dict[str, Any]
) -> tuple[str, Capabilities]:
    async def inspect(source: str) -> Capabilities:
        fields = await pool.run("llamabox.chat.worker:inspect", source, constants, time_limit=INSPECT_TIME_LIMIT)
        return Capabilities(**fields)

    if template is not None:
        return template, await inspect(template)
    if info.chat_template is None:
        logger.warning("the model has no chat template, ChatML is used")
    else:
        try:
            return info.chat_template, await inspect(info.chat_template)
        except (TemplateError, JobError) as error:
            logger.warning("the model's chat template does not work, ChatML is used: %s", error)
    return CHATML, await inspect(CHATML)


async def _warm(pool: InterpreterPool, source: str) -> None:
    """Compile the template in this interpreter and in those of the pool, so that no request waits for it."""

    async def one() -> None:
        try:
            await pool.run("llamabox.chat.worker:prepare", source, time_limit=INSPECT_TIME_LIMIT)
        except JobError as error:
            logger.warning("an interpreter could not be prepared: %s", error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, compiled, source)
        for _ in range(pool.size):  # each waiting interpreter takes one
            nursery.start_soon(one)


def _text_of(vocab: Vocab, token: int | None) -> str:
    return "" if token is None else vocab.piece(token, special=True).decode("utf-8", "replace")
