"""What shapes a generation beyond the drawing of its tokens: a grammar, a chat format's needs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import attrs
import trio

from api.errors import bad_request
from engine.bridge import TextEngine
from engine.errors import InvalidRequest
from engine.text.requests import Grammar, GrammarSpec, Thinking
from llamabox.chat.ask import ChatPlan
from llamabox.services import Services

_log = logging.getLogger("api.guidance")


@attrs.frozen(kw_only=True)
class Guidance:
    """``param``: the field to blame for a grammar that does not compile."""

    grammar: GrammarSpec | None = None
    param: str | None = None
    visible: frozenset[int] = frozenset()
    thinking: Thinking | None = None
    stop: tuple[str, ...] = ()

    @classmethod
    def of_plan(cls, plan: ChatPlan, param: str | None = None) -> Self:
        """What the plan of a chat needs."""
        return cls(
            grammar=plan.grammar, param=param, visible=plan.visible, thinking=plan.thinking, stop=tuple(plan.stop)
        )


@contextmanager
def blaming(param: str | None) -> Iterator[None]:
    """InvalidRequest inside the block becomes ApiError 400 for ``param``, unless it names a field itself."""
    try:
        yield
    except InvalidRequest as error:
        name = error.param or param
        told = error.message if name is None or name in error.message else f"{name}: {error.message}"
        raise bad_request(told, name) from None


async def compile_grammar(services: Services, engine: TextEngine, guidance: Guidance) -> Grammar | None:
    """The grammar, None where there is none. Raises ApiError 400 naming the field.

    Not abandoned on cancel: it takes milliseconds, or as long as the vocabulary is being prepared.
    """
    if guidance.grammar is None:
        return None

    def compiled(spec: GrammarSpec) -> Grammar:
        try:
            return engine.grammars.compile(spec)
        except InvalidRequest as error:
            if spec.instead is None:
                raise
            _log.info("tools' schemas are enforced in outline only: %s", error.message)
            return engine.grammars.compile(spec.instead())

    with blaming(guidance.param):
        return await trio.to_thread.run_sync(compiled, guidance.grammar, limiter=services.compiling)
