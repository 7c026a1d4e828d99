"""Options about drafting tokens."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import FILE, SHARE, Form, Whole
from cli.option import Option, Section

_option = partial(Option, section=Section.SPECULATIVE)

SPECULATIVE: Final = (
    _option(
        flags="--draft-max --draft --draft-n",
        kind=Whole(minimum=0),
        metavar="N",
        env="DRAFT_MAX",
        setting="engine.speculation.longest",
        help="most tokens of a draft; 0 = nothing is drafted",
    ),
    _option(
        flags="--draft-min --draft-n-min",
        kind=Whole(minimum=0),
        metavar="N",
        env="DRAFT_MIN",
        setting="engine.speculation.least",
        help="fewest tokens of a draft: where fewer are worth checking, none is checked",
    ),
    _option(
        flags="--draft-p-min",
        kind=SHARE,
        metavar="N",
        env="DRAFT_P_MIN",
        setting="engine.speculation.least_probability",
        help="a draft ends where the draft model is less sure than this",
    ),
    _option(
        flags="-md --model-draft",
        kind=FILE,
        metavar="FILE",
        env="MODEL_DRAFT",
        setting="engine.speculation.model.path",
        default="none",
        help="draft model with the same vocabulary",
    ),
    _option(
        flags="-devd --device-draft",
        kind=Form("device names by comma, or none", forms.devices),
        metavar="NAME,...",
        setting="engine.speculation.model.devices",
        default="all",
        help="devices of the draft model",
    ),
    _option(
        flags="-ngld --gpu-layers-draft --n-gpu-layers-draft",
        kind=Whole(minimum=-1),
        metavar="N",
        setting="engine.speculation.model.n_gpu_layers",
        help="layers of the draft model to place on devices, -1 = all",
    ),
    _option(
        flags="--lookup-ngram-min",
        kind=Whole(minimum=0, maximum=4),
        metavar="N",
        env="LOOKUP_NGRAM_MIN",
        setting="engine.speculation.lookup_ngram_min",
        help="draft what stood behind the last tokens before: so many of them must match; 0 = off",
    ),
    _option(
        flags="-lcs --lookup-cache-static",
        kind=FILE,
        metavar="FILE",
        setting="engine.speculation.lookup_static",
        default="none",
        help="n-grams to look up, a file of llama.cpp's lookup tools that is only read",
    ),
    _option(
        flags="-lcd --lookup-cache-dynamic",
        kind=FILE,
        metavar="FILE",
        setting="engine.speculation.lookup_dynamic",
        default="none",
        help="n-grams to look up and to collect, saved at shutdown and every few minutes; the file may be missing",
    ),
)
