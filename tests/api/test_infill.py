"""Prompts with a hole: their layout, what is cut, and the routes that take them."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.info import FimTokens
from llamabox.infill import InfillParts, infill_prompt
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import BOS, EOS, ByteVocab, FakeEngine, make_info, say

# Beyond the bytes, and no control tokens of the fake vocabulary: easy to tell from text.
N_VOCAB = 270
PRE, SUF, MID, REP, SEP = range(260, 265)
PLAIN = FimTokens(prefix=PRE, suffix=SUF, middle=MID)
FULL = FimTokens(prefix=PRE, suffix=SUF, middle=MID, repository=REP, separator=SEP)


class HoleVocab(ByteVocab):
    """Writes the tokens around holes as <260> and so on."""

    n_vocab = N_VOCAB

    def piece(self, token: int, *, special: bool) -> bytes:
        return b"<%d>" % token * special if token in range(PRE, SEP + 1) else super().piece(token, special=special)


def infill_info(fim: FimTokens = FULL, **changes: object):
    return make_info(fim=fim, **{"n_vocab": N_VOCAB, "n_ctx_slot": 512, "n_batch": 256, **changes})


def layout(*, suffix_first: bool = False, max_tokens: int | None = 8, info=None, **parts: str) -> list[int]:
    given_parts = InfillParts(**{"prefix": b"", "suffix": b"", **{k: v.encode() for k, v in parts.items()}})
    return infill_prompt(given_parts, info or infill_info(), suffix_first=suffix_first, max_tokens=max_tokens)


def test_prefix_first():
    tokens = layout(prefix="ab", prompt="c", suffix="yz", files="F")
    assert tokens == [BOS, *b"F", PRE, *b"abc", SUF, *b"yz", MID]


def test_suffix_first():
    tokens = layout(prefix="ab", prompt="c", suffix="yz", files="F", suffix_first=True)
    assert tokens == [BOS, *b"F", SUF, *b"yz", PRE, *b"abc", MID]


def test_no_bos_where_the_model_wants_none():
    assert layout(info=infill_info(add_bos=False)) == [PRE, SUF, MID]
    assert layout(info=infill_info(bos=None)) == [PRE, SUF, MID]


def test_the_hole_takes_one_batch():
    tokens = layout(prefix="p" * 300 + "!", suffix="?" + "s" * 300, info=infill_info(n_batch=40))
    assert tokens == [BOS, PRE, *b"p" * 29, *b"!", SUF, *b"?", *b"s" * 6, MID]
    assert len(tokens) == 41


def test_the_prompt_takes_the_suffixs_room():
    tokens = layout(prefix="p" * 300, prompt="12345", suffix="s" * 300, info=infill_info(n_batch=40))
    assert tokens == [BOS, PRE, *b"p" * 30, *b"12345", SUF, *b"s" * 2, MID]
    tokens = layout(prefix="p" * 300, prompt="1" * 60, suffix="s" * 300, info=infill_info(n_batch=40))
    assert tokens == [BOS, PRE, *b"p" * 30, *b"1" * 60, SUF, MID]


def test_files_get_what_remains_and_lose_their_beginning():
    info = infill_info(n_batch=40, n_ctx_slot=100)
    tokens = layout(prefix="p" * 300, suffix="s" * 300, files="0" * 100 + "1" * 40, info=info, max_tokens=9)
    assert tokens[:51] == [BOS, *b"0" * 10, *b"1" * 40]
    assert len(tokens) == 100 - 9


@given(
    *[st.integers(0, 600)] * 4,
    st.integers(8, 300),
    st.integers(16, 600),
    st.none() | st.integers(0, 700),
    st.booleans(),
)
def test_it_always_fits(prefix, suffix, prompt, files, n_batch, n_ctx, max_tokens, suffix_first):
    info = infill_info(n_batch=n_batch, n_ctx_slot=n_ctx)
    parts = InfillParts(prefix=[1] * prefix, suffix=[2] * suffix, prompt=[3] * prompt, files=[4] * files)
    tokens = infill_prompt(parts, info, suffix_first=suffix_first, max_tokens=max_tokens)
    reserve = min(1024, n_ctx // 4) if max_tokens is None else min(max_tokens, n_ctx // 2)
    assert tokens.count(3) == prompt
    assert [tokens.count(token) for token in (PRE, SUF, MID)] == [1, 1, 1]
    # All but the prompt, and its three tokens where the batch is tiny.
    assert len(tokens) - prompt <= max(n_ctx - max(reserve, 1), 4)
    if prompt <= min(n_batch, n_ctx - max(reserve, 1) - 1) // 4 - 3:
        assert len(tokens) < n_ctx


def test_a_vocabulary_without_the_tokens():
    with pytest.raises(ValueError, match="no token for suffix, middle"):
        layout(info=infill_info(FimTokens(prefix=PRE)))


def client_of(fim: FimTokens = FULL, *, spm_infill: bool = False, **info: object) -> Client:
    services = make_services(
        FakeEngine(script=say("mid"), info=infill_info(fim, **info), vocab=HoleVocab()), infill=True
    )
    defaults = attrs.evolve(services.settings.defaults, spm_infill=spm_infill)
    services.settings = attrs.evolve(services.settings, defaults=defaults)
    return Client(services)


def prompt_of(client: Client) -> list[int]:
    (request,) = client.services.text.opened
    return list(request.prompt)


BODY = {"input_prefix": "a", "input_suffix": "z", "n_predict": 8}


async def test_a_repository_is_laid_out():
    client = client_of()
    extra = [{"filename": "x.py", "text": "X"}, {"text": "Y"}]
    reply = await client.post("/infill", {**BODY, "prompt": "b", "input_extra": extra})
    assert reply.json["content"] == "mid"
    assert reply.json["stop_type"] == "eos"
    assert prompt_of(client) == [
        BOS, REP, *b"myproject\n", SEP, *b"x.py\nX", SEP, *b"tmp\nY", SEP, *b"filename\n",
        PRE, *b"ab", SUF, *b"z", MID,
    ]  # fmt: skip


async def test_without_file_tokens_files_are_snippets():
    client = client_of(PLAIN, spm_infill=True)
    await client.post("/infill", {**BODY, "input_extra": [{"filename": "x", "text": "X"}]})
    assert prompt_of(client) == [BOS, *b"\n\n--- snippet ---\n\nX", SUF, *b"z", PRE, *b"a", MID]


async def test_parts_may_be_tokens():
    client = client_of(PLAIN)
    await client.post("/infill", {**BODY, "input_prefix": ["a", 98], "input_suffix": [121, "z"]})
    assert prompt_of(client) == [BOS, PRE, *b"ab", SUF, *b"yz", MID]


async def test_it_streams_natively():
    reply = await client_of().post("/infill", {**BODY, "stream": True, "n_indent": 4})
    first, last = reply.events
    assert (first["content"], first["stop"]) == ("mid", False)
    assert (last["stop"], last["generation_settings"]["n_predict"]) == (True, 8)


async def test_several_choices_are_a_list():
    client = client_of()
    assert len((await client.post("/infill", {**BODY, "n": 2})).json) == 2
    assert client.services.text.opened[0].n_indent == 0


async def test_generation_fields_are_the_usual_ones():
    client = client_of()
    await client.post("/infill", {**BODY, "n_indent": 4, "temperature": 0, "stop": ["x"]})
    (request,) = client.services.text.opened
    assert (request.n_indent, request.sampling.temperature, request.stop) == (4, 0, ("x",))


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_prefix": None}, "input_prefix"),
        ({"input_prefix": {"prompt_string": "<__media__>", "multimodal_data": [""]}}, "input_prefix"),
        ({"input_suffix": 5}, "input_suffix"),
        ({"input_prefix": [300]}, "input_prefix"),
        ({"input_suffix": ["a", None]}, "input_suffix"),
        ({"input_extra": "x"}, "input_extra"),
        ({"input_extra": [{}]}, "input_extra[0].text"),
        ({"input_extra": [{"text": "a", "filename": 1}]}, "input_extra[...].filename"),
        ({"prompt": ["a"]}, "prompt"),
        ({"temperature": -1}, "temperature"),
        ({"grammar": "wrong"}, "grammar"),
    ],
)
async def test_bad_fields_are_named(changes: dict[str, object], param: str):
    error = (await client_of().post("/infill", {**BODY, **changes})).error
    assert (error["code"], error["param"].replace("[0]", "[...]")) == (400, param.replace("[0]", "[...]"))


@pytest.mark.parametrize("missing", ["input_prefix", "input_suffix"])
async def test_both_sides_are_required(missing: str):
    body = {name: value for name, value in BODY.items() if name != missing}
    assert (await client_of().post("/infill", body)).error["param"] == missing


async def test_the_flag_is_named(client: Client):
    error = (await client.post("/infill", BODY)).error
    assert error["code"] == 501
    assert "--infill" in error["message"]


async def test_a_model_without_the_tokens_says_so():
    error = (await client_of(FimTokens(suffix=SUF)).post("/infill", BODY)).error
    assert error["code"] == 501
    assert error["message"] == "The model cannot infill: its vocabulary has no prefix and middle token"


async def test_suffix_of_completions():
    client = client_of(FULL)
    reply = await client.post("/v1/completions", {"prompt": "a", "suffix": "z", "echo": True})
    assert reply.json["choices"][0]["text"] == "amid"
    assert prompt_of(client) == [BOS, PRE, *b"a", SUF, *b"z", MID]


async def test_suffix_of_several_prompts():
    client = client_of(PLAIN, spm_infill=True)
    reply = await client.post("/v1/completions", {"prompt": ["a", [98, 99]], "suffix": "z", "n": 2})
    assert [choice["text"] for choice in reply.json["choices"]] == ["mid"] * 4
    prompts = [list(request.prompt) for request in client.services.text.opened]
    assert prompts[::2] == [[BOS, SUF, *b"z", PRE, *text, MID] for text in (b"a", b"bc")]


async def test_suffix_needs_the_tokens(client: Client):
    error = (await client.post("/v1/completions", {"prompt": "a", "suffix": "z"})).error
    assert (error["code"], error["param"]) == (501, "suffix")
    error = (await client_of().post("/v1/completions", {"prompt": ["a"] * 1025, "suffix": "z"})).error
    assert (error["code"], error["param"]) == (400, "prompt")
    assert (await client.post("/v1/completions", {"prompt": "a", "suffix": ""})).status == 200


async def test_control_tokens_in_the_text_stay_text(monkeypatch):
    client = client_of(PLAIN)
    asked = []
    real = client.services.prompts.tokenize

    async def tokenize(text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        asked.append((text, add_special, parse_special))
        return await real(text, add_special=add_special, parse_special=parse_special)

    monkeypatch.setattr(client.services.prompts, "tokenize", tokenize)
    await client.post("/infill", {**BODY, "prompt": "</s>", "input_extra": [{"text": "</s>", "filename": "</s>"}]})
    assert {(special, parsed) for _, special, parsed in asked} == {(False, False)}
    assert EOS not in prompt_of(client)
