"""Where the model comes from, and how its files get here."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from llamabox.models import demo
from llamabox.models.address import HubName, ModelUrl
from llamabox.models.errors import ModelFileError
from llamabox.models.names import choose_model, choose_projector, is_model, listed, missing_parts, parts_of
from llamabox.settings import ModelSource

if TYPE_CHECKING:
    from llamabox.models.download import Downloader
    from llamabox.models.hub import Listing, Repository

log = logging.getLogger(__name__)

_DELAYS: Final = (1.0, 4.0, 10.0)  # seconds before a hub that does not answer is asked again


@attrs.frozen(kw_only=True)
class ModelFiles:
    """Files on this machine: the model (its first part), and the projector that its repository has, if any."""

    model: Path
    projector: Path | None = None


async def fetch_model(source: ModelSource) -> ModelFiles:
    """Fetch what the source names, unless it is here already; cancelled at any point, what has come is kept.

    Raises ModelFileError.
    """
    if source.url is None and source.hf_repo is None:
        # A few seconds once in its life: waited for even when cancelled.
        return ModelFiles(model=await trio.to_thread.run_sync(demo.prepare))
    # Imported late: a model that is here must not pay for it.
    from llamabox.models.download import Downloader, new_client
    from llamabox.models.url import fetch_url

    async with new_client() as client:
        downloader = Downloader(client)
        if source.url is not None:
            return ModelFiles(model=await fetch_url(ModelUrl.parse(source.url), downloader))
        from llamabox.models.hub import Repository

        assert source.hf_repo is not None, "one of the two is given"
        name = HubName.parse(source.hf_repo)
        repository = Repository(name=name.repository, token=source.hf_token)
        return await fetch_from_hub(repository, name.quant, source.hf_file, downloader, projector=source.projector)


async def fetch_from_hub(
    repository: "Repository", quant: str | None, file: str | None, downloader: "Downloader", *, projector: bool
) -> ModelFiles:
    """The model of a repository: ``file``, else the one with the quantisation, else the one that suits most.

    ``projector``: fetch the repository's as well. Where no hub answers, files in the cache do. Raises ModelFileError.
    """
    from llamabox.models.hub import HubForbidden, HubUnreachable

    cached = repository.cached_listing()
    try:
        # Who has the files already need not wait for a hub that hesitates.
        listing = await _asked(repository.listing, downloader, _DELAYS if cached is None else ())
    except HubUnreachable as error:
        level = logging.INFO if isinstance(error, HubForbidden) else logging.WARNING
        log.log(level, "%s cannot be asked for: %s", repository.name, error)
        return _from_cache(repository, cached, quant, file, str(error), projector=projector)
    model, beside = _choose(repository, listing, quant, file, projector=projector)
    wanted = [*parts_of(model), *([] if beside is None else [beside])]
    try:
        paths = await _fetch_all(repository, listing.commit, wanted, downloader)
    except HubUnreachable as error:
        raise ModelFileError(f"cannot fetch {repository.name}/{model}: {error}") from None
    return ModelFiles(model=paths[0], projector=None if beside is None else paths[-1])


def _choose(
    repository: "Repository", listing: "Listing", quant: str | None, file: str | None, *, projector: bool
) -> tuple[str, str | None]:
    """(model's first file, projector or None)."""
    name, files = repository.name, listing.files
    model = choose_model(files, quant) if file is None else file
    if model is None:
        kind = f"no model with the quantisation {quant}" if quant else "no model in GGUF form"
        raise ModelFileError(f"{name} has {kind}; there is: {listed(files)}")
    if file is not None and file not in files:
        raise ModelFileError(f"{name} has no file {file}; there is: {listed(files)}")
    if parts_of(model)[0] != model:
        raise ModelFileError(f"{name}/{model} is not the first part: give {parts_of(model)[0]}")
    if missing := missing_parts(model, files):
        raise ModelFileError(f"{name} lacks {', '.join(missing)}, without which {model} is not whole")
    return model, choose_projector(files, model) if projector and is_model(model) else None


def _from_cache(
    repository: "Repository",
    listing: "Listing | None",
    quant: str | None,
    file: str | None,
    reason: str,
    *,
    projector: bool,
) -> ModelFiles:
    if listing is None:
        raise ModelFileError(f"cannot fetch {repository.name}: {reason}; and none of its files is in the cache")
    try:
        model, beside = _choose(repository, listing, quant, file, projector=projector)
    except ModelFileError as error:
        raise ModelFileError(f"cannot ask for {repository.name}: {reason}; and in the cache: {error}") from None
    paths = [repository.cached(name, listing.commit) for name in (model, beside) if name is not None]
    if paths[0] is None:
        raise ModelFileError(f"cannot fetch {repository.name}/{model}: {reason}; and it is not in the cache")
    log.info("using %s of the cache", model)
    return ModelFiles(model=paths[0], projector=paths[1] if len(paths) > 1 else None)


async def _fetch_all(
    repository: "Repository", commit: str, files: Sequence[str], downloader: "Downloader"
) -> list[Path]:
    """The files of a commit, in order. Raises ModelFileError, HubUnreachable."""
    from llamabox.models.files import check_room, locked
    from llamabox.models.hub import LARGEST_FILE
    from llamabox.models.partial import Partial

    missing = [file for file in files if repository.cached(file, commit) is None]
    found = [await _asked(partial(repository.locate, file, commit), downloader, _DELAYS) for file in missing]
    try:
        for entry in found:
            entry.blob.parent.mkdir(parents=True, exist_ok=True)
            entry.lock.parent.mkdir(parents=True, exist_ok=True)
        open_ = [entry for entry in found if not entry.blob.exists()]
        if open_:
            sizes = (max((entry.remote.size or 0) - Partial(_incomplete(entry.blob)).size, 0) for entry in open_)
            check_room(open_[0].blob.parent, sum(sizes), f"what is missing of {repository.name}")
        for entry in open_:
            if (entry.remote.size or 0) > LARGEST_FILE:
                continue
            async with locked(entry.lock, entry.remote.shown):
                if not entry.blob.exists():
                    log.info("fetching %s to %s", entry.remote.shown, entry.blob)
                    await downloader.fetch(entry.remote, entry.blob, Partial(_incomplete(entry.blob), notes=False))
        paths = [await _off_loop(partial(repository.place, file, commit)) for file in files]
        repository.remember(commit)
    except OSError as error:
        raise ModelFileError(f"cannot write {repository.name} to the cache: {error.strerror or error}") from error
    return paths


def _incomplete(blob: Path) -> Path:
    return blob.with_name(blob.name + ".incomplete")


async def _asked[T](question: Callable[[], T], downloader: "Downloader", delays: Sequence[float]) -> T:
    """The hub's answer, asked for again after each of the delays. Raises HubUnreachable, ModelFileError."""
    from llamabox.models.hub import HubForbidden, HubUnreachable

    for delay in delays:
        try:
            return await _off_loop(question)
        except HubForbidden:
            raise
        except HubUnreachable as error:
            log.warning("%s, trying again in %g s", error, delay)
            await downloader.pause(delay)
    return await _off_loop(question)


async def _off_loop[T](function: Callable[[], T]) -> T:
    """The function's result, by a thread that is left to itself when cancelled: it changes nothing that matters."""
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
