"""POST /v1/embeddings and /embedding over a fake engine."""

import base64
import math
import struct

import numpy as np
import pytest
import trio
import trio.testing

from api.app import create_app
from api.embedding.texts import MAX_NUMBERS, MAX_TEXTS
from engine.embedding.requests import EmbeddingInfo
from engine.errors import EngineUnavailable, NativeError
from engine.native.options import Pooling
from tests.api.asgi import exchange
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import BOS, EOS, FakeEngine, make_info
from tests.embedding.fake_embedder import make_info as make_embedding_info

PATH = "/v1/embeddings"


def embedding_info(**changes: object) -> EmbeddingInfo:
    return make_embedding_info(**({"n_embd": 2, "n_vocab": 258, "max_tokens": 20, "pooling": Pooling.MEAN} | changes))


def make_client(**changes: object) -> Client:
    return Client(make_services(FakeEngine(embedding=embedding_info(**changes)), metrics=True))


@pytest.fixture
def client() -> Client:
    return make_client()


async def test_texts_become_unit_vectors(client: Client) -> None:
    body = (await client.post(PATH, {"input": ["a", "bc"], "model": "mine"})).json
    assert body["object"] == "list"
    assert body["model"] == "mine"
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}, "with a start token each"
    assert [(entry["object"], entry["index"]) for entry in body["data"]] == [("embedding", 0), ("embedding", 1)]
    for entry, tokens in zip(body["data"], ([BOS, 97], [BOS, 98, 99]), strict=True):
        raw = (len(tokens), sum(tokens))
        assert entry["embedding"] == pytest.approx([x / math.hypot(*raw) for x in raw])


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("a", [[BOS, 97]]),
        ([97, 98], [[97, 98]]),
        ([[97], [98, 99]], [[97], [98, 99]]),
        (["a", [5]], [[BOS, 97], [5]]),
    ],
)
async def test_the_forms_of_the_input(client: Client, given: object, texts: list[list[int]]) -> None:
    assert (await client.post(PATH, {"input": given})).status == 200
    (request,) = client.services.text.embedded
    assert [list(text) for text in request.texts] == texts


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("", "input"),
        ([], "input"),
        (["a", ""], "input[1]"),
        ([[]], "input[0]"),
        ([258], "input"),
        ([[-1]], "input[0]"),
        ([1, "a"], "input"),
        ([True], "input"),
        (["a", 1], "input[1]"),
        ([{"content": []}], "input[0]"),
        ([1.5], "input[0]"),
        (7, "input"),
        (None, "input"),
        (["a"] * (MAX_TEXTS + 1), "input"),
    ],
)
async def test_refused_inputs(client: Client, given: object, param: str) -> None:
    reply = await client.post(PATH, {"input": given})
    assert reply.status == 400
    assert reply.error["param"] == param
    assert client.services.text.embedded == []


@pytest.mark.parametrize("given", ["x" * 20, ["a", "x" * 20], [1] * 21])
async def test_too_long_says_the_numbers(client: Client, given: object) -> None:
    error = (await client.post(PATH, {"input": given})).error
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (21, 20)
    assert error["param"] in {"input", "input[1]"}


