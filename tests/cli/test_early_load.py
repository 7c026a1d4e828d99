"""The load that begins before the program is whole."""

import threading
from pathlib import Path

import pytest

from cli import early_load as module
from cli.early_load import EarlyLoad, early_load
from engine.errors import ModelLoadError
from engine.native.model import Model
from engine.native.options import ContextOptions, ModelOptions
from engine.text.options import EngineOptions
from llamabox.settings import Settings


def options(path: str, **model) -> EngineOptions:
    return EngineOptions(model=ModelOptions(path=path, **model), context=ContextOptions(n_ctx=64))


def test_the_model_is_handed_over(tiny_model: Path) -> None:
    wanted = options(str(tiny_model))
    load = EarlyLoad(wanted)
    model = load.take(wanted, None)
    load.close()
    assert not model.closed
    model.close()


def test_a_model_that_nobody_takes_is_freed(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Model] = []

    def load_model(options: EngineOptions, progress) -> Model:
        loaded.append(Model(options.model))
        return loaded[0]

    monkeypatch.setattr(module, "load_model", load_model)
    EarlyLoad(options(str(tiny_model))).close()
    assert [model.closed for model in loaded] == [True]


def test_an_error_is_raised_where_the_model_is_taken(tmp_path: Path) -> None:
    wanted = options(str(tmp_path / "none.gguf"))
    load = EarlyLoad(wanted)
    with pytest.raises(ModelLoadError, match=r"none\.gguf"):
        load.take(wanted, None)
    load.close()


def test_an_error_that_nobody_takes_is_forgotten(tmp_path: Path) -> None:
    EarlyLoad(options(str(tmp_path / "none.gguf"))).close()


@pytest.mark.parametrize("taken", [False, True])
def test_a_load_is_stopped(taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who closes it, or by the progress of who has taken it: the load asks until it is told to stop."""
    asked = threading.Event()

    def load_model(options: EngineOptions, progress) -> Model:
        while progress(0.5):
            asked.set()
        raise ModelLoadError("stopped")

    monkeypatch.setattr(module, "load_model", load_model)
    wanted = options("model.gguf")
    load = EarlyLoad(wanted)
    asked.wait()
    if taken:
        with pytest.raises(ModelLoadError, match="stopped"):
            load.take(wanted, lambda share: False)
    load.close()


@pytest.mark.parametrize("engine", [options(""), options("model.gguf", rpc_servers=("127.0.0.1:1",))])
def test_what_is_not_here_yet_or_elsewhere_is_not_loaded_early(engine: EngineOptions) -> None:
    with early_load(Settings(engine=engine)) as load:
        assert load is None


def test_a_load_ends_with_its_block(tiny_model: Path) -> None:
    with early_load(Settings(engine=options(str(tiny_model)))) as load:
        assert load is not None
    assert "llama-box load" not in {thread.name for thread in threading.enumerate()}
