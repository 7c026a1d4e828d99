"""Finding out about templates, in an interpreter of the pool as the server does it."""

from collections.abc import AsyncIterator

import pytest

from llamabox.chat.analysis.plain import from_plain
from llamabox.chat.builtin import CHATML
from llamabox.chat.capabilities import Capabilities
from llamabox.chat.errors import (
    TEMPLATE_ERRORS,
    TemplateError,
    TemplateLimitError,
    TemplateSyntaxInvalidError,
)
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.interpreters import InterpreterPool, open_interpreter_pool

CONSTANTS = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": True}

CALLER = """\
{%- if tools %}{{ '<tools>' + tools | tojson + '</tools>' }}{% endif %}
{%- for message in messages %}
{{- '<|' + message.role + '|>' + message.content }}
{%- for call in message.tool_calls %}
{{- '<call>' + {'name': call.function.name, 'arguments': call.function.arguments} | tojson + '</call>' }}
{%- endfor %}
{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
"""


@pytest.fixture
async def pool() -> AsyncIterator[InterpreterPool]:
    async with open_interpreter_pool(1, known=TEMPLATE_ERRORS) as opened:
        yield opened


async def test_all_about_a_template(pool: InterpreterPool) -> None:
    found = await pool.run("llamabox.chat.worker:analyze", CALLER, CONSTANTS)
    assert found.keys() == {"capabilities", "description"}
    able = Capabilities(**found["capabilities"])
    assert (able.calls_shown, able.results_shown, able.parallel_calls) == (True, True, True)
    assert (able.object_arguments, able.string_arguments, able.reasoning_field) == (True, False, None)
    syntax = from_plain(found["description"]).tools
    assert isinstance(syntax, JsonCalls)
    assert (syntax.call.start, syntax.call.end) == ("<call>", "</call>")


async def test_a_template_without_tools(pool: InterpreterPool) -> None:
    found = await pool.run("llamabox.chat.worker:analyze", CHATML, CONSTANTS)
    able = Capabilities(**found["capabilities"])
    assert (able.calls_shown, able.results_shown) == (False, True)
    assert from_plain(found["description"]).tools is None


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("{% for %}", TemplateSyntaxInvalidError),
        ("no message shown", TemplateError),
        ("{{ messages[0].content }}{% if tools %}{{ 'A' * 10**9 }}{% endif %}", TemplateLimitError),
        ("{{ messages[0].content }}{% if messages | length > 1 %}{{ 10 ** (10 ** 8) }}{% endif %}", TemplateLimitError),
    ],
)
async def test_what_cannot_be_used_says_why(pool: InterpreterPool, source: str, error: type[TemplateError]) -> None:
    with pytest.raises(error):
        await pool.run("llamabox.chat.worker:analyze", source, CONSTANTS)
    assert pool.written_off == 0
