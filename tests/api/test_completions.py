"""POST /v1/completions and the native POST /completion against a scripted engine."""

from collections.abc import Sequence

import attrs
import pytest

from engine.text.events import FinishReason, PrefillProgress
from engine.text.requests import GenerationRequest, TokenInfo
from tests.api.conftest import Client
from tests.api.fake_engine import BOS, FakeEngine, Script, Step, say

LEGACY = "/v1/completions"
NATIVE = "/completion"


async def test_legacy_whole(client: Client, engine: FakeEngine) -> None:
    reply = await client.post(LEGACY, {"prompt": "hi"})
    body = reply.json
    assert body["id"].startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "Hello world", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"]["prompt_tokens"] == 3
    assert list(engine.opened[0].prompt) == [BOS, *b"hi"]


async def test_legacy_stream_begins_with_text(client: Client) -> None:
    *chunks, done = (await client.post(LEGACY, {"prompt": "hi", "stream": True})).events
    assert done == "[DONE]"
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Hello", " world", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("hi", [[BOS, *b"hi"]]),
        ([1, 2], [[1, 2]]),
        ([1, "hi", 2], [[1, *b"hi", 2]]),
        (["hi", "ho"], [[BOS, *b"hi"], [BOS, *b"ho"]]),
        (["hi", [1, 2], ["a", 3]], [[BOS, *b"hi"], [1, 2], [BOS, *b"a", 3]]),
    ],
)
async def test_prompt_forms(client: Client, engine: FakeEngine, prompt: object, expected: list[list[int]]) -> None:
    reply = await client.post(LEGACY, {"prompt": prompt})
    assert reply.status == 200
    assert [list(request.prompt) for request in engine.opened] == expected
    assert [choice["index"] for choice in reply.json["choices"]] == list(range(len(expected)))


async def test_choices_of_several_prompts_come_in_order(client: Client, engine: FakeEngine) -> None:
    engine.script = lambda request: say(bytes(list(request.prompt)[1:]).decode() + str(request.sampling.seed))(request)
    reply = await client.post(LEGACY, {"prompt": ["a", "b"], "n": 2, "seed": 7})
    assert [choice["text"] for choice in reply.json["choices"]] == ["a7", "a8", "b7", "b8"]


@pytest.mark.parametrize(("prompt", "echo"), [("hi", "hi"), ([104, 105, BOS], "hi<s>")])
async def test_echo(client: Client, prompt: object, echo: str) -> None:
    body = {"prompt": prompt, "echo": True}
    assert (await client.post(LEGACY, body)).json["choices"][0]["text"] == echo + "Hello world"
    *chunks, _ = (await client.post(LEGACY, {**body, "stream": True})).events
    assert [chunk["choices"][0]["text"] for chunk in chunks] == [echo, "Hello", " world", ""]


@pytest.mark.parametrize(
    ("prompt", "text", "tokens", "offsets"),
    [
        ("hé", "hé", ["<s>", "h", "\ufffd", "\ufffd"], [0, 0, 1, 1]),
        ([104, BOS, 32, 105], "h<s> i", ["h", "<s>", " ", "i"], [0, 1, 4, 5]),
    ],
)
async def test_echo_with_logprobs(
    client: Client, engine: FakeEngine, prompt: object, text: str, tokens: list[str], offsets: list[int]
) -> None:
    engine.script = say("a", "b")
    body = {"prompt": prompt, "echo": True, "logprobs": 0, "n": 2}
    choices = (await client.post(LEGACY, body)).json["choices"]
    known = [{token: -0.5} for token in (*tokens[1:], "a", "b")]
    for choice in choices:
        assert choice["text"] == text + "ab"
        assert choice["logprobs"] == {
            "tokens": [*tokens, "a", "b"],
            "token_logprobs": [None, *[-0.5] * len(known)],
            "top_logprobs": [None, *known],
            "text_offset": [*offsets, len(text), len(text) + 1],
        }
    assert all(request.score_prompt for request in engine.opened)
    *chunks, _ = (await client.post(LEGACY, {**body, "stream": True})).events
    for choice in choices:
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == choice["index"]]
        assert [part["text"] for part in mine] == [text, "a", "b", ""]
        told = [part["logprobs"] for part in mine if part["logprobs"]]
        assert {name: [value for part in told for value in part[name]] for name in told[0]} == choice["logprobs"]


