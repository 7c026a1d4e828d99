"""Options about images in prompts."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import Form, Whole
from cli.option import Option, Section

_later = partial(Option, section=Section.VISUAL, available=False)

VISUAL: Final = (
    _later(
        flags="--visual-max-image-size",
        kind=Form("0, or a multiple of 14 of at least 224", forms.visual_size),
        metavar="PIXELS",
        default="0",
        help="scale larger images down to this; 0 = off",
    ),
    _later(
        flags="--max-projected-cache",
        kind=Whole(minimum=0),
        metavar="N",
        help="encoded images to keep for reuse",
    ),
)
