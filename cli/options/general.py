"""Options about the program itself."""

from functools import partial
from typing import Final

from cli.kinds import Switch, Whole, members, on_off_auto
from cli.option import Option, Section
from llamabox.settings import LogFormat

_option = partial(Option, section=Section.GENERAL)

GENERAL: Final = (
    _option(flags="-h --help --usage", help="print this help"),
    _option(flags="--version", help="print the versions of llama-box, Python and the native packages"),
    _option(flags="--system-info", help="print what the native library makes of this processor"),
    _option(flags="--list-devices", help="print every device with its total and free memory"),
    _option(flags="--list-buffer-types", help="print the buffer types that tensors can be placed in"),
    _option(
        flags="-v --verbose --log-verbose",
        kind=Switch(on=1, off=0),
        setting="log.verbosity",
        default="off",
        help="log everything: the same as --verbosity 1",
    ),
    _option(
        flags="-lv --verbosity --log-verbosity",
        kind=Whole(minimum=0),
        metavar="N",
        env="LLAMA_LOG_VERBOSITY",
        setting="log.verbosity",
        help="how much is logged: 0 = information and worse, 1 and above = everything",
    ),
    _option(
        flags="--log-colors",
        kind=on_off_auto(True, False, None),
        metavar="[on|off|auto]",
        if_alone="on",
        setting="log.colors",
        default="auto",
        help="colored log lines; auto: when standard error is a terminal",
    ),
    _option(
        flags="--log-format",
        kind=members(LogFormat),
        metavar="text|json",
        setting="log.format",
        help="log as text, or as one JSON object per line",
    ),
)