@pytest.mark.parametrize(
    ("change", "length"),
    [
        ({"truncate": True}, 20),
        ({"truncate": "END"}, 20),
        ({"truncation": True}, 20),
        ({"truncate_prompt_tokens": -1}, 20),
        ({"truncate_prompt_tokens": 3, "truncation_side": "right"}, 3),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/embedding"])
async def test_too_long_is_cut_where_that_is_asked_for(
    client: Client, path: str, change: dict[str, object], length: int
) -> None:
    body = {"input": ["ab", "x" * 30, [1] * 30, [*[1] * 30, EOS]]} | change
    assert (await client.post(path, body)).status == 200
    (request,) = client.services.text.embedded
    short, text, tokens, ended = (list(each) for each in request.texts)
    assert short == [BOS, 97, 98]
    assert text == [BOS, *[ord("x")] * (length - 1)]
    assert tokens == [1] * length
    assert ended == [*[1] * (length - 1), EOS], "what ends a text for the model stays at its end"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"truncate": "START"}, "truncate"),
        ({"truncation_direction": "Left"}, "truncation_direction"),
        ({"truncation_side": "left"}, "truncation_side"),
        ({"truncate_prompt_tokens": 21}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate": False}, "input"),
        ({"truncate": "NONE", "truncation": False, "truncation_direction": "Right"}, "input"),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/embedding"])
async def test_cuts_that_are_not_done(client: Client, path: str, change: dict[str, object], param: str) -> None:
    assert (await client.post(path, {"input": "x" * 30} | change)).error["param"] == param
    assert client.services.text.embedded == []


async def test_the_missing_field_is_named(client: Client) -> None:
    assert (await client.post(PATH, {})).error["param"] == "input"
    assert (await client.post("/embedding", {})).error["param"] == "content"
    assert (await client.post("/embedding", {"content": "a", "input": "b"})).error["param"] == "content"


async def test_dimensions_cut_and_renormalise(client: Client) -> None:
    body = {"input": "abc", "dimensions": 1}
    assert (await client.post(PATH, body)).json["data"][0]["embedding"] == [1.0]
    for wrong in (0, 3, -1, "2", 1.5):
        assert (await client.post(PATH, {**body, "dimensions": wrong})).error["param"] == "dimensions"


async def test_base64_is_little_endian_float32(client: Client) -> None:
    plain = (await client.post(PATH, {"input": "abc", "encoding_format": "float"})).json["data"][0]["embedding"]
    coded = (await client.post(PATH, {"input": "abc", "encoding_format": "base64"})).json["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(coded)) == pytest.approx(plain)
    assert (await client.post(PATH, {"input": "a", "encoding_format": "hex"})).error["param"] == "encoding_format"


async def test_the_native_route_gives_a_plain_list(client: Client) -> None:
    for path in ("/embedding", "/embeddings"):
        for field in ("content", "input"):
            body = (await client.post(path, {field: ["abc", "d"]})).json
            assert [entry["index"] for entry in body] == [0, 1]
            (vector,) = body[0]["embedding"]
            assert math.hypot(*vector) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("norm", "vector"),
    [
        (-1, [4.0, 3.0]),
        (0, [32760.0, 24570.0]),
        (1, [4 / 7, 3 / 7]),
        (2, [0.8, 0.6]),
        (3, [4 / 91 ** (1 / 3), 3 / 91 ** (1 / 3)]),
    ],
)
async def test_the_native_norms(client: Client, norm: int, vector: list[float]) -> None:
    client.services.text.vector_of = lambda tokens: (4.0, 3.0)
    body = (await client.post("/embedding", {"content": "a", "embd_normalize": norm})).json
    assert body[0]["embedding"][0] == pytest.approx(vector)


async def test_zeros_stay_zeros_and_what_is_no_number_is_an_error(client: Client) -> None:
    client.services.text.vector_of = lambda tokens: (0.0, 0.0)
    assert (await client.post(PATH, {"input": "a"})).json["data"][0]["embedding"] == [0.0, 0.0]
    client.services.text.vector_of = lambda tokens: (math.nan, 0.0)
    assert (await client.post(PATH, {"input": "a"})).status == 500


async def test_without_pooling_each_token_has_its_vector() -> None:
    client = make_client(pooling=Pooling.NONE)
    client.services.text.vector_of = lambda tokens: [(3.0 * token, 4.0) for token in tokens]
    given = {"input": [[1, 2], [3]]}
    data = (await client.post(PATH, given)).json["data"]
    assert [entry["embedding"] for entry in data] == [[[3.0, 4.0], [6.0, 4.0]], [[9.0, 4.0]]], "as they are"
    native = (await client.post("/embedding", given)).json
    assert [entry["embedding"] for entry in native] == [entry["embedding"] for entry in data]
    cut = (await client.post(PATH, {**given, "dimensions": 1})).json["data"]
    assert cut[0]["embedding"] == [[3.0], [6.0]]
    coded = (await client.post(PATH, {**given, "encoding_format": "base64"})).json["data"]
    assert struct.unpack("<2f", base64.b64decode(coded[0]["embedding"][1])) == (6.0, 4.0)


async def test_without_pooling_an_answer_has_a_limit() -> None:
    client = make_client(pooling=Pooling.NONE, n_embd=MAX_NUMBERS // 10)
    client.services.text.vector_of = lambda tokens: [(1.0,) for _ in tokens]
    assert (await client.post(PATH, {"input": [[1] * 10]})).status == 200
    error = (await client.post(PATH, {"input": [[1] * 10, [1]]})).error
    assert error["code"] == 400
    assert "at most 10" in error["message"]


async def test_a_large_answer_is_complete(client: Client) -> None:
    client.services.text.vector_of = lambda tokens: np.full(4096, tokens[0] + 1.0)
    client.services.text.embedding = embedding_info(n_embd=4096)
    data = (await client.post(PATH, {"input": [[token] for token in range(20)]})).json["data"]
    assert [entry["index"] for entry in data] == list(range(20))
    assert all(entry["embedding"][0] == pytest.approx(1 / 64) for entry in data)


async def test_gates() -> None:
    client = Client(make_services(FakeEngine()))
    for path in (PATH, "/embedding", "/embeddings"):
        reply = await client.post(path, {"input": "a"})
        assert reply.status == 501
        assert "--embeddings" in reply.error["message"]
    ranks = make_client(pooling=Pooling.RANK, n_embd=1)
    reply = await ranks.post(PATH, {"input": "a"})
    assert reply.status == 501
    assert "rank" in reply.error["message"]


async def test_a_model_that_only_embeds_refuses_text_and_tells_about_itself() -> None:
    reason = "it is an embedding model (bert, pooling mean)"
    engine = FakeEngine(embedding=embedding_info(), info=make_info(no_generation=reason))
    client = Client(make_services(engine))
    for path, body in (
        ("/completion", {"prompt": "a"}),
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/responses", {"input": "a"}),
        ("/apply-template", {"messages": [{"role": "user", "content": "a"}]}),
    ):
        reply = await client.post(path, body)
        assert reply.status == 501, path
        assert reason in reply.error["message"]
    assert (await client.post("/tokenize", {"content": "a"})).json == {"tokens": [97]}
    assert (await client.post("/detokenize", {"tokens": [97]})).json == {"content": "a"}
    (entry,) = (await client.get("/v1/models")).json["data"]
    assert entry["meta"]["support_tool_calls"] is False
    assert (await client.get("/props")).json["total_slots"] == 2


async def test_errors_of_the_engine(client: Client) -> None:
    client.services.text.refuse = EngineUnavailable("the server is shutting down")
    assert (await client.post(PATH, {"input": "a"})).status == 503
    client.services.text.refuse = NativeError("broken")
    assert (await client.post(PATH, {"input": "a"})).status == 500
    assert len(client.services.running) == 0


async def test_an_unknown_model_among_several_is_404() -> None:
    client = Client(make_services(FakeEngine(embedding=embedding_info()), aliases=("a", "b")))
    assert (await client.post(PATH, {"input": "x", "model": "b"})).json["model"] == "b"
    assert (await client.post(PATH, {"input": "x", "model": "c"})).status == 404


async def test_a_client_that_leaves_cancels(client: Client) -> None:
    engine = client.services.text
    engine.embed_gate = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, create_app(client.services), "POST", PATH, b'{"input": "a"}')
            await engine.opened_event.wait()
            assert len(client.services.running) == 1
            nursery.cancel_scope.cancel()
    assert engine.left_early == [engine.embedded[0].id]
    assert len(client.services.running) == 0


async def test_the_end_of_the_server_waits_for_it(client: Client) -> None:
    engine = client.services.text
    engine.embed_gate = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.post, PATH, {"input": "a"})
            await engine.opened_event.wait()
            nursery.start_soon(client.services.running.wait_until_none)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 2
            engine.embed_gate.set()
