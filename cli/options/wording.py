"""Options of completions: templates, constraints, text."""

from functools import partial
from typing import Final

from cli.kinds import FILE, Whole, text, texts
from cli.option import Option, Section

_option = partial(Option, section=Section.COMPLETION)
_later = partial(_option, available=False)

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
        refused=(False,),
        default="on",
        help="use the model's own template; --no-jinja (built-in templates only) is not available yet",
    ),
    _later(flags="--chat-template", kind=text(), metavar="NAME|JINJA", env="CHAT_TEMPLATE", help="chat template"),
    _later(flags="--chat-template-file", kind=FILE, metavar="FILE", help="chat template from a file"),
    _later(
        flags="--chat-template-kwargs",
        kind=text("a JSON object"),
        metavar="JSON",
        env="CHAT_TEMPLATE_KWARGS",
        help="more variables for the template",
    ),
    _later(flags="--grammar", kind=text("GBNF"), metavar="GBNF", help="constraint of requests that give none"),
    _later(flags="--grammar-file", kind=FILE, metavar="FILE", help="the same from a file"),
    _later(flags="-j --json-schema", kind=text("a JSON schema"), metavar="JSON", help="the same as a JSON schema"),
    _later(flags="--spm-infill", help="suffix, prefix, middle as the order of infill prompts"),
    _later(flags="--enable-reasoning", off="--no-enable-reasoning", default="on", help="let the model think"),
    _later(
        flags="--reasoning-in-content",
        off="--no-reasoning-in-content",
        default="off",
        help="leave the reasoning in the content",
    ),
    _later(
        flags="--reasoning-budget",
        kind=Whole(minimum=-1),
        metavar="N",
        default="-1",
        help="most tokens of reasoning; -1 = unlimited",
    ),
)
