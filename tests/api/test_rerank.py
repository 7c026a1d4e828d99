"""POST /v1/rerank over a fake engine whose score is the document's length."""

import math
from collections.abc import Sequence

import attrs
import pytest

from api.embedding.texts import MAX_TEXTS
from engine.embedding.requests import RankFormat
from engine.native.options import Pooling
from llamabox.embedding.pairs import fill
from llamabox.embedding.vectors import sigmoid
from tests.api.conftest import Client, make_services
from tests.api.fake_engine import FakeEngine
from tests.embedding.fake_embedder import make_info

PATH = "/v1/rerank"
BODY = {"query": "q", "documents": ["aaa", {"text": "a"}, "aaaaa"]}
FORM = RankFormat(template=None, before=(1,), between=(2, 3), after=(4,))


def score(tokens: Sequence[int]) -> tuple[float]:
    return (float(len(tokens)) - 8.0,)


@pytest.fixture
def client() -> Client:
    info = make_info(pooling=Pooling.RANK, n_embd=1, n_vocab=258, max_tokens=20, rank=FORM)
    return Client(make_services(FakeEngine(embedding=info, vector_of=score)))


async def test_documents_come_sorted_with_scores_between_0_and_1(client: Client) -> None:
    for path in (PATH, "/rerank", "/reranking", "/v1/reranking", "/v2/rerank"):
        body = (await client.post(path, {**BODY, "model": "m"})).json
        assert body["model"] == "m"
        assert [result["index"] for result in body["results"]] == [2, 0, 1]
        assert [result["document"] for result in body["results"]] == [{"text": t} for t in ("aaaaa", "aaa", "a")]
        assert [r["relevance_score"] for r in body["results"]] == pytest.approx([sigmoid(2), sigmoid(0), sigmoid(-2)])
        assert body["usage"] == {"prompt_tokens": 24, "total_tokens": 24}


async def test_query_and_document_become_one_text(client: Client) -> None:
    await client.post(PATH, {"query": "q", "documents": ["ab"]})
    (request,) = client.services.text.embedded
    assert [list(text) for text in request.texts] == [[1, ord("q"), 2, 3, ord("a"), ord("b"), 4]]


async def test_a_template_of_the_model_is_filled(client: Client) -> None:
    engine = client.services.text
    form = attrs.evolve(FORM, template="{query}|{document}")
    engine.embedding = attrs.evolve(engine.embedding, rank=form)
    await client.post(PATH, {"query": "q", "documents": ["ab"]})
    assert bytes(engine.embedded[0].texts[0]) == b"q|ab"


def test_braces_in_texts_are_text() -> None:
    assert fill("<{query}> {document} {other}", "{document}", "{query}") == "<{document}> {query} {other}"


async def test_raw_scores(client: Client) -> None:
    body = (await client.post(PATH, {**BODY, "normalize": False})).json
    assert [result["relevance_score"] for result in body["results"]] == [2.0, 0.0, -2.0]


async def test_scores_that_are_shares_stay_as_they_are(client: Client) -> None:
    engine = client.services.text
    engine.embedding = attrs.evolve(engine.embedding, scores_are_shares=True)
    engine.vector_of = lambda tokens: (len(tokens) / 100,)
    body = (await client.post(PATH, BODY)).json
    assert [result["relevance_score"] for result in body["results"]] == pytest.approx([0.1, 0.08, 0.06])


async def test_the_order_is_that_of_the_raw_scores(client: Client) -> None:
    client.services.text.vector_of = lambda tokens: (1000.0 * len(tokens),)
    body = (await client.post(PATH, BODY)).json
    assert [result["index"] for result in body["results"]] == [2, 0, 1]
    assert {result["relevance_score"] for result in body["results"]} == {1.0}


async def test_top_n_and_documents_left_out(client: Client) -> None:
    body = (await client.post(PATH, {**BODY, "top_n": 2, "return_documents": False})).json
    assert [sorted(result) for result in body["results"]] == [["index", "relevance_score"]] * 2
    assert len((await client.post(PATH, {**BODY, "top_n": 99})).json["results"]) == 3
    assert body["usage"]["total_tokens"] == 24, "all were computed"


async def test_asked_with_texts_it_answers_as_text_embeddings_inference(client: Client) -> None:
    asked: dict[str, object] = {"query": "q", "texts": ["aaa", "a", "aaaaa"]}
    plain = (await client.post("/rerank", asked)).json
    assert [sorted(result) for result in plain] == [["index", "score"]] * 3
    assert [result["index"] for result in plain] == [2, 0, 1]
    assert [result["score"] for result in plain] == pytest.approx([sigmoid(2), sigmoid(0), sigmoid(-2)])
    full = (await client.post("/rerank", {**asked, "return_text": True, "raw_scores": True, "top_n": 2})).json
    assert full == [{"index": 2, "score": 2.0, "text": "aaaaa"}, {"index": 0, "score": 0.0, "text": "aaa"}]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"documents": None}, "documents"),
        ({"texts": ["a"]}, "texts"),
        ({"documents": None, "texts": []}, "texts"),
        ({"documents": None, "texts": ["a", ""]}, "texts[1]"),
        ({"documents": None, "texts": [{"text": "a"}]}, "texts[0]"),
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"query": 5}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "abc"}, "documents"),
        ({"documents": ["a", ""]}, "documents[1]"),
        ({"documents": ["a", {"text": ""}]}, "documents[1]"),
        ({"documents": ["a", {"title": "x"}]}, "documents[1].text"),
        ({"documents": ["a", 5]}, "documents[1]"),
        ({"documents": ["a"] * (MAX_TEXTS + 1)}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"normalize": "yes"}, "normalize"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"max_chunks_per_doc": 10}, "max_chunks_per_doc"),
        ({"rank_fields": ["title", "text"]}, "rank_fields"),
        ({"truncate": "START"}, "truncate"),
        ({"truncate": "middle"}, "truncate"),
        ({"truncate": True, "truncation_direction": "Left"}, "truncation_direction"),
        ({"truncation_side": "left"}, "truncation_side"),
        ({"truncation": "auto"}, "truncation"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"truncate_prompt_tokens": 21}, "truncate_prompt_tokens"),
    ],
)
async def test_refused(client: Client, change: dict[str, object], param: str) -> None:
    reply = await client.post(PATH, BODY | change)
    assert reply.status == 400
    assert reply.error["param"] == param
    assert client.services.text.embedded == []


