"""Options of completions: templates, constraints, text."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import TEXT_FILE, Form, Whole, text, texts
from cli.option import Option, Section

_option = partial(Option, section=Section.COMPLETION)

WORDING: Final = (
    _option(
        flags="-e --escape",
        off="--no-escape",
        default="on",
        help=r"read \n, \t, \x41 and the like in --reverse-prompt and --dry-sequence-breaker",
    ),
    _option(
        flags="-r --reverse-prompt",
        kind=texts(),
        metavar="TEXT",
        setting="defaults.stop",
        repeat=True,
        default="none",
        help="end the generation before this text; repeatable",
    ),
    _option(
        flags="-sp --special",
        setting="defaults.special",
        help="write special tokens as text",
    ),
    _option(
        flags="--jinja",
        off="--no-jinja",
        env="JINJA",
        setting="chat.jinja",
        help="use the model's own template; --no-jinja: the built-in one that is nearest to it",
    ),
    _option(
        flags="--chat-template",
        kind=text("a built-in name or Jinja text"),
        metavar="NAME|JINJA",
        env="CHAT_TEMPLATE",
        setting="chat.template",
        default="the model's",
        help="chat template: a built-in name or Jinja text",
    ),
    _option(
        flags="--chat-template-file",
        kind=TEXT_FILE,
        metavar="FILE",
        setting="chat.template",
        default="the model's",
        help="the same from a file",
    ),
    _option(
        flags="--chat-template-kwargs",
        kind=Form("a JSON object", forms.json_object),
        metavar="JSON",
        env="CHAT_TEMPLATE_KWARGS",
        setting="chat.variables",
        default="none",
        help="more variables for the template; a request's own win",
    ),
    _option(
        flags="--grammar",
        kind=text("GBNF"),
        metavar="GBNF",
        setting="defaults.grammar",
        help="constraint of requests that give none",
    ),
    _option(
        flags="--grammar-file",
        kind=TEXT_FILE,
        metavar="FILE",
        setting="defaults.grammar",
        help="the same from a file",
    ),
    _option(
        flags="-j --json-schema",
        kind=Form("a JSON schema", forms.json_schema),
        metavar="JSON",
        setting="defaults.json_schema",
        help="the same as a JSON schema",
    ),
    _option(
        flags="--spm-infill",
        setting="defaults.spm_infill",
        help="suffix, prefix, middle as the order of infill prompts; some models expect it",
    ),
    _option(
        flags="--enable-reasoning",
        off="--no-enable-reasoning",
        setting="chat.enable_thinking",
        help="let the model think",
    ),
    _option(
        flags="--reasoning-in-content",
        off="--no-reasoning-in-content",
        setting="chat.reasoning_in_content",
        help="leave the reasoning in the content",
    ),
    _option(
        flags="--reasoning-budget",
        kind=Whole(minimum=-1),
        metavar="N",
        setting="chat.reasoning_budget",
        help="most tokens of reasoning; -1 = unlimited",
    ),
)
