"""Which of the hand-written formats a model's template shows."""

from typing import Final

from llamabox.chat.formats.base import ChatFormat, Marks, ToolSyntax
from llamabox.chat.formats.chatglm4 import ChatGlm4
from llamabox.chat.formats.dsml import Dsml
from llamabox.chat.formats.functionary import Functionary
from llamabox.chat.formats.gemma4 import Gemma4
from llamabox.chat.formats.harmony import Harmony
from llamabox.chat.formats.kimi import Kimi
from llamabox.chat.formats.lfm2 import Lfm2
from llamabox.chat.formats.standard import StandardFormat

_THINK: Final = Marks("<think>", "</think>")
_GEMMA_THOUGHT: Final = Marks("<|channel>thought\n", "<channel|>")
_DSML: Final = "\uff5cDSML\uff5c"
# LFM2's templates show calls rarely: most know them by how the tools are listed.
_LFM2: Final = ("<|tool_call_start|>", "<|tool_list_start|>", "List of tools: [")


def known_format(source: str) -> ChatFormat | None:
    """The format that a template needs, from its Jinja text; None if it is none of the hand-written ones."""
    if _all(source, "<|channel|>", "<|message|>"):
        return Harmony()
    if _all(source, ">>>all", "<|start_header_id|>"):
        return Functionary()
    if _all(source, "<|tool_call>", "call:"):
        return StandardFormat(reasoning=_GEMMA_THOUGHT if "<|channel>" in source else None, tools=Gemma4())
    reasoning = _THINK if _THINK.end in source else None
    if _all(source, "[gMASK]", "<|observation|>") and "<tool_call>" not in source:
        return ChatGlm4(reasoning)
    tools = _known_tools(source)
    return None if tools is None else StandardFormat(reasoning=reasoning, tools=tools)


def _known_tools(source: str) -> ToolSyntax | None:
    """The syntax of calls in a turn that is otherwise standard."""
    if "<|tool_calls_section_begin|>" in source:
        return Kimi()
    if _DSML in source:
        return Dsml(block="function_calls" if "function_calls" in source else "tool_calls")
    if any(mark in source for mark in _LFM2):
        return Lfm2()
    return None


def _all(source: str, *texts: str) -> bool:
    return all(text in source for text in texts)
