"""Options about images in prompts."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import Form, Whole
from cli.option import Option, Section

_option = partial(Option, section=Section.VISUAL)

VISUAL: Final = (
    _option(
        flags="--visual-max-image-size",
        kind=Form("0, or a multiple of 14 of at least 224", forms.visual_size),
        metavar="PIXELS",
        setting="media.longest",
        help="scale larger images down to this; 0 = off",
    ),
    _option(
        flags="--max-projected-cache",
        kind=Whole(minimum=0),
        metavar="N",
        setting="engine.media.n_cached",
        help="encoded images and stretches of sound to keep for reuse, each of some megabytes; 0 = none",
    ),
)