async def test_too_long_together(client: Client) -> None:
    error = (await client.post(PATH, {"query": "q" * 10, "documents": ["a", "b" * 10]})).error
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"], error["param"]) == (24, 20, "documents[1]")


@pytest.mark.parametrize("change", [{}, {"truncate": True}, {"truncate_prompt_tokens": 20}, {"max_tokens_per_doc": 1}])
async def test_a_query_that_leaves_no_room_is_to_blame(client: Client, change: dict[str, object]) -> None:
    error = (await client.post(PATH, {"query": "q" * 16, "documents": ["a", "b"]} | change)).error
    assert error["type"] == "exceed_context_size_error"
    assert (error["n_prompt_tokens"], error["n_ctx"], error["param"]) == (20, 20, "query")
    fits = {"query": "q" * 15, "documents": ["a", "b"]} | change
    assert (await client.post(PATH, fits)).status == 200


async def test_in_a_template_a_document_may_take_no_more_than_none(client: Client) -> None:
    engine = client.services.text
    engine.embedding = attrs.evolve(engine.embedding, rank=attrs.evolve(FORM, template="{query}|{document}"))
    engine.vocab.tokenize = lambda text, **_: list(text.replace("|a", "|").encode())  # they become one token
    body = {"query": "q" * 19, "documents": ["a"]}
    assert (await client.post(PATH, body)).status == 200
    error = (await client.post(PATH, body | {"query": "q" * 20})).error
    assert (error["n_prompt_tokens"], error["param"]) == (21, "query")


@pytest.mark.parametrize(
    ("change", "lengths"),
    [
        ({"truncate": True}, [6, 20]),
        ({"truncate": "END", "truncation_direction": "Right"}, [6, 20]),
        ({"truncation": True}, [6, 20]),
        ({"truncate_prompt_tokens": -1}, [6, 20]),
        ({"truncate_prompt_tokens": 9}, [6, 9]),
        ({"max_tokens_per_doc": 4}, [6, 9]),
        ({"max_tokens_per_doc": 4, "truncate_prompt_tokens": 8}, [6, 8]),
        ({"max_tokens_per_doc": 99, "truncate": True}, [6, 20]),
    ],
)
@pytest.mark.parametrize("template", [None, "<{query}--{document}>"])
async def test_documents_that_are_too_long_are_cut_where_that_is_asked_for(
    client: Client, template: str | None, change: dict[str, object], lengths: list[int]
) -> None:
    engine = client.services.text
    engine.embedding = attrs.evolve(engine.embedding, rank=attrs.evolve(FORM, template=template))
    document = "bcdefghijklmnopqrstuvwxyz"
    body = {"query": "q", "documents": ["a", document], "rank_fields": ["text"]} | change
    reply = (await client.post(PATH, body)).json
    (request,) = engine.embedded
    assert [len(text) for text in request.texts] == lengths
    assert bytes(request.texts[1][4:-1]).decode() == document[: lengths[1] - 5], "its beginning"
    assert request.texts[1][-1] == (ord(">") if template else 4), "and the end of the pair"
    assert reply["usage"]["prompt_tokens"] == sum(lengths), "what was computed"
    assert reply["results"][0]["document"]["text"] == document, "as it was sent"


@pytest.mark.parametrize(
    "change", [{"truncate": False}, {"truncate": "NONE"}, {"truncation": False}, {"truncate": None}]
)
async def test_documents_that_are_too_long_are_refused_else(client: Client, change: dict[str, object]) -> None:
    error = (await client.post(PATH, {"query": "q", "documents": ["a", "b" * 16]} | change)).error
    assert (error["type"], error["param"]) == ("exceed_context_size_error", "documents[1]")


async def test_a_template_gets_whole_characters(client: Client) -> None:
    engine = client.services.text
    engine.embedding = attrs.evolve(engine.embedding, rank=attrs.evolve(FORM, template="{query}|{document}."))
    await client.post(PATH, {"query": "q", "documents": ["aäöü"], "max_tokens_per_doc": 4})
    await client.post(PATH, {"query": "q", "documents": ["äöü" * 5], "truncate": True})
    first, second = (bytes(request.texts[0]).decode() for request in engine.embedded)
    assert first == "q|aä."
    assert second == "q|" + "äöü" * 2 + "äö."


async def test_gates() -> None:
    for engine in (FakeEngine(), FakeEngine(embedding=make_info())):
        reply = await Client(make_services(engine)).post(PATH, BODY)
        assert reply.status == 501
        assert "--rerank" in reply.error["message"]


def test_sigmoid_at_the_edges() -> None:
    assert sigmoid(0.0) == 0.5
    assert sigmoid(-1e6) == 0.0
    assert sigmoid(1e6) == 1.0
    assert sigmoid(2.0) == pytest.approx(1 - sigmoid(-2.0))
    assert math.isfinite(sigmoid(-745.0))
