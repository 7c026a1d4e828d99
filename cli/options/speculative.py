"""Options about drafting tokens."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import FILE, SHARE, Form, Whole
from cli.option import NO_DRAFT, Option, Section

_later = partial(
    Option,
    section=Section.SPECULATIVE,
    available=False,
    refusal="speculative decoding is not part of this release",
)

SPECULATIVE: Final = (
    _later(
        flags="--draft-max --draft --draft-n",
        kind=Whole(minimum=0),
        metavar="N",
        env="DRAFT_MAX",
        default="16",
        help="most tokens of a draft",
    ),
    _later(
        flags="--draft-min --draft-n-min",
        kind=Whole(minimum=0),
        metavar="N",
        env="DRAFT_MIN",
        default="5",
        help="fewest tokens of a draft",
    ),
    _later(
        flags="--draft-p-min",
        kind=SHARE,
        metavar="N",
        env="DRAFT_P_MIN",
        default="0.9",
        help="least probability of a drafted token",
    ),
    _later(
        flags="-md --model-draft",
        kind=FILE,
        metavar="FILE",
        env="MODEL_DRAFT",
        help="draft model with the same vocabulary",
    ),
    _later(
        flags="-devd --device-draft",
        kind=Form("device names by comma, or none", forms.devices),
        metavar="NAME,...",
        help="devices of the draft model",
        refusal=NO_DRAFT,
    ),
    _later(
        flags="-ngld --gpu-layers-draft --n-gpu-layers-draft",
        kind=Whole(minimum=-1),
        metavar="N",
        help="layers of the draft model to place on devices",
        refusal=NO_DRAFT,
    ),
    _later(
        flags="--lookup-ngram-min",
        kind=Whole(minimum=0, maximum=4),
        metavar="N",
        env="LOOKUP_NGRAM_MIN",
        default="0",
        help="shortest n-gram to look up in the text so far; 0 = off",
    ),
    _later(flags="-lcs --lookup-cache-static", kind=FILE, metavar="FILE", help="n-grams to look up, only read"),
    _later(flags="-lcd --lookup-cache-dynamic", kind=FILE, metavar="FILE", help="n-grams to look up and to collect"),
)
