"""Request fields to engine parameters."""

from typing import Any

import attrs
import pytest

from engine.text.requests import DEFAULT_SAMPLERS, GenerationRequest, SamplingParams
from llamabox.settings import GenerationDefaults
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine

DEFAULTS = GenerationDefaults(
    sampling=SamplingParams(temperature=0.5, top_k=7), n_predict=50, n_keep=3, stop=("###",), special=True
)


async def built(defaults: GenerationDefaults, **fields: Any) -> GenerationRequest:
    engine = FakeEngine()
    services = make_services(engine)
    services.settings = attrs.evolve(services.settings, defaults=defaults)
    reply = await Client(services).post("/completion", {"prompt": "hi", **fields})
    assert reply.status == 200, reply.body
    return engine.opened[0]


async def test_defaults_hold_where_the_request_says_nothing() -> None:
    request = await built(DEFAULTS, temperature=None)
    assert attrs.evolve(request.sampling, seed=None) == DEFAULTS.sampling
    assert 0 <= request.sampling.seed < 2**32 - 1, "drawn, so that the reply can name it"
    assert (request.max_tokens, request.n_keep, request.stop, request.special) == (50, 3, ("###",), True)
    assert request.slot is None


async def test_every_field_reaches_the_engine() -> None:
    plain = {
        "temperature": 1.25,
        "top_k": 5,
        "top_p": 0.25,
        "min_p": 0.5,
        "top_n_sigma": 2.0,
        "typical_p": 0.75,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.25,
        "dynatemp_range": 0.5,
        "dynatemp_exponent": 2.0,
        "repeat_last_n": 32,
        "repeat_penalty": 1.5,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "dry_multiplier": 0.75,
        "dry_base": 2.0,
        "dry_allowed_length": 4,
        "dry_penalty_last_n": 16,
        "mirostat": 2,
        "mirostat_tau": 4.0,
        "mirostat_eta": 0.25,
        "ignore_eos": True,
        "min_keep": 2,
        "n_probs": 3,
        "post_sampling_probs": True,
        "seed": 42,
    }
    own = {"n_keep": -1, "n_discard": 9, "n_indent": 2, "t_max_predict_ms": 500.0, "cache_prompt": False}
    lists = {"dry_sequence_breakers": ["x"], "samplers": ["top_k", "temperature"], "stop": ["a", "", "b"]}
    request = await built(GenerationDefaults(), **plain, **own, **lists, id_slot=1)
    assert {name: getattr(request.sampling, name) for name in plain} == plain
    assert {name: getattr(request, name) for name in own} == own
    assert request.sampling.dry_sequence_breakers == ("x",)
    assert request.sampling.samplers == ("top_k", "temperature")
    assert request.stop == ("a", "b")
    assert request.slot == 1
    told = {field.name for field in attrs.fields(SamplingParams)} - plain.keys() - lists.keys()
    assert told == {"logit_bias", "logprobs"}, "a new parameter needs a field"


@pytest.mark.parametrize(
    ("default", "fields", "expected"),
    [
        (-1, {}, (None, False)),
        (-2, {}, (None, True)),
        (-2, {"n_predict": -1}, (None, False)),
        (-1, {"max_tokens": 5}, (5, False)),
        (-1, {"max_completion_tokens": 4, "max_tokens": 5, "n_predict": 6}, (4, False)),
        (-1, {"n_predict": 0}, (0, False)),
        (3, {"n_predict": 5}, (3, False)),
        (3, {"n_predict": 2}, (2, False)),
        (3, {"n_predict": -2}, (3, True)),
    ],
)
async def test_token_limit(default: int, fields: dict[str, int], expected: tuple[int | None, bool]) -> None:
    request = await built(GenerationDefaults(n_predict=default), **fields)
    assert (request.max_tokens, request.until_context_full) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("edkypmxt", DEFAULT_SAMPLERS),
        ("kt", ("top_k", "temperature")),
        ("top_k;temperature", ("top_k", "temperature")),
        ("top_k", ("top_k",)),
        (["typical_p", "temp", "top_n_sigma"], ("typ_p", "temperature", "top_n_sigma")),
        ([], ()),
    ],
)
async def test_samplers(given: object, expected: tuple[str, ...]) -> None:
    assert (await built(DEFAULTS, samplers=given)).sampling.samplers == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"5": 1.5, "ab": -2}, ((5, 1.5), (97, -2.0), (98, -2.0))),
        ([[5, 1.5], ["ab", False]], ((5, 1.5), (97, float("-inf")), (98, float("-inf")))),
        ([["5", 1]], ((ord("5"), 1.0),)),
    ],
)
async def test_logit_bias(given: object, expected: tuple[tuple[int, float], ...]) -> None:
    assert (await built(DEFAULTS, logit_bias=given)).sampling.logit_bias == expected


@pytest.mark.parametrize(("given", "seed"), [(-1, None), (2**32 - 1, None), (7, 7), (2**32 + 7, 7)])
async def test_seed(given: int, seed: int | None) -> None:
    used = (await built(DEFAULTS, seed=given)).sampling.seed
    assert used == seed if seed is not None else 0 <= used < 2**32 - 1


async def test_whole_numbers_may_be_written_with_a_fraction() -> None:
    """As languages do that know only floats; nothing else of the body changes."""
    request = await built(DEFAULTS, n_predict=5.0, top_k=40.0, temperature=1, seed=1e3, prompt=[[1.0, 2]])
    assert (request.max_tokens, request.sampling.top_k, request.sampling.seed) == (5, 40, 1000)
    assert (request.sampling.temperature, list(request.prompt)[-2:]) == (1.0, [1, 2])


@pytest.mark.parametrize("value", [1.5, 1e30, -1e300])
async def test_other_floats_are_no_whole_numbers(value: float) -> None:
    reply = await Client(make_services(FakeEngine())).post("/completion", {"prompt": "hi", "n": 1.0, "top_k": value})
    assert reply.status == 400
    assert reply.json["error"]["param"] == "top_k"
