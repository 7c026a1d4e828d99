"""What the differential analysis finds out about a template."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from llamabox.chat.formats.base import Marks
from llamabox.chat.formats.json_calls import JsonCalls
from llamabox.chat.formats.tagged_arguments import TaggedArguments
from llamabox.chat.formats.tagged_json import TaggedJson

type CallSyntax = JsonCalls | TaggedJson | TaggedArguments


@attrs.frozen(kw_only=True)
class Description:
    """How a template writes a model's turn, and what it takes. The defaults: text and nothing else."""

    generation_prompt: str = ""  # what add_generation_prompt adds, with enable_thinking
    turn_end: str = ""  # what follows the assistant's message, "" if nothing sure

    reasoning: Marks | None = None
    opened_by_prompt: bool = False  # the generation prompt leaves the reasoning open, with enable_thinking
    closed_by_prompt: str = ""  # the end of the generation prompt without enable_thinking: "<think>\n\n</think>\n\n"
    reasoning_field: str | None = None  # of an assistant's message: what the template writes as its reasoning
    wrapping: Marks | None = None

    tools: CallSyntax | None = None
    tools_shown: bool = False  # the tools given come into the prompt
    calls_shown: bool = False  # an assistant's calls come into the prompt
    results_shown: bool = False
    parallel_calls: bool = False  # all of several calls in one message come into the prompt
    object_arguments: bool = False  # a call's arguments may be a JSON object
    string_arguments: bool = False  # ... may be JSON text
    id_length: int | None = None  # the only length of call ids that the template takes
    tool_argument_name: str = "tools"  # the variable in which the template looks for tools
    tools_as_text: bool = False  # it takes JSON text instead of objects

    @property
    def preserves_reasoning(self) -> bool:
        """Whether the reasoning of former turns can come into the prompt."""
        return self.reasoning_field is not None

    def tool_variables(self, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The template's variables for tools as in OpenAI's chat API; also without tools, for it may insist."""
        return tool_variables(tools, self.tool_argument_name, as_text=self.tools_as_text)

    def leaves_reasoning_open(self, prompt: str) -> bool:
        """Whether a prompt, generation prompt included, ends inside the reasoning."""
        if self.reasoning is None:
            return False
        end = prompt.rstrip()
        if self.reasoning.start.strip():
            return end.endswith(self.reasoning.start.strip())
        return self.opened_by_prompt and not end.endswith(self.reasoning.end.strip())


def tool_variables(tools: Sequence[Mapping[str, Any]], name: str, *, as_text: bool) -> dict[str, Any]:
    """A template's variables for tools as in OpenAI's chat API; {} if there are none and it does not insist.

    ``tools`` are given as they are, variables of other names get the functions alone: ``functions`` as text is one text
    for all, ``xml_tools`` one text for each.
    """
    functions = [tool["function"] for tool in tools]
    if name == "functions" and as_text:
        return {name: json.dumps(functions, indent=4, ensure_ascii=False)}
    if not tools:
        return {}
    if name == "tools":
        return {name: list(tools)}
    return {name: [json.dumps(function, ensure_ascii=False) for function in functions] if as_text else functions}
