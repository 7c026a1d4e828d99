"""Images and sounds in the prompts of conversations."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.errors import InvalidRequest
from engine.text.media import spans_fit
from llamabox.chat.ask import ChatAsk, ChatPlan, ToolChoice
from llamabox.chat.errors import TEMPLATE_ERRORS, TemplateError
from llamabox.chat.formats.base import Tool
from llamabox.chat.injection import MEDIA_MARKER
from llamabox.interpreters import InterpreterPool, open_interpreter_pool
from llamabox.prompts import PromptBuilder, create_prompt_builder
from llamabox.settings import ChatSettings
from tests.chat.small_templates import CHATML
from tests.chat.test_prompts import CharVocab, info, shown
from tests.media.reader import FakeReader
from tests.media.test_loader import image, loader
from tests.models.pictures import data_url, png

LISTS_ONLY = """\
{%- for m in messages %}[{{ m.role }}]{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}\
{% endfor %}
{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"""
FORGETFUL = """\
{%- for m in messages %}[{{ m.role }}]{{ m.content if loop.last }}
{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"""
TIDY = "{%- for m in messages %}[{{ m.role }}]{{ m.content | trim }} {% endfor %}"

A, B = image(data_url(png(size=(3, 2)))), image(data_url(png(size=(2, 2))))


@pytest.fixture
async def pool() -> AsyncIterator[InterpreterPool]:
    async with open_interpreter_pool(1, known=TEMPLATE_ERRORS) as started:
        yield started


async def builder(pool: InterpreterPool, template: str, **fields: Any) -> PromptBuilder:
    return await create_prompt_builder(info(template), CharVocab(), pool, ChatSettings(), loader(FakeReader(**fields)))


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def user(*parts: object) -> dict[str, Any]:
    return {"role": "user", "content": [*parts]}


def read(plan: ChatPlan) -> str:
    """The tokens, each run of pseudo-tokens as its length between braces."""
    assert spans_fit(plan.tokens, plan.media)
    parts, done = [], 0
    for span in plan.media:
        parts += [shown(plan.tokens[done : span.start]), f"{{{span.chunk.n_pos}}}"]
        done = span.end
    return "".join([*parts, shown(plan.tokens[done:])])


async def test_media_stand_where_their_parts_were(pool: InterpreterPool) -> None:
    prompts = await builder(pool, CHATML)
    plan = await prompts.plan(ChatAsk(messages=[user(text("a"), text("b"), A, text("c"), B), user(text("d"))]))
    assert "a\nb<{3}>c<{2}>«<|im_end|>»" in read(plan)
    assert f"a\nb{MEDIA_MARKER}c{MEDIA_MARKER}<|im_end|>" in plan.text
    assert plan.n_tokens == len(plan.tokens) + 3 + 2


async def test_templates_that_take_lists_of_parts(pool: InterpreterPool) -> None:
    plan = await (await builder(pool, LISTS_ONLY)).plan(ChatAsk(messages=[user(text("a"), A, text("b"))]))
    assert "[user]a<{3}>b[assistant]" in read(plan)


async def test_marks_survive_what_templates_do_to_text(pool: InterpreterPool) -> None:
    plan = await (await builder(pool, TIDY)).plan(ChatAsk(messages=[user(text("  a"), A, text("x "))]))
    assert "]a<{3}>x " in read(plan)


async def test_results_of_tools_and_instructions_may_hold_media(pool: InterpreterPool) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": [text("s"), B]},
        user(text("q")),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [A]},
    ]
    tool = Tool(name="look", description="", parameters={"type": "object"})
    plan = await (await builder(pool, CHATML)).plan(ChatAsk(messages=messages, tools=(tool,), choice=ToolChoice.AUTO))
    assert [span.chunk.n_pos for span in plan.media] == [2, 3]
    assert spans_fit(plan.tokens, plan.media)


async def test_users_cannot_write_a_mark(pool: InterpreterPool) -> None:
    written = f"{MEDIA_MARKER} q0000000000000000m0z <|im_end|>"
    plan = await (await builder(pool, CHATML)).plan(ChatAsk(messages=[user(text(written), A, text("x"))]))
    assert f"{written}<{{3}}>x«<|im_end|>»" in read(plan)
    assert len(plan.media) == 1


async def test_a_template_that_leaves_a_medium_out_is_an_error(pool: InterpreterPool) -> None:
    prompts = await builder(pool, FORGETFUL)
    with pytest.raises(TemplateError, match="no place"):
        await prompts.plan(ChatAsk(messages=[user(A), {"role": "assistant", "content": "y"}, user(text("x"))]))


async def test_an_answer_goes_on_behind_an_image(pool: InterpreterPool) -> None:
    messages = [user(text("a"), A), {"role": "assistant", "content": "I see"}]
    plan = await (await builder(pool, CHATML)).plan(
        ChatAsk(messages=messages, add_generation_prompt=False, continue_final_message=True)
    )
    assert read(plan).endswith("assistant\nI see")


async def test_an_assistant_has_said_no_image(pool: InterpreterPool) -> None:
    with pytest.raises(TemplateError, match=r"messages\[1\]\.content\[0\]"):
        await (await builder(pool, CHATML)).plan(
            ChatAsk(messages=[user(text("a")), {"role": "assistant", "content": [A]}, user(text("b"))])
        )


async def test_without_a_projector_there_are_no_media(pool: InterpreterPool) -> None:
    prompts = await create_prompt_builder(info(CHATML), CharVocab(), pool, ChatSettings())
    with pytest.raises(TemplateError, match="text only"):
        await prompts.plan(ChatAsk(messages=[user(A)]))
    with pytest.raises(InvalidRequest, match="takes no images"):
        await prompts.place(MEDIA_MARKER, ["AAAA"], "prompt")


async def test_native_prompts(pool: InterpreterPool) -> None:
    prompts = await builder(pool, CHATML)
    data = [data_url(png(size=(3, 2))), data_url(png(size=(2, 2)))]
    placed = await prompts.place(f"a{MEDIA_MARKER}{MEDIA_MARKER}<|im_end|>b", data, "prompt")
    assert spans_fit(placed.tokens, placed.media)
    assert placed.tokens[:3] == [256, ord("a"), 60]
    assert shown(placed.tokens[placed.media[1].end :]) == ">«<|im_end|>»b"
    for count in (1, 3):
        with pytest.raises(InvalidRequest, match="media for 2 marks"):
            await prompts.place(f"a{MEDIA_MARKER}{MEDIA_MARKER}b", data[:1] * count, "prompt")
    plain = await prompts.place(MEDIA_MARKER, [], "prompt")
    assert plain.media == ()
