"""Templates of our own, by the names that llama.cpp gives to such forms, and the choice among a model's."""

import logging
from functools import cache
from importlib import resources
from typing import Final

from engine.text.info import ModelInfo

logger = logging.getLogger(__name__)

_FOLDER: Final = resources.files("llamabox.chat") / "builtins"
_SUFFIX: Final = ".jinja"

BUILTIN_NAMES: Final = tuple(
    sorted(file.name.removesuffix(_SUFFIX) for file in _FOLDER.iterdir() if file.name.endswith(_SUFFIX))
)


@cache
def builtin(name: str) -> str | None:
    """The Jinja text of a built-in template; None for a name that is none. They know neither tools nor reasoning."""
    return (_FOLDER / (name + _SUFFIX)).read_text("utf-8") if name in BUILTIN_NAMES else None


def _needed(name: str) -> str:
    source = builtin(name)
    assert source is not None, f"the built-in template {name} comes with the package"
    return source


# For models that bring no template, or one that does not work. Most models have seen this form.
CHATML: Final = _needed("chatml")

# Texts that, found together in a model's template, tell which built-in has its form. The first row that fits counts.
_MARKS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("phi4", ("<|im_start|>", "<|im_sep|>")),
    ("smolvlm", ("<|im_start|>", "<end_of_utterance>")),
    ("chatml", ("<|im_start|>",)),
    ("mistral-v7", ("[INST]", "[SYSTEM_PROMPT]")),
    ("mistral-v1", ("' [INST] ' + system_message",)),
    ("mistral-v1", (" [INST]", "[AVAILABLE_TOOLS]")),
    ("mistral-v3-tekken", ('"[INST]"', "[AVAILABLE_TOOLS]")),
    ("mistral-v3", ("[INST]", "[AVAILABLE_TOOLS]")),
    ("llama2-sys-strip", ("[INST]", "content.strip()")),
    ("llama2-sys-bos", ("bos_token + '[INST]",)),
    ("llama2-sys", ("[INST]", "<<SYS>>")),
    ("llama2", ("[INST]",)),
    ("phi3", ("<|assistant|>", "<|end|>")),
    ("chatglm4", ("[gMASK]<sop>",)),
    ("exaone-moe", ("<|assistant|>", "<|user|>", "<|tool_declare|>")),
    ("falcon3", ("<|assistant|>", "<|user|>", "</s>")),
    ("glmedge", ("<|assistant|>", "<|user|>")),
    ("glmedge", ("<|{{ item['role'] }}|>", "<|begin_of_image|>")),
    ("zephyr", ("<|user|>", "<|endoftext|>")),
    ("monarch", ("bos_token + message['role']",)),
    ("gemma", ("<start_of_turn>",)),
    ("orion", (r"'\n\nAssistant: ' + eos_token",)),
    ("openchat", ("GPT4 Correct ",)),
    ("vicuna-orca", ("USER: ", "ASSISTANT: ", "SYSTEM: ")),
    ("vicuna", ("USER: ", "ASSISTANT: ")),
    ("deepseek", ("### Instruction:", "<|EOT|>")),
    ("command-r", ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>")),
    ("llama3", ("<|start_header_id|>", "<|end_header_id|>")),
    ("chatglm3", ("[gMASK]sop",)),
    ("minicpm", ("<用户>",)),
    ("deepseek2", ("'Assistant: ' + message['content'] + eos_token",)),
    ("deepseek3", ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")),  # noqa: RUF001
    ("exaone4", ("[|system|]", "[|assistant|]", "[|endofturn|]", "[|tool|]")),
    ("exaone3", ("[|system|]", "[|assistant|]", "[|endofturn|]")),
    ("rwkv-world", ("rwkv-world",)),
    ("rwkv-world", (r"{{- 'User: ' + message['content']|trim + '\n\n' -}}",)),
    ("granite-4.0", ("<|start_of_role|>", "g4_default_system_message")),
    ("granite-4.1", ("<|start_of_role|>", "<tool_call>")),
    ("granite", ("<|start_of_role|>",)),
    ("gigachat", ("message['role'] + additional_special_tokens[0]",)),
    ("megrez", ("<|role_start|>",)),
    ("yandex", (" Ассистент:",)),
    ("bailing", ("<role>ASSISTANT</role>", "'HUMAN'")),
    ("bailing-think", ("<role>ASSISTANT</role>", '"HUMAN"', "<think>")),
    ("bailing2", ("<role>ASSISTANT</role>", "<role>HUMAN</role>", "<|role_end|>")),
    ("llama4", ("<|header_start|>", "<|header_end|>")),
    ("hunyuan-moe", ("<|extra_0|>", "<|extra_4|>")),
    ("gpt-oss", ("<|start|>", "<|channel|>")),
    ("hunyuan-vl", ("<｜hy_Assistant｜>", "<｜hy_begin▁of▁sentence｜>")),  # noqa: RUF001
    ("hunyuan-dense", ("<｜hy_Assistant｜>", "<｜hy_place▁holder▁no▁3｜>")),  # noqa: RUF001
    ("kimi-k2", ("<|im_assistant|>assistant<|im_middle|>",)),
    ("seed_oss", ("<seed:bos>",)),
    ("grok-2", ("'Assistant: '", "<|separator|>")),
    ("pangu-embedded", ("[unused9]系统：[unused10]",)),  # noqa: RUF001
    ("solar-open", ("<|begin|>", "<|end|>", "<|content|>")),
)


def nearest_builtin(source: str) -> str | None:
    """The name of the built-in template that has the form of this Jinja text, or of its name; None: none is known."""
    if source in BUILTIN_NAMES:
        return source
    return next((name for name, marks in _MARKS if all(mark in source for mark in marks)), None)


def template_for(info: ModelInfo, *, tools: bool = False, jinja: bool = True) -> str | None:
    """The text of the model's own template to use; None if it brings none.

    With ``tools`` the variant that is meant for them, where there is one. Without ``jinja`` the nearest built-in
    instead; ChatML, with a warning, where none is near.
    """
    own = info.chat_template
    if tools and info.tool_template is not None:
        own = info.tool_template
    if own is None or jinja:
        return own
    name = nearest_builtin(own)
    if name is None:
        logger.warning("no built-in template is like the model's own, ChatML is used")
        return CHATML
    return _needed(name)
