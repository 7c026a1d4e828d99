"""Templates of our own."""

from typing import Final

# For models that bring none, or one that does not work. Most models have seen this form.
CHATML: Final = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
