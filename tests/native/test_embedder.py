"""The embedder on real (tiny) models: poolings, batches, texts in pieces, what is refused."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from engine.embedding.abilities import has_rank_head, why_no_generation
from engine.embedding.backend import Piece
from engine.embedding.llama_embedder import LlamaEmbedder, open_embedder
from engine.embedding.options import EmbeddingOptions
from engine.embedding.requests import EmbeddingRequest, Vector
from engine.embedding.worker import EmbeddingWorker
from engine.errors import ContextExceeded, ModelLoadError
from engine.native.model import Model
from engine.native.options import Attention, ContextOptions, ModelOptions, Pooling
from engine.text.commands import Embed
from engine.text.info import EngineStats
from tests.engine.driver import Box
from tests.models.tiny_bert import CLS, N_CTX, N_EMBD, SEP, write_tiny_bert

type Open = Callable[..., LlamaEmbedder]

TEXT = [CLS, *range(10, 40), SEP]
OTHER = [CLS, 7, 8, 9, SEP]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert") / "bert.gguf")


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("bert") / "rerank.gguf", rank=True)


@pytest.fixture
def open_on() -> Iterator[Open]:
    """Opens an embedder on a model file; options of its own and of the context by name. All closed at the end."""
    models: list[Model] = []

    def open_it(
        path: Path, *, pooling: Pooling | None = None, rerank: bool = False, attention: Attention | None = None,
        **context: Any,
    ) -> LlamaEmbedder:  # fmt: skip
        models.append(Model(ModelOptions(path=str(path))))
        options = EmbeddingOptions(embeddings=True, rerank=rerank, pooling=pooling, attention=attention)
        return open_embedder(models[-1], ContextOptions(**context), options)

    yield open_it
    for model in models:
        model.close()


def compute(embedder: LlamaEmbedder, *texts: Sequence[int]) -> list[Vector]:
    vectors = embedder.compute([Piece(seq, 0, text) for seq, text in enumerate(texts)])
    assert vectors is not None
    for seq in range(len(texts)):
        embedder.forget(seq, 0)
    return vectors


def through_worker(embedder: LlamaEmbedder, texts: Sequence[Sequence[int]], budget: int | None = None) -> list[Vector]:
    worker = EmbeddingWorker(embedder)
    answers = worker.obey(Embed(EmbeddingRequest(id="a", texts=texts), Box()))
    while worker.pending:
        answers += worker.step(budget, lambda: True, EngineStats())
    ((_, event),) = answers
    return list(event.vectors)


def cosine(a: Vector, b: Vector) -> float:
    return float(a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b))


def test_pooling_follows_from_the_vectors_of_the_tokens(bert: Path, open_on: Open) -> None:
    (rows,) = compute(open_on(bert, pooling=Pooling.NONE), TEXT)
    assert rows.shape == (len(TEXT), N_EMBD)
    for pooling, expected in (
        (None, rows.mean(axis=0)),
        (Pooling.MEAN, rows.mean(axis=0)),
        (Pooling.CLS, rows[0]),
        (Pooling.LAST, rows[-1]),
    ):
        embedder = open_on(bert, pooling=pooling)
        assert embedder.info.pooling is (pooling or Pooling.MEAN)
        (vector,) = compute(embedder, TEXT)
        assert vector == pytest.approx(expected, abs=1e-5)


def test_the_models_own_pooling_holds(tmp_path: Path, open_on: Open) -> None:
    path = write_tiny_bert(tmp_path / "cls.gguf", pooling=gguf.PoolingType.CLS)
    assert open_on(path).info.pooling is Pooling.CLS


@pytest.mark.parametrize(
    ("attention", "expected"),
    [(None, Pooling.LAST), (Attention.CAUSAL, Pooling.LAST), (Attention.NON_CAUSAL, Pooling.MEAN)],
)
def test_a_file_that_names_no_pooling_gets_a_vector_a_text(
    tiny_model: Path, open_on: Open, attention: Attention | None, expected: Pooling
) -> None:
    (rows,) = compute(open_on(tiny_model, pooling=Pooling.NONE, attention=attention), TEXT)
    embedder = open_on(tiny_model, attention=attention)
    assert embedder.info.pooling is expected
    (vector,) = compute(embedder, TEXT)
    assert vector == pytest.approx(rows[-1] if expected is Pooling.LAST else rows.mean(axis=0), abs=1e-5)


def test_a_file_that_names_no_pooling_on_purpose_keeps_it(tmp_path: Path, open_on: Open) -> None:
    path = write_tiny_bert(tmp_path / "none.gguf", pooling=gguf.PoolingType.NONE)
    assert open_on(path).info.pooling is Pooling.NONE


def test_many_texts_in_a_batch_are_as_each_alone(bert: Path, open_on: Open) -> None:
    embedder = open_on(bert)
    texts = [[CLS, *range(5, 5 + n), SEP] for n in range(1, 60)]
    together = through_worker(embedder, texts)
    for text, vector in zip(texts, together, strict=True):
        (alone,) = compute(embedder, text)
        assert cosine(alone, vector) >= 0.99999


@pytest.mark.parametrize("n_ubatch", [1, 16])
def test_a_batch_may_be_small(tiny_model: Path, open_on: Open, n_ubatch: int) -> None:
    embedder = open_on(tiny_model, n_ctx=256, n_ubatch=n_ubatch)
    assert embedder.info.n_seqs == embedder.info.n_batch == n_ubatch
    texts = [[300, 301], [302]]
    wanted = through_worker(open_on(tiny_model, n_ctx=256), texts)
    for small, whole in zip(through_worker(embedder, texts), wanted, strict=True):
        assert cosine(small, whole) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("n_ctx", "n_ubatch"), [(300, 512), (65, 65), (500, 100)])
def test_a_batch_of_any_size_can_be_pooled(bert: Path, open_on: Open, n_ctx: int, n_ubatch: int) -> None:
    # The library ends the process when tokens and sequences of a batch do not divide.
    embedder = open_on(bert, n_ctx=n_ctx, n_ubatch=n_ubatch)
    assert embedder.info.max_tokens == n_ctx
    text = [CLS, *[9] * (n_ctx - 2), SEP]
    short, long = through_worker(embedder, [OTHER, text])
    assert cosine(compute(embedder, OTHER)[0], short) >= 0.99999
    assert cosine(compute(embedder, text)[0], long) >= 0.99999


def test_the_longest_text_fits_and_a_longer_one_is_refused(bert: Path, open_on: Open) -> None:
    """One more token would end the process."""
    embedder = open_on(bert, n_ubatch=64)
    assert embedder.info.max_tokens == N_CTX
    (vector,) = through_worker(embedder, [[10] * N_CTX])
    assert np.isfinite(vector).all()
    with pytest.raises(ContextExceeded):
        embedder.info.validate(EmbeddingRequest(id="a", texts=[[10] * (N_CTX + 1)]))
    assert open_on(bert, n_ctx=100).info.max_tokens == 100


@pytest.mark.parametrize("pooling", [Pooling.NONE, Pooling.MEAN, Pooling.CLS, Pooling.LAST])
def test_a_text_in_pieces_is_as_the_whole(tiny_model: Path, open_on: Open, pooling: Pooling) -> None:
    embedder = open_on(tiny_model, pooling=pooling, n_ctx=512, n_ubatch=128)
    assert embedder.info.splittable
    texts = [[1, *[(7 * n + k) % 500 for n in range(100)]] for k in range(3)]
    whole = [compute(embedder, text)[0] for text in texts]
    for vector, expected in zip(through_worker(embedder, texts, budget=30), whole, strict=True):
        assert vector.shape == expected.shape
        assert cosine(vector, expected) >= 0.99999
    long = [[(3 * n) % 500 for n in range(512)]]
    (vector,) = through_worker(embedder, long)
    assert np.isfinite(vector).all()


def test_attention_decides_what_a_token_sees(tiny_model: Path, open_on: Open) -> None:
    first = {}
    for attention in Attention:
        embedder = open_on(tiny_model, pooling=Pooling.NONE, attention=attention)
        assert embedder.info.splittable == (attention is Attention.CAUSAL)
        short, long = compute(embedder, [1, 70, 80]), compute(embedder, [1, 70, 80, 90])
        first[attention] = float(np.abs(short[0][0] - long[0][0]).max())
    assert first[Attention.CAUSAL] == pytest.approx(0, abs=1e-5)
    assert first[Attention.NON_CAUSAL] > 1e-3


def test_scores(reranker: Path, open_on: Open) -> None:
    embedder = open_on(reranker, rerank=True)
    assert (embedder.info.pooling, embedder.info.n_embd) == (Pooling.RANK, 1)
    form = embedder.info.rank
    assert (form.before, form.between, form.template) == ((CLS,), (SEP,), None)
    one, two = compute(embedder, TEXT, OTHER)
    assert one.shape == two.shape == (1,)
    assert one[0] != two[0]
    assert compute(embedder, OTHER)[0] == pytest.approx(two, abs=1e-5)


def test_a_model_without_a_rank_head_does_not_rank(bert: Path, tiny_model: Path, open_on: Open) -> None:
    """The library would compute nonsense without a word."""
    for path in (bert, tiny_model):
        assert not has_rank_head(str(path))
        with pytest.raises(ModelLoadError, match="rank head"):
            open_on(path, rerank=True)
        with pytest.raises(ModelLoadError, match="rank head"):
            open_on(path, pooling=Pooling.RANK)


def test_a_file_that_calls_itself_a_reranker_without_being_one_is_refused(tmp_path: Path, open_on: Open) -> None:
    path = write_tiny_bert(tmp_path / "headless.gguf", pooling=gguf.PoolingType.RANK)
    with pytest.raises(ModelLoadError, match="rank head"):
        open_on(path)
    assert open_on(path, pooling=Pooling.MEAN).info.pooling is Pooling.MEAN


def test_an_aborted_batch_gives_nothing_and_leaves_the_context_usable(tiny_model: Path, open_on: Open) -> None:
    embedder = open_on(tiny_model, pooling=Pooling.MEAN)
    embedder.abort()
    assert embedder.compute([Piece(0, 0, [1, 70, 80])]) is None
    embedder.clear_abort()
    embedder.forget(0, 0)
    assert compute(embedder, [1, 70, 80])[0].shape == (64,)


def test_abilities(bert: Path, reranker: Path, tiny_model: Path) -> None:
    reasons = {}
    for path in (bert, reranker, tiny_model):
        model = Model(ModelOptions(path=str(path)))
        reasons[path] = why_no_generation(model.facts())
        model.close()
    assert reasons[tiny_model] is None
    assert "mean" in reasons[bert]
    assert "rank" in reasons[reranker]
