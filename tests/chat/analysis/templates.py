"""Small templates for the analysis: one frame, and pieces that are put into it."""

import functools
from typing import Any

from llamabox.chat.analysis.analyze import analyze
from llamabox.chat.analysis.description import Description
from llamabox.chat.template import compiled

_FRAME = """\
{{- bos_token -}}
@LISTING@
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{- '<|bot|>' -}}
@REASONING@
{{- message.content -}}
{%- for call in message.tool_calls or [] -%}{%- set first = loop.first -%}{%- set last = loop.last -%}
{%- set name = call.function.name -%}{%- set arguments = call.function.arguments -%}
@CALL@
{%- endfor -%}
{{- '<|end|>\\n' -}}
{%- else -%}
{{- '<|' + message.role + '|>' + message.content + '<|end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|bot|>' -}}@PROMPT@{%- endif -%}
"""

LISTING = "{%- if tools %}{{ '<|tools|>' + tools | tojson + '<|end|>\\n' }}{% endif -%}"


def template(call: str = "", *, reasoning: str = "", prompt: str = "", listing: str = LISTING) -> str:
    """A template; ``call`` writes one call, from ``name``, ``arguments``, ``call.id``, ``first`` and ``last``."""
    pieces = {"CALL": call, "REASONING": reasoning, "PROMPT": prompt, "LISTING": listing}
    source = _FRAME
    for name, piece in pieces.items():
        source = source.replace(f"@{name}@", piece)
    return source


@functools.cache
def describe(source: str, **constants: Any) -> Description:
    """What the analysis says about a template."""
    known = {"bos_token": "<s>", "eos_token": "</s>", **constants}
    return analyze(source, lambda variables: compiled(source).render({**known, **variables}))
