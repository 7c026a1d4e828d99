"""Finds out all about a template by some thirty renderings."""

import attrs

from llamabox.chat.analysis.calls import find_calls, find_tool_variable
from llamabox.chat.analysis.description import Description
from llamabox.chat.analysis.probes import USER, Prober, Render
from llamabox.chat.analysis.reasoning import find_reasoning
from llamabox.chat.analysis.turn import frame, turn_end, wrapping


def analyze(source: str, render: Render) -> Description:
    """The description of a template that ``render`` turns variables into text with.

    A rendering that raises TemplateError means that the template cannot do something. Raises TemplateError if it cannot
    render one message of the user, TemplateLimitError if a rendering does too much.
    """
    prober = _prober(source, render)
    tools_shown = find_tool_variable(prober, source)
    texts = frame(prober)
    if texts is None:
        return Description(
            tools_shown=tools_shown, tool_argument_name=prober.tools_name, tools_as_text=prober.tools_as_text
        )
    reasoning = find_reasoning(prober, texts, source)
    surrounds = wrapping(texts, reasoning.marks, reasoning.answered, source)
    end = turn_end(texts, surrounds, reasoning.marks)
    calls = find_calls(prober, end, reasoning.marks, tools_shown=tools_shown)
    if end and calls.tools is not None and any(start.startswith(end) for start in calls.tools.starts):
        end = ""  # it is only between the messages of one turn
    return Description(
        generation_prompt=texts.generation_prompt,
        turn_end=end,
        reasoning=reasoning.marks,
        opened_by_prompt=reasoning.opened_by_prompt,
        closed_by_prompt=reasoning.closed_by_prompt,
        reasoning_field=reasoning.field,
        wrapping=surrounds,
        **attrs.asdict(calls, recurse=False),
        tool_argument_name=prober.tools_name,
        tools_as_text=prober.tools_as_text,
    )


def _prober(source: str, render: Render) -> Prober:
    """Content as the template takes it; some templates insist on tools, if only on none. Raises TemplateError."""
    insists = [("functions", True)] if "functions" in source else []
    for name, as_text in (("tools", False), *insists):
        for parts in (False, True):
            prober = Prober(render, parts=parts, tools_name=name, tools_as_text=as_text)
            text = prober.text(prober.user(), prompt=True)
            if text is not None and USER in text:
                return prober
    prober = Prober(render)
    prober.render(prober.user(), prompt=True)
    return prober
