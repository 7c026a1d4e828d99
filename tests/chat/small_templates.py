"""Small templates of our own in the manner of well-known model families."""

CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}
"""

# System text inside the first user turn, strict alternation, BOS and EOS written by the template.
LLAMA2 = """\
{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set turns = messages[1:] %}
{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}
{% for turn in turns %}
{% if (turn.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns must alternate') }}{% endif %}
{% if turn.role == 'user' -%}
{{ bos_token ~ '[INST] ' ~ ('<<SYS>>\\n' ~ system ~ '\\n<</SYS>>\\n\\n' if loop.first and system else '') }}
{{- turn.content | trim ~ ' [/INST]' }}
{%- else %}
{{- ' ' ~ turn.content | trim ~ ' ' ~ eos_token }}
{%- endif %}
{% endfor %}
"""

LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
{%- if loop.first and message.role == 'system' %}{{ 'Today Date: ' + date_string + '\\n\\n' }}{% endif %}
{{- message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}
"""

# No system role, alternation, "model" for the assistant.
GEMMA = """\
{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}
{%- set role = 'model' if message.role == 'assistant' else message.role %}
{{- '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}
"""

# Loop controls and a namespace; the last user turn carries the system text.
MISTRAL = """\
{%- set ns = namespace(system='', last=-1) %}
{%- for message in messages %}
{%- if message.role == 'system' %}{% set ns.system = message.content %}{% continue %}{% endif %}
{%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'user' %}
{{- '[INST] ' }}{% if loop.index0 == ns.last and ns.system %}{{ ns.system + '\\n\\n' }}{% endif %}
{{- message.content + '[/INST]' }}
{%- elif message.role == 'assistant' %}{{ ' ' + message.content + eos_token }}{% endif %}
{%- endfor %}
"""

PHI = """\
{% for message in messages %}{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
"""

# Content in parts only, as media models have it.
PARTS = """\
{% for message in messages %}
{{- '<' + message.role + '>' }}
{%- for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}
{{- '</' + message.role + '>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}
"""

# Strings or parts; the developer role; reasoning that the generation prompt opens; training marks.
REASONER = """\
{%- macro text_of(content) -%}
{%- if content is string %}{{ content }}{% else %}{% for part in content %}{{ part.text }}{% endfor %}{% endif %}
{%- endmacro %}
{%- for message in messages %}
{%- if message.role == 'developer' %}{{ '<|dev|>' + text_of(message.content) }}
{%- elif message.role == 'assistant' %}
{%- generation %}{{ '<|bot|>' + text_of(message.content).split('</think>')[-1].lstrip() }}{% endgeneration %}
{%- else %}{{ '<|' + message.role + '|>' + text_of(message.content) }}{% endif %}
{{- '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|bot|><think>\\n' }}{% endif %}
"""

# Appends to a list, dumps JSON, formats the date, changes its input.
TOOLISH = """\
{%- set seen = [] %}
{%- for message in messages %}
{%- set _ = seen.append(message.role) %}
{%- set _ = message.update({'n': loop.index}) %}
{{- message | tojson(sort_keys=true) + '\\n' }}
{%- endfor %}
{{- seen | join(',') + '|' + strftime_now('%Y') | length | string }}
{%- if add_generation_prompt %}{{ '|go' }}{% endif %}
"""

FAMILIES = {
    "chatml": CHATML,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "phi": PHI,
    "parts": PARTS,
    "reasoner": REASONER,
    "toolish": TOOLISH,
}
