"""Grammars that cannot be compiled: another instead, or an error that names the field."""

import pytest

from api.errors import ApiError
from api.guidance import Guidance, compile_grammar
from engine.text.requests import GrammarSpec
from tests.api.conftest import make_services
from tests.api.fake_engine import FakeEngine, FakeGrammar

TOO_MUCH, LESS = "unsatisfiable", "less"


async def compiled(spec: GrammarSpec) -> FakeGrammar:
    found = await compile_grammar(make_services(), FakeEngine(), Guidance(grammar=spec, param="tools"))
    assert isinstance(found, FakeGrammar)
    return found


async def test_what_is_to_be_used_instead_is_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    spec = GrammarSpec(source=TOO_MUCH, instead=lambda: GrammarSpec(source=LESS))
    assert (await compiled(spec)).spec.source == LESS
    assert "in outline only: nothing satisfies it" in caplog.text


async def test_what_compiles_is_not_replaced() -> None:
    def never() -> GrammarSpec:
        raise AssertionError("nobody needs another")

    assert (await compiled(GrammarSpec(source="good", instead=never))).spec.source == "good"


@pytest.mark.parametrize("spec", [GrammarSpec(source=TOO_MUCH), GrammarSpec(source=TOO_MUCH, instead=lambda: SAME)])
async def test_where_there_is_nothing_to_use_the_field_is_named(spec: GrammarSpec) -> None:
    with pytest.raises(ApiError, match="tools: nothing satisfies it"):
        await compiled(spec)


SAME = GrammarSpec(source=TOO_MUCH)
