"""The built-in templates against the library's own, name by name, and the choice of a template."""

import ctypes
import logging
from functools import cache
from typing import Any

import attrs
import pytest

from engine.native import library
from llamabox.chat.builtin import BUILTIN_NAMES, CHATML, builtin, nearest_builtin, template_for
from llamabox.chat.capabilities import probe
from llamabox.chat.template import compiled
from tests.chat.test_prompts import info

# chat.md's list.
_TEXT = """
bailing bailing-think bailing2 chatglm3 chatglm4 chatml command-r deepseek deepseek-ocr deepseek2 deepseek3 exaone-moe
exaone3 exaone4 falcon falcon3 gemma gigachat glmedge gpt-oss granite granite-4.0 granite-4.1 grok-2 hunyuan-dense
hunyuan-moe hunyuan-vl kimi-k2 llama2 llama2-sys llama2-sys-bos llama2-sys-strip llama3 llama4 llava llava-mistral
megrez minicpm mistral-v1 mistral-v3 mistral-v3-tekken mistral-v7 mistral-v7-tekken monarch openchat orion
pangu-embedded phi3 phi4 rwkv-world seed_oss smolvlm solar-open vicuna vicuna-orca yandex zephyr
"""
NAMES = _TEXT.split()

type Talk = list[tuple[str, str]]

SYSTEM, USER, ASSISTANT = ("system", " S\n"), ("user", " U "), ("assistant", "\tA ")
SECOND, RESULT = ("user", "V"), ("tool", " R ")
TALKS: list[Talk] = [
    [SYSTEM, USER],
    [SYSTEM, USER, ASSISTANT, SECOND],
    [USER],
    [USER, ASSISTANT],
    [USER, ASSISTANT, SYSTEM, SECOND],
    [SYSTEM, USER, ASSISTANT, RESULT],
    [SYSTEM, SYSTEM, USER, SECOND],
    [SYSTEM],
    [ASSISTANT, USER],
]


@cache
def native() -> Any:
    return library.load()


def known_to_the_library() -> list[str]:
    lib = native()
    count = lib.llama_chat_builtin_templates(None, 0)
    names = (ctypes.c_char_p * count)()
    lib.llama_chat_builtin_templates(names, count)
    return [name.decode() for name in names]


def of_the_library(template: str, talk: Talk, add_generation_prompt: bool) -> str | None:
    """What the library writes for a name or for Jinja text; None where it knows no such template."""
    lib = native()
    messages = [lib.llama_chat_message(role=role.encode(), content=content.encode()) for role, content in talk]
    array = (lib.llama_chat_message * len(messages))(*messages)
    buffer = ctypes.create_string_buffer(4096)
    length = lib.llama_chat_apply_template(
        template.encode(), array, len(messages), add_generation_prompt, buffer, len(buffer)
    )
    return None if length < 0 else buffer.raw[:length].decode()


def ours(name: str, talk: Talk, add_generation_prompt: bool = True) -> str:
    source = builtin(name)
    assert source is not None
    messages = [{"role": role, "content": content} for role, content in talk]
    return compiled(source).render({"messages": messages, "add_generation_prompt": add_generation_prompt})


def test_the_names() -> None:
    assert list(BUILTIN_NAMES) == sorted(NAMES)
    assert builtin("no-such-name") is None
    assert builtin("../../settings") is None
    assert builtin("chatml") == CHATML


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_the_librarys(name: str) -> None:
    if name not in known_to_the_library():
        assert name in ("falcon", "llava", "llava-mistral")
        return
    for talk in TALKS:
        for add_generation_prompt in (True, False):
            expected = of_the_library(name, talk, add_generation_prompt)
            assert ours(name, talk, add_generation_prompt) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("falcon", "System: S\nUser: U\nFalcon: A\nUser: V\nFalcon:"),
        ("llava", "S USER: U ASSISTANT: A</s>USER: V ASSISTANT:"),
        ("llava-mistral", "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A</s>[INST] V [/INST]"),
    ],
)
def test_what_the_library_does_not_know(name: str, text: str) -> None:
    assert ours(name, [("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V")]) == text


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_used(name: str) -> None:
    source = builtin(name)
    assert source is not None
    template = compiled(source)
    assert probe(source, template.render).string_content