async def test_echo_comes_behind_what_is_said_of_the_prompt(client: Client, engine: FakeEngine) -> None:
    progress = PrefillProgress(total=3, cache=0, processed=3, time_ms=1.0)
    words = say("a")
    engine.script = lambda request: [progress, *words(request)]
    body = {"prompt": "hi", "echo": True, "logprobs": 1, "stream": True, "return_progress": True}
    *chunks, _ = (await client.post(LEGACY, body)).events
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["", "hi", "a", ""]
    assert chunks[1]["choices"][0]["logprobs"]["tokens"] == ["<s>", "h", "i"]


async def test_no_prompt_is_scored_that_nobody_asked_for(client: Client, engine: FakeEngine) -> None:
    for fields in ({"echo": True}, {"logprobs": 1}, {"echo": True, "best_of": 2}, {"echo": False, "logprobs": 1}):
        assert (await client.post(LEGACY, {"prompt": "hi", **fields})).status == 200
    assert not any(request.score_prompt for request in engine.opened)


async def test_legacy_logprobs(client: Client, engine: FakeEngine) -> None:
    engine.script = say("aé")
    expected = {
        "tokens": ["a", "\ufffd", "\ufffd"],
        "token_logprobs": [-0.5] * 3,
        "top_logprobs": [{"A": -0.5, "a": -0.5}, *[{"A": -0.5, "\ufffd": -0.5}] * 2],
        "text_offset": [0, 1, 1],
    }
    reply = await client.post(LEGACY, {"prompt": "hi", "logprobs": 1})
    assert reply.json["choices"][0]["logprobs"] == expected
    engine.script = say("a", "é")
    *chunks, _ = (await client.post(LEGACY, {"prompt": "hi", "logprobs": 1, "stream": True})).events
    parts = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    assert [offset for part in parts for offset in part["text_offset"]] == [0, 1, 1]


async def test_logprobs_zero_tells_the_chosen_token_alone(client: Client, engine: FakeEngine) -> None:
    reply = await client.post(LEGACY, {"prompt": "hi", "logprobs": 0})
    assert reply.json["choices"][0]["logprobs"]["top_logprobs"][0] == {"H": -0.5}
    assert engine.opened[0].sampling.logprobs


async def test_native_whole(client: Client, engine: FakeEngine) -> None:
    engine.script = say("one\n", "two", reason=FinishReason.WORD, stopping_word="END", cache_n=1, truncated=True)
    body = (await client.post(NATIVE, {"prompt": "hi", "temperature": 0, "stop": "END", "n_predict": 9})).json
    settings, timings = body.pop("generation_settings"), body.pop("timings")
    assert body == {
        "index": 0,
        "content": "one\ntwo",
        "tokens": [],
        "id_slot": 1,
        "stop": True,
        "model": "tiny.gguf",
        "tokens_predicted": 7,
        "tokens_evaluated": 3,
        "tokens_cached": 1,
        "prompt": "hi",
        "has_new_line": True,
        "truncated": True,
        "stop_type": "word",
        "stopping_word": "END",
    }
    assert (settings["temperature"], settings["stop"], settings["n_predict"]) == (0, ["END"], 9)
    assert timings == {
        "cache_n": 1,
        "prompt_n": 2,
        "prompt_ms": 20.0,
        "prompt_per_token_ms": 10.0,
        "prompt_per_second": 100.0,
        "predicted_n": 7,
        "predicted_ms": 60.0,
        "predicted_per_token_ms": 60.0 / 7,
        "predicted_per_second": 7 / 60.0 * 1e3,
    }


async def test_native_stream_ends_with_the_final_object(client: Client, engine: FakeEngine) -> None:
    engine.script = say("a\n", "b", held_back="c")
    *parts, last = (await client.post("/completions", {"prompt": "hi", "stream": True})).events
    assert [part["content"] for part in parts] == ["a\n", "b", "c"]
    assert parts[0] == {
        "index": 0,
        "content": "a\n",
        "tokens": [97, 10],
        "stop": False,
        "id_slot": 1,
        "tokens_predicted": 2,
        "tokens_evaluated": 3,
    }
    assert (last["stop"], last["content"], last["has_new_line"]) == (True, "", True)


