from typing import Any

import pytest

from llamabox.chat.builtin import CHATML
from llamabox.chat.capabilities import Capabilities, probe
from llamabox.chat.errors import TemplateError, TemplateLimitError
from llamabox.chat.template import ChatTemplate
from tests.chat.families import FAMILIES

CONSTANTS = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": True}

EXPECTED = {
    "chatml": Capabilities(),
    "llama2": Capabilities(alternation=True),
    "llama3": Capabilities(),
    "gemma": Capabilities(system_role=False, alternation=True),
    "mistral": Capabilities(),
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


@pytest.mark.parametrize("source", ["always the same", "{{ raise_exception('never') }}", "{{ messages[5].content }}"])
def test_a_template_that_shows_no_user_text_is_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        capabilities(source)


def test_limits_are_not_mistaken_for_a_missing_capability() -> None:
    with pytest.raises(TemplateLimitError):
        capabilities("{% if messages[0].role == 'system' %}{{ 'a' * 10**9 }}{% endif %}{{ messages[0].content }}")
