from typing import Any

import attrs
import pytest

from llamabox.chat.analysis.description import Description
from llamabox.chat.builtin import CHATML
from llamabox.chat.capabilities import DESCRIBED, Capabilities, probe
from llamabox.chat.errors import TemplateError, TemplateLimitError
from llamabox.chat.template import ChatTemplate
from tests.chat.small_templates import FAMILIES

CONSTANTS = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": True}

EXPECTED = {
    "chatml": Capabilities(),
    "llama2": Capabilities(alternation=True, late_system=False),
    "llama3": Capabilities(),
    "gemma": Capabilities(system_role=False, alternation=True, late_system=False),
    "mistral": Capabilities(late_system=False),
    "phi": Capabilities(),
    "parts": Capabilities(string_content=False, list_content=True),
    "reasoner": Capabilities(list_content=True, developer_role=True),
    "toolish": Capabilities(),
}


def capabilities(source: str) -> Capabilities:
    template = ChatTemplate(source)

    def render(variables: dict[str, Any]) -> str:
        return template.render({**CONSTANTS, **variables})

    return probe(source, render)


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    assert capabilities(FAMILIES[family]) == EXPECTED[family]


def test_our_chatml_is_the_default() -> None:
    assert capabilities(CHATML) == Capabilities()


def test_one_system_message_and_only_at_the_beginning() -> None:
    one = "{{ messages[0].content }}{% for m in messages[1:] if m.role != 'system' %}{{ m.content }}{% endfor %}"
    assert capabilities(one) == Capabilities(late_system=False)


def test_literal_parts_are_not_mistaken_for_printed_ones() -> None:
    assert capabilities(FAMILIES["chatml"] + """{{ '{"type": "object"}' }}""") == Capabilities()


PARTS_WITH_THOUGHTS = """\
{%- for message in messages %}
{%- if message.content is string %}{{ message.content }}
{%- else %}{% for part in message.content %}{{ part[part.type] }}{% endfor %}
{%- endif %}
{%- endfor %}
"""


def test_thoughts_as_parts() -> None:
    found = capabilities(PARTS_WITH_THOUGHTS + "{# parts of type thinking #}")
    assert found == Capabilities(list_content=True, thinking_parts=True)
    assert not capabilities(FAMILIES["chatml"] + "{# parts of type thinking #}").thinking_parts


REFUSES_BOTH = """\
{%- for message in messages %}
{%- if message.tool_calls and message.content and message.thinking %}{{ raise_exception('one of them') }}{% endif %}
{{- message.content }}
{%- endfor %}
"""


def test_reasoning_beside_text_and_calls_may_be_refused() -> None:
    assert capabilities(REFUSES_BOTH) == Capabilities(reasoning_beside_text_and_calls=False)


def test_what_the_analysis_found_out_comes_on_top() -> None:
    description = {"calls_shown": False, "id_length": 9, "reasoning_field": None, "turn_end": "<end>"}
    described = Capabilities(alternation=True).described(description)
    assert described == Capabilities(alternation=True, calls_shown=False, id_length=9, reasoning_field=None)


def test_all_that_is_described_is_found_out_by_the_analysis() -> None:
    assert set(DESCRIBED) <= {field.name for field in attrs.fields(Description)}


@pytest.mark.parametrize("source", ["always the same", "{{ raise_exception('never') }}", "{{ messages[5].content }}"])
def test_a_template_that_shows_no_user_text_is_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        capabilities(source)


def test_limits_are_not_mistaken_for_a_missing_capability() -> None:
    with pytest.raises(TemplateLimitError):
        capabilities("{% if messages[0].role == 'system' %}{{ 'a' * 10**9 }}{% endif %}{{ messages[0].content }}")
