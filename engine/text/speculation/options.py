"""How drafts are to be made."""

import attrs

from engine.native.options import ModelOptions


@attrs.frozen(kw_only=True)
class SpeculationOptions:
    """Nothing is drafted without a draft model and with ``lookup_ngram_min`` 0. Paths "": none."""

    longest: int = 16  # --draft-max: tokens of a draft, 0: nothing is drafted
    least: int = 5  # --draft-min: shorter drafts are not worth their trouble
    least_probability: float = 0.9  # --draft-p-min: where the draft model is less sure than this, its draft ends
    model: ModelOptions = attrs.field(factory=lambda: ModelOptions(path=""))
    lookup_ngram_min: int = 0  # tokens that must match, 0: no lookup
    lookup_static: str = ""  # n-grams, only read
    lookup_dynamic: str = ""  # n-grams, read, collected and saved

    @property
    def enabled(self) -> bool:
        """Whether anything is drafted."""
        return self.longest > 0 and (bool(self.model.path) or self.lookup_ngram_min > 0)