async def test_native_several_choices_are_a_list(client: Client) -> None:
    body = (await client.post(NATIVE, {"prompt": ["a", "b"], "n_cmpl": 2, "return_tokens": True})).json
    assert [result["index"] for result in body] == [0, 1, 2, 3]
    assert [result["prompt"] for result in body] == ["a", "a", "b", "b"]
    assert body[0]["tokens"] == list(b"Hello world")


def worth(*logprobs: float) -> Script:
    """Scripts of one letter each, in the order of the choices: a, b, …, of these log probabilities."""

    def script(request: GenerationRequest) -> Sequence[Step]:
        choice = int(request.id.rsplit("-", 1)[1])
        (tokens, end) = say(chr(97 + choice))(request)
        info = TokenInfo(token=97, piece=b"a", logprob=logprobs[choice])
        return [attrs.evolve(tokens, infos=(info,) if request.sampling.logprobs else ()), end]

    return script


async def test_best_of_tells_the_best(client: Client, engine: FakeEngine) -> None:
    engine.script = worth(-3.0, -1.0, -2.0, -1.0, -5.0, -0.5)
    body = {"prompt": ["x", "y"], "n": 2, "best_of": 3, "echo": True}
    reply = (await client.post(LEGACY, body)).json
    assert [choice["text"] for choice in reply["choices"]] == ["xb", "xc", "yf", "yd"]
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
    assert [choice["logprobs"] for choice in reply["choices"]] == [None] * 4
    assert reply["usage"]["completion_tokens"] == 6
    engine.script = worth(-3.0, -1.0, -2.0)
    reply = (await client.post(LEGACY, {"prompt": "x", "best_of": 3, "logprobs": 0})).json
    (choice,) = reply["choices"]
    assert (choice["text"], choice["logprobs"]["token_logprobs"]) == ("b", [-1.0])


async def test_best_of_n_is_n(client: Client, engine: FakeEngine) -> None:
    engine.script = worth(-3.0, -1.0)
    for stream in (False, True):
        reply = await client.post(LEGACY, {"prompt": "x", "n": 2, "best_of": 2, "stream": stream})
        assert reply.status == 200
    assert not engine.opened[0].sampling.logprobs
    reply = await client.post(LEGACY, {"prompt": "x", "n": 1, "best_of": 2, "stream": True})
    assert (reply.status, reply.error["param"]) == (400, "best_of")


@pytest.mark.parametrize(
    ("path", "fields"), [(NATIVE, {"n": 2}), (NATIVE, {"n_cmpl": 2}), (LEGACY, {"n": 2, "user": "u"})]
)
async def test_several_names_for_the_number_of_choices(client: Client, path: str, fields: dict[str, object]) -> None:
    body = (await client.post(path, {"prompt": "a", **fields})).json
    assert len(body if path == NATIVE else body["choices"]) == 2


async def test_native_probabilities(client: Client, engine: FakeEngine) -> None:
    engine.script = say("H")
    body = (await client.post(NATIVE, {"prompt": "hi", "n_probs": 1})).json
    top = {"id": 65, "token": "A", "bytes": [65], "logprob": -0.5}
    expected = {"id": 72, "token": "H", "bytes": [72], "logprob": -0.5, "top_logprobs": [top]}
    assert body["completion_probabilities"] == [expected]
    part, last = (await client.post(NATIVE, {"prompt": "hi", "n_probs": 1, "stream": True})).events
    assert part["completion_probabilities"] == [expected]
    assert "completion_probabilities" not in last
    body = (await client.post(NATIVE, {"prompt": "hi", "n_probs": 1, "post_sampling_probs": True})).json
    (entry,) = body["completion_probabilities"]
    assert 0.6 < entry["prob"] < 0.61
    assert entry["top_probs"][0].keys() == {"id", "token", "bytes", "prob"}


async def test_native_progress_timings_and_fields(client: Client, engine: FakeEngine) -> None:
    progress = PrefillProgress(total=10, cache=2, processed=6, time_ms=1.5)
    engine.script = lambda request: [progress, *say("x")(request)]
    body = {
        "prompt": "hi",
        "stream": True,
        "return_progress": True,
        "timings_per_token": True,
        "response_fields": ["content", "generation_settings/n_predict", "nothing/here"],
    }
    first, part, last = (await client.post(NATIVE, body)).events
    assert first["prompt_progress"] == {"total": 10, "cache": 2, "processed": 6, "time_ms": 1.5}
    assert part["timings"]["predicted_n"] == 1
    assert last == {"content": "", "n_predict": -1}
