"""POST /v1/chat/completions against a scripted engine."""

import attrs
import pytest
import trio
import trio.testing

from engine.errors import ContextExceeded, EngineUnavailable, NativeError
from engine.text.events import Failed, FinishReason, PrefillProgress, Timings, Tokens
from tests.api.conftest import Client
from tests.api.fake_engine import FakeEngine, say, steps

CHAT = "/v1/chat/completions"
HI = {"messages": [{"role": "user", "content": "hi"}]}


async def test_whole_reply(client: Client, engine: FakeEngine) -> None:
    engine.script = say("Hello", " world", cache_n=3)
    reply = await client.post(CHAT, {**HI, "model": "any"})
    body = reply.json
    assert reply.status == 200
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert body["model"] == "any"
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello world", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None
    prompt = len("user: hi\nassistant:") + 1
    assert body["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 11,
        "total_tokens": prompt + 11,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
        "time_to_first_token_ms": 25.0,
        "time_per_output_token_ms": 10.0,
        "prompt_tokens_per_second": (prompt - 3) * 50.0,
        "tokens_per_second": 100.0,
        "draft_tokens": 0,
        "draft_tokens_acceptance": 0.0,
    }
    assert body["timings"]["predicted_n"] == 11
    assert reply.headers["X-Response-Tokens-Per-Second"] == "100.000"
    assert engine.closed == [engine.opened[0].id]


async def test_limit_means_length(client: Client, engine: FakeEngine) -> None:
    engine.script = say("Hello", reason=FinishReason.LIMIT)
    reply = await client.post(CHAT, HI)
    assert reply.json["choices"][0]["finish_reason"] == "length"


async def test_choices_have_their_seeds_and_count_the_prompt_once(client: Client, engine: FakeEngine) -> None:
    reply = await client.post(CHAT, {**HI, "n": 3, "seed": 2**32 - 2})
    assert [choice["index"] for choice in reply.json["choices"]] == [0, 1, 2]
    assert [request.sampling.seed for request in engine.opened] == [2**32 - 2, 0, 1]
    assert reply.json["usage"]["prompt_tokens"] == len(engine.opened[0].prompt)
    assert reply.json["usage"]["completion_tokens"] == 33


async def test_stream(client: Client) -> None:
    reply = await client.post(CHAT, {**HI, "stream": True})
    *chunks, done = reply.events
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "Hello"},
        {"content": " world"},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "stop"]


async def test_a_long_stream_keeps_its_order(client: Client, engine: FakeEngine) -> None:
    words = [f"{i} " for i in range(500)]
    engine.script = say(*words)
    *chunks, _ = (await client.post(CHAT, {**HI, "stream": True})).events
    assert [c["choices"][0]["delta"].get("content") for c in chunks] == ["", *words, None]


async def test_stream_with_usage(client: Client) -> None:
    reply = await client.post(CHAT, {**HI, "stream": True, "stream_options": {"include_usage": True}})
    *chunks, last, done = reply.events
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 11
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in chunks)


async def test_stream_of_several_choices(client: Client) -> None:
    reply = await client.post(CHAT, {**HI, "stream": True, "n": 2})
    *chunks, _ = reply.events
    for index in (0, 1):
        deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"][0]["index"] == index]
        assert deltas[0] == {"role": "assistant", "content": ""}
        assert "".join(delta.get("content", "") for delta in deltas) == "Hello world"


async def test_text_held_back_comes_before_the_end(client: Client, engine: FakeEngine) -> None:
    engine.script = say("He", held_back="llo")
    *chunks, _ = (await client.post(CHAT, {**HI, "stream": True})).events
    assert [c["choices"][0]["delta"].get("content") for c in chunks] == ["", "He", "llo", None]
    whole = await client.post(CHAT, HI)
    assert whole.json["choices"][0]["message"]["content"] == "Hello"


async def test_logprobs(client: Client) -> None:
    reply = await client.post(CHAT, {**HI, "logprobs": True, "top_logprobs": 2})
    content = reply.json["choices"][0]["logprobs"]["content"]
    assert len(content) == 11
    assert content[0] == {
        "token": "H",
        "logprob": -0.5,
        "bytes": [72],
        "top_logprobs": [
            {"token": "A", "logprob": -0.5, "bytes": [65]},
            {"token": "B", "logprob": -1.5, "bytes": [66]},
        ],
    }


