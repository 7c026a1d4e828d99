"""Options of completions: how tokens are drawn."""

from functools import partial
from typing import Final

from cli import forms
from cli.kinds import NOT_NEGATIVE, SHARE, Form, Kind, Real, Whole, texts
from cli.option import Option, Section
from engine.text.requests import DEFAULT_SAMPLERS, KNOWN_SAMPLERS, SAMPLER_LETTERS

_option = partial(Option, section=Section.COMPLETION)


def _value(flags: str, kind: Kind, field: str, help: str, default: str = "") -> Option:  # noqa: A002  (the table's word)
    return _option(
        flags=flags, kind=kind, metavar="N", setting=f"defaults.sampling.{field}", help=help, default=default
    )


_LAST_N = Whole(minimum=-1)

SAMPLING: Final = (
    _option(
        flags="--samplers",
        kind=Form(f"names by semicolon of {', '.join(KNOWN_SAMPLERS)}", forms.samplers),
        metavar="NAME;...",
        setting="defaults.sampling.samplers",
        default=";".join(DEFAULT_SAMPLERS),
        help="the samplers, in order",
    ),
    _option(
        flags="--sampling-seq",
        kind=Form(
            "letters of " + ", ".join(f"{letter} {name}" for letter, name in SAMPLER_LETTERS.items()),
            forms.sampler_letters,
        ),
        metavar="LETTERS",
        setting="defaults.sampling.samplers",
        default="edkypmxt",
        help="the same as letters",
    ),
    _value("--temp", NOT_NEGATIVE, "temperature", "temperature; 0 = always the most probable token"),
    _value("--top-k", Whole(minimum=0), "top_k", "keep the K most probable tokens; 0 = off"),
    _value("--top-p", SHARE, "top_p", "keep the most probable tokens that reach this sum; 1 = off"),
    _value("--min-p", SHARE, "min_p", "drop tokens below this share of the best one's probability; 0 = off"),
    _value("--top-nsigma", Real(), "top_n_sigma", "keep logits within N deviations of the best; 0 and below = off"),
    _value("--typical", SHARE, "typical_p", "locally typical sampling; 1 = off"),
    _value("--xtc-probability", SHARE, "xtc_probability", "chance to drop the most probable tokens; 0 = off"),
    _value("--xtc-threshold", SHARE, "xtc_threshold", "probability above which they are dropped"),
    _value("--repeat-last-n", _LAST_N, "repeat_last_n", "tokens that penalties look back on; 0 = off, -1 = all"),
    _value("--repeat-penalty", Real(above=0), "repeat_penalty", "penalty of repeated tokens; 1 = off"),
    _value("--presence-penalty", Real(), "presence_penalty", "penalty of tokens that occurred; 0 = off"),
    _value("--frequency-penalty", Real(), "frequency_penalty", "penalty for each occurrence; 0 = off"),
    _value("--dry-multiplier", NOT_NEGATIVE, "dry_multiplier", "strength of the DRY penalty; 0 = off"),
    _value("--dry-base", Real(minimum=1), "dry_base", "base of its growth"),
    _value("--dry-allowed-length", Whole(minimum=0), "dry_allowed_length", "length of repetitions without penalty"),
    _value("--dry-penalty-last-n", _LAST_N, "dry_penalty_last_n", "tokens that it looks back on; 0 = off, -1 = all"),
    _option(
        flags="--dry-sequence-breaker",
        kind=texts(),
        metavar="TEXT",
        setting="defaults.sampling.dry_sequence_breakers",
        repeat=True,
        default=r'\n : " *',
        help="text that ends a repetition; the first use clears the defaults, none = no breakers; repeatable",
    ),
    _value("--dynatemp-range", NOT_NEGATIVE, "dynatemp_range", "range of the dynamic temperature; 0 = off"),
    _value("--dynatemp-exp", NOT_NEGATIVE, "dynatemp_exponent", "its exponent"),
    _value("--mirostat", Whole(minimum=0, maximum=2), "mirostat", "version of Mirostat; 0 = off"),
    _value("--mirostat-lr", NOT_NEGATIVE, "mirostat_eta", "its learning rate"),
    _value("--mirostat-ent", NOT_NEGATIVE, "mirostat_tau", "its target entropy"),
    _option(
        flags="-l --logit-bias",
        kind=Form("ID+BIAS or ID-BIAS with a token id and a number", forms.logit_bias),
        metavar="ID(+/-)BIAS",
        setting="defaults.sampling.logit_bias",
        repeat=True,
        default="none",
        help="raise or lower a token's logit, ID-inf forbids it; repeatable",
    ),
)
