"""The options of embeddings and rerank: what they need of each other."""

import pytest

from cli.build import build_settings
from cli.errors import UsageError
from cli.parse import read_arguments, read_environment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--pooling mean", r"^--pooling: needs --embeddings or --rerank$"),
        ("--attention causal", r"^--attention: needs --embeddings or --rerank$"),
        ("--rerank --pooling mean", r"^--pooling: --rerank needs rank$"),
        ("--embeddings --pooling max", r"^--pooling: .*none.*mean.*cls.*last.*rank"),
        ("--embeddings --attention both", r"^--attention: .*causal.*non-causal"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(model: str, arguments: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_settings(read_arguments(["-m", model, *arguments.split()]))


@pytest.mark.parametrize(("arguments", "enabled"), [("", False), ("--embeddings", True), ("--rerank", True)])
def test_rerank_implies_embeddings(model: str, arguments: str, enabled: bool) -> None:
    settings = build_settings(read_arguments(["-m", model, *arguments.split()]))
    assert settings.engine.embedding.enabled is enabled


def test_the_variable(model: str) -> None:
    environment = read_environment({"LLAMA_ARG_EMBEDDINGS": "on"})
    assert build_settings(environment | read_arguments(["-m", model])).engine.embedding.embeddings