async def test_streamed_logprobs_lose_no_token(client: Client, engine: FakeEngine) -> None:
    engine.script = say("a", "", "b", held_back="c")
    engine_script = engine.script

    def with_silent_token(request):  # a token whose text comes later
        first, silent, *rest = engine_script(request)
        return [first, attrs.evolve(silent, tokens=(200,), infos=first.infos), *rest]

    engine.script = with_silent_token
    body = {**HI, "stream": True, "logprobs": True, "return_tokens": True}
    *chunks, _ = (await client.post(CHAT, body)).events
    choices = [chunk["choices"][0] for chunk in chunks]
    told = [entry["token"] for c in choices if c["logprobs"] for entry in c["logprobs"]["content"]]
    assert told == ["a", "a", "b", "c"]
    assert [token for c in choices for token in c.get("tokens", [])] == [97, 200, 98, 99]


async def test_progress_and_timings(client: Client, engine: FakeEngine) -> None:
    progress = PrefillProgress(total=10, cache=2, processed=6, time_ms=1.5)
    engine.script = lambda request: [progress, *say("x")(request)]
    body = {**HI, "stream": True, "return_progress": True, "timings_per_token": True}
    _, first, text, *_ = (await client.post(CHAT, body)).events
    assert first["prompt_progress"] == {"total": 10, "cache": 2, "processed": 6, "time_ms": 1.5}
    assert text["timings"]["predicted_n"] == 1
    assert engine.opened[0].report_progress


async def test_failure_before_the_first_byte_has_a_status(client: Client, engine: FakeEngine) -> None:
    engine.refuse = ContextExceeded(n_prompt_tokens=300, n_ctx=128)
    for stream in (False, True):
        reply = await client.post(CHAT, {**HI, "stream": stream})
        assert reply.status == 400
        assert reply.error["type"] == "exceed_context_size_error"
        assert (reply.error["n_prompt_tokens"], reply.error["n_ctx"]) == (300, 128)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [(EngineUnavailable("gone"), 503, "unavailable_error"), (NativeError("secret"), 500, "server_error")],
)
async def test_failed_event(client: Client, engine: FakeEngine, error: Exception, status: int, kind: str) -> None:
    engine.script = steps(Failed(error=error))
    for stream in (False, True):
        reply = await client.post(CHAT, {**HI, "stream": stream})
        assert (reply.status, reply.error["type"]) == (status, kind)
        assert "secret" not in reply.error["message"]


async def test_unexpected_error_shows_nothing(client: Client, engine: FakeEngine, caplog) -> None:
    engine.refuse = ZeroDivisionError("secret")
    reply = await client.post(CHAT, HI)
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert "ZeroDivisionError" in caplog.text


async def test_one_choice_that_fails_ends_the_others(client: Client, engine: FakeEngine) -> None:
    never = trio.Event()
    engine.script = lambda r: [never] if r.id.endswith("-0") else [Failed(error=EngineUnavailable("gone"))]
    reply = await client.post(CHAT, {**HI, "n": 2})
    assert reply.status == 503
    assert len(engine.closed) == 2


async def test_failure_after_the_first_byte_is_an_event(client: Client, engine: FakeEngine) -> None:
    text = Tokens(text="He", tokens=(1,), slot=0, timings=Timings(predicted_n=1))
    gate = trio.Event()
    engine.script = steps(text, gate, Failed(error=EngineUnavailable("gone")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_open_when_idle, gate)
        reply = await client.post(CHAT, {**HI, "stream": True})
    assert reply.status == 200
    *events, last, rest = reply.body.decode().split("\n\n")
    assert rest == ""
    assert "He" in events[-1]
    error = '{"code":503,"message":"gone","type":"unavailable_error","param":null}'
    assert last == f'error: {error}\ndata: {{"error":{error}}}'


async def _open_when_idle(gate) -> None:
    await trio.testing.wait_all_tasks_blocked()
    gate.set()


async def test_silence_is_filled(client: Client, engine: FakeEngine, autojump_clock) -> None:
    gate = trio.Event()
    engine.script = lambda request: [gate, *say("x")(request)]

    async def later() -> None:
        await trio.sleep(40)  # on the test's clock
        gate.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        reply = await client.post(CHAT, {**HI, "stream": True})
    assert reply.body.startswith(b": ping\n\n: ping\n\ndata: ")
    assert reply.events[-1] == "[DONE]"