SAMPLES = [
    "<|im_start|>x", "<|im_start|><|im_sep|>", "<|im_start|><end_of_utterance>", "[INST][SYSTEM_PROMPT]",
    "' [INST] ' + system_message", "{{' [INST]'}}[AVAILABLE_TOOLS]", '{{"[INST]"}}[AVAILABLE_TOOLS]',
    "'[INST]'[AVAILABLE_TOOLS]", "[INST] content.strip()", "bos_token + '[INST] '<<SYS>>", "[INST]<<SYS>>", "[INST]",
    "<|assistant|><|end|>", "[gMASK]<sop>", "<|assistant|><|user|><|tool_declare|>", "<|assistant|><|user|></s>",
    "<|assistant|><|user|>", "<|{{ item['role'] }}|><|begin_of_image|>", "<|user|><|endoftext|>",
    "bos_token + message['role']", "<start_of_turn>", r"'\n\nAssistant: ' + eos_token", "GPT4 Correct ",
    "USER: ASSISTANT: SYSTEM: ", "USER: ASSISTANT: ", "### Instruction:<|EOT|>",
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|start_header_id|><|end_header_id|>", "[gMASK]sop", "<用户>",
    "'Assistant: ' + message['content'] + eos_token", "<｜User｜><｜Assistant｜><｜end▁of▁sentence｜>",  # noqa: RUF001
    "[|system|][|assistant|][|endofturn|][|tool|]", "[|system|][|assistant|][|endofturn|]", "rwkv-world{",
    "<|start_of_role|><tool_call>g4_default_system_message", "<|start_of_role|><tool_call>", "<|start_of_role|>",
    "<|role_start|>", " Ассистент:", "<role>ASSISTANT</role>'HUMAN'", '<role>ASSISTANT</role>"HUMAN"<think>',
    "<role>ASSISTANT</role><role>HUMAN</role><|role_end|>", "<|header_start|><|header_end|>",
    "<|extra_0|><|extra_4|>", "<|start|><|channel|>", "<｜hy_Assistant｜><｜hy_begin▁of▁sentence｜>",  # noqa: RUF001
    "<｜hy_Assistant｜><｜hy_place▁holder▁no▁3｜>", "<|im_assistant|>assistant<|im_middle|>", "<seed:bos>",  # noqa: RUF001
    "'Assistant: '  + message['content'] + '<|separator|>", "[unused9]系统：[unused10]",  # noqa: RUF001
    "<|begin|><|end|><|content|>", "{{ messages[0].content }}", "[TOOL]", *NAMES,
]  # fmt: skip


@pytest.mark.parametrize("source", SAMPLES)
def test_the_nearest_is_the_librarys_choice(source: str) -> None:
    name = nearest_builtin(source)
    if source in ("falcon", "llava", "llava-mistral"):
        assert name == source
        return
    for talk in TALKS:
        expected = of_the_library(source, talk, True)
        assert (None if name is None else ours(name, talk)) == expected


def test_the_models_own_template_and_its_variant_for_tools() -> None:
    plain = info("plain")
    both = attrs.evolve(plain, tool_template="for tools")
    assert template_for(plain, tools=True) == template_for(both) == "plain"
    assert template_for(both, tools=True) == "for tools"
    assert template_for(attrs.evolve(both, chat_template=None), tools=True) == "for tools"
    assert template_for(info(None)) is None
    assert template_for(info(None), jinja=False) is None


def test_without_jinja_the_nearest_built_in_is_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert template_for(info("{{ '<start_of_turn>' }}"), jinja=False) == builtin("gemma")
        assert caplog.records == []
        assert template_for(info("{{ messages }}"), jinja=False) == CHATML
    assert "ChatML" in caplog.text
