"""Options of completions: the context, its cache, positions."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import FILE, SHARE, Form, Pair, Real, Whole, choice, members
from cli.option import Option, Section
from engine.native.options import CacheType

_option = partial(Option, section=Section.COMPLETION)

_CONTEXT = (
    _option(
        flags="-c --ctx-size",
        kind=Whole(minimum=0),
        metavar="N",
        env="CTX_SIZE",
        setting="engine.context.n_ctx",
        help="tokens of context, shared by the slots; 0 = what the model was trained with",
    ),
    _option(
        flags="--context-shift",
        off="--no-context-shift",
        setting="engine.context_shift",
        help="drop old tokens when a generation fills its context; off: it ends there",
    ),
    _option(
        flags="-n --predict --n-predict",
        kind=Whole(minimum=-2),
        metavar="N",
        env="N_PREDICT",
        setting="defaults.n_predict",
        help="most tokens to generate, a cap for requests too; -1 = unlimited, -2 = until the context is full",
    ),
    _option(
        flags="-b --batch-size",
        kind=Whole(minimum=1),
        metavar="N",
        env="BATCH",
        setting="engine.context.n_batch",
        help="tokens of one step",
    ),
    _option(
        flags="-ub --ubatch-size",
        kind=Whole(minimum=1),
        metavar="N",
        env="UBATCH",
        setting="engine.context.n_ubatch",
        help="tokens that are computed at once, at most --batch-size",
    ),
    _option(
        flags="--keep",
        kind=Whole(minimum=-1),
        metavar="N",
        setting="defaults.n_keep",
        help="prompt tokens that a context shift keeps; -1 = the whole prompt",
    ),
    _option(
        flags="-np --parallel",
        # The library knows 256 sequences.
        kind=Whole(minimum=1, maximum=256),
        metavar="N",
        env="N_PARALLEL",
        setting="engine.n_parallel",
        help="slots: requests that run at the same time",
    ),
    _option(
        off="-nocb --no-cont-batching",
        env="CONT_BATCHING",
        setting="engine.continuous_batching",
        default="continuous batching on",
        help="a new prompt waits until the running ones end",
    ),
    _option(
        off="--no-cache-prompt",
        env="CACHE_PROMPT",
        setting="defaults.cache_prompt",
        default="cached",
        help="do not reuse the prompts of earlier requests",
    ),
    _option(
        flags="-ctk --cache-type-k",
        kind=members(CacheType),
        metavar="TYPE",
        setting="engine.context.cache_type_k",
        help="type of the cached keys: f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1",
    ),
    _option(
        flags="-ctv --cache-type-v",
        kind=members(CacheType),
        metavar="TYPE",
        setting="engine.context.cache_type_v",
        help="type of the cached values; the same choice",
    ),
    _option(
        flags="-dt --defrag-thold",
        kind=Real(),
        metavar="N",
        env="DEFRAG_THOLD",
        default="0.1",
        help="accepted for compatibility, no effect: the engine defragments by itself",
    ),
    _option(
        flags="-tps --tokens-per-second",
        kind=Real(minimum=0, also=(-1,)),
        metavar="N",
        setting="server.tokens_per_second",
        help="most tokens per second that a request may reserve for itself; 0 = the header is ignored, "
        "-1 = what this machine reaches, measured at start",
    ),
    _option(
        flags="--cache-reuse",
        kind=Whole(minimum=0),
        metavar="N",
        env="CACHE_REUSE",
        setting="engine.cache_reuse",
        help="reuse runs of at least N tokens of an older prompt behind the common beginning, moved to where they are "
        "now: faster, and not quite what computing them gives; 0 = off",
    ),
    _option(
        flags="--cache-ram",
        kind=Whole(minimum=0),
        metavar="MIB",
        env="CACHE_RAM",
        setting="engine.cache_ram",
        help="main memory for prompts that left the KV cache, filled as they leave it; 0 = none",
    ),
    _option(
        flags="--slot-save-path",
        kind=Form("a directory", FILE.parse),
        metavar="DIR",
        setting="server.slot_save_path",
        default="off",
        help="directory of slot files; with --slots: serve POST /slots/ID?action=save|restore|erase",
    ),
    _option(
        flags="-sps --slot-prompt-similarity",
        kind=SHARE,
        metavar="N",
        setting="engine.slot_similarity",
        help="share of a slot's last prompt that a new one must begin with for that slot to be preferred; 0 = off. "
        "Cached prompts are shared by all slots: this chooses the slot's number and nothing else",
    ),
    _option(
        flags="--mmproj",
        kind=FILE,
        metavar="FILE",
        env="MMPROJ",
        setting="engine.media.path",
        default="none",
        help="projector for images and audio",
    ),
    _option(
        flags="--control-vector",
        kind=forms.ADAPTER,
        metavar="FILE",
        setting="engine.adapters.control_vectors",
        repeat=True,
        default="none",
        help="apply a control vector; repeatable, they are added up",
    ),
    _option(
        flags="--control-vector-scaled",
        kind=forms.SCALED_ADAPTER,
        metavar="FILE SCALE",
        setting="engine.adapters.control_vectors",
        repeat=True,
        default="none",
        help="apply a control vector with this scale; repeatable",
    ),
    _option(
        flags="--control-vector-layer-range",
        kind=Pair(Whole(minimum=1), Whole(minimum=1)),
        metavar="FIRST LAST",
        setting="engine.adapters.control_layers",
        default="all",
        help="layers that control vectors change, both included",
    ),
)

_ROPE = (
    _option(
        flags="--rope-scaling",
        kind=choice("none", "linear", "yarn"),
        metavar="none|linear|yarn",
        setting="engine.context.rope_scaling",
        default="the model's",
        help="how positions beyond the training context are scaled",
    ),
    _option(
        flags="--rope-scale",
        kind=Form("a number above 0", forms.rope_scale),
        metavar="N",
        setting="engine.context.rope_freq_scale",
        default="the model's",
        help="factor by which the context grows: the same as --rope-freq-scale 1/N",
    ),
    _option(
        flags="--rope-freq-base",
        kind=Real(above=0),
        metavar="N",
        setting="engine.context.rope_freq_base",
        default="the model's",
        help="base frequency",
    ),
    _option(
        flags="--rope-freq-scale",
        kind=Real(above=0),
        metavar="N",
        setting="engine.context.rope_freq_scale",
        default="the model's",
        help="frequency factor",
    ),
    _option(
        flags="--yarn-orig-ctx",
        kind=Whole(minimum=0),
        metavar="N",
        setting="engine.context.yarn_orig_ctx",
        help="the training context; 0 = the model's",
    ),
    _option(
        flags="--yarn-ext-factor",
        kind=Real(minimum=0, also=(-1,)),
        metavar="N",
        setting="engine.context.yarn_ext_factor",
        help="mix of extrapolation, 0 = interpolation alone; -1 = the model's",
    ),
    _option(
        flags="--yarn-attn-factor",
        kind=Real(minimum=0, also=(-1,)),
        metavar="N",
        setting="engine.context.yarn_attn_factor",
        help="factor of the attention's magnitude",
    ),
    _option(
        flags="--yarn-beta-fast",
        kind=Real(minimum=0, also=(-1,)),
        metavar="N",
        setting="engine.context.yarn_beta_fast",
        help="low correction dimension",
    ),
    _option(
        flags="--yarn-beta-slow",
        kind=Real(minimum=0, also=(-1,)),
        metavar="N",
        setting="engine.context.yarn_beta_slow",
        help="high correction dimension",
    ),
)

CONTEXT: Final = (*_CONTEXT, *_ROPE)
