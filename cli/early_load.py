"""Loads the text model while the rest of the program is still being imported: on two cores a third of the start."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from cli.last_words import LastWords
from engine.native.abort import abort_guard
from engine.native.model import Model, Progress
from engine.text.load import load_model
from engine.text.options import EngineOptions
from llamabox.settings import Settings


class EarlyLoad:
    """A load on a thread of its own. Whoever takes the model closes it; one that is not taken is closed here."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._model: Future[Model] = Future()
        self._progress: Progress | None = None
        self._stopping = False
        self._taken = False
        words = LastWords((), lambda reason: None)
        words.told()  # there are no clients yet
        abort_guard.install(words.aborted)  # here and not on the thread: the engine's start puts its own in its place
        self._thread = threading.Thread(target=self._load, name="llama-box load")
        self._thread.start()

    def take(self, options: EngineOptions, progress: Progress | None) -> Model:
        """The model, once it is there. Raises what loading raised. ``progress`` is asked from now on.

        The options are those that the load began with.
        """
        assert options == self._options, "another model is being loaded"
        self._progress = progress
        self._taken = True
        return self._model.result()

    def close(self) -> None:
        """Give up a load that nobody took, and wait for the thread. Idempotent."""
        self._stopping = not self._taken
        self._thread.join()
        if not self._taken and self._model.exception() is None:
            self._model.result().close()

    def _load(self) -> None:
        try:
            self._model.set_result(load_model(self._options, self._may_go_on))
        except BaseException as error:  # it is raised where the model is taken
            self._model.set_exception(error)

    def _may_go_on(self, share: float) -> bool:
        progress = self._progress
        return not self._stopping and (progress is None or progress(share))


@contextmanager
def early_load(settings: Settings) -> Iterator[EarlyLoad | None]:
    """The load of the text model for the length of the block, if it can begin at once.

    It cannot before the files are there, and on RPC servers not before there is an eye on them.
    """
    model = settings.engine.model
    if not settings.has_text or not model.path or model.rpc_servers:
        yield None
        return
    load = EarlyLoad(settings.engine)
    try:
        yield load
    finally:
        load.close()
