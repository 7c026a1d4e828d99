"""A repository on Hugging Face's hub or one of its kind: what is in it, where its files are kept.

The library's functions wait for the network: call these on a thread. Importing the library takes a good part of a
second, so this module is imported when a repository is asked for.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, not declared

from llamabox.models.address import Remote
from llamabox.models.checksum import Checksum
from llamabox.models.errors import ModelFileError

# Else the library asks the hub what programs it might be called by, to report that with every request.
constants.HF_HUB_DISABLE_TELEMETRY = True

_REVISION: Final = "main"
_ETAG: Final = re.compile(r"[A-Za-z0-9][\w.-]*")
_TIMEOUT: Final = 15.0  # seconds for an answer that is not a file
# Larger files come by the hub's own protocol only, which the library speaks.
LARGEST_FILE: Final = constants.MAX_HTTP_DOWNLOAD_SIZE


class HubUnreachable(Exception):
    """No hub answers. What is in the cache may do."""


class HubForbidden(HubUnreachable):
    """None may be asked: offline mode."""


@attrs.frozen
class Listing:
    """The files of a commit."""

    commit: str
    files: tuple[str, ...]


@attrs.frozen(kw_only=True)
class HubFile:
    """A file to fetch. ``blob`` is its place in the cache, ``lock`` what the library locks while it writes there."""

    remote: Remote
    blob: Path
    lock: Path


@attrs.frozen(kw_only=True)
class Repository:
    """``token`` None: the one that the library finds (HF_TOKEN, or the login); ``endpoint``, ``cache`` None: its own.

    All methods raise ModelFileError, whose text names the repository, the file and what to do.
    """

    name: str
    token: str | None = attrs.field(default=None, repr=False)
    endpoint: str | None = None
    cache: Path | None = None

    @property
    def _directory(self) -> Path:
        return self._cache / repo_folder_name(repo_id=self.name, repo_type="model")

    @property
    def _cache(self) -> Path:
        return Path(constants.HF_HUB_CACHE) if self.cache is None else self.cache

    def listing(self) -> Listing:
        """What is in the repository now. Raises HubUnreachable."""
        with self._explained():
            info = HfApi(endpoint=self.endpoint, token=self.token).model_info(self.name, timeout=_TIMEOUT)
        if not info.sha:
            raise ModelFileError(f"{self._where} names no commit for {self.name}")
        return Listing(info.sha, tuple(sibling.rfilename for sibling in info.siblings or ()))

    def cached_listing(self) -> Listing | None:
        """What is in the cache of the commit that was used last."""
        with self._explained():
            directory = self._directory
        try:
            commit = (directory / "refs" / _REVISION).read_text(encoding="utf-8").strip()
        except OSError:
            return None
        root = directory / "snapshots" / commit
        files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        return Listing(commit, tuple(files))

    def cached(self, file: str, commit: str) -> Path | None:
        """The file in the cache."""
        with self._explained(file):
            found = try_to_load_from_cache(self.name, file, cache_dir=self._cache, revision=commit)
        return Path(found) if isinstance(found, str) else None

    def locate(self, file: str, commit: str) -> HubFile:
        """Where the file is to be had. Raises HubUnreachable."""
        url = hf_hub_url(self.name, file, revision=commit, endpoint=self.endpoint)
        with self._explained(file):
            headers = build_hf_headers(token=self.token)
            found = get_hf_file_metadata(url, token=self.token, timeout=_TIMEOUT, endpoint=self.endpoint)
        if found.etag is None or not _ETAG.fullmatch(found.etag):  # it becomes a file's name
            raise ModelFileError(f"{self._where} does not say what {self.name}/{file} contains (ETag {found.etag!r})")
        remote = Remote(
            url=url,
            shown=f"{self.name}/{file}",
            headers=headers,
            size=found.size,
            checksum=Checksum.of_etag(found.etag),
            addressed=True,
        )
        lock = self._cache / ".locks" / self._directory.name / f"{found.etag}.lock"
        return HubFile(remote=remote, blob=self._directory / "blobs" / found.etag, lock=lock)

    def place(self, file: str, commit: str) -> Path:
        """Have the library put the fetched file where everybody finds it, or fetch it by itself; the file's path."""
        with self._explained(file):
            path = hf_hub_download(
                self.name, file, revision=commit, token=self.token, endpoint=self.endpoint, cache_dir=self._cache
            )
        return Path(path)

    def remember(self, commit: str) -> None:
        """Note the commit as the newest: what is used when no hub answers."""
        path = self._directory / "refs" / _REVISION
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit, encoding="utf-8")

    @property
    def _where(self) -> str:
        return self.endpoint or constants.ENDPOINT

    @contextlib.contextmanager
    def _explained(self, file: str | None = None) -> Iterator[None]:
        """Turn the library's errors into ours."""
        what = f"{self.name}/{file}" if file else self.name
        account = "the token that was given" if self.token else "the token in use, if any,"
        try:
            yield
        except GatedRepoError:
            raise ModelFileError(
                f"{what} is gated: accept its conditions at {self._where}/{self.name}, and give a token of that "
                "account with --hf-token or HF_TOKEN"
            ) from None
        except DisabledRepoError:
            raise ModelFileError(f"{what} is disabled at {self._where}") from None
        except RepositoryNotFoundError:
            raise ModelFileError(
                f"{self._where} has no repository {self.name}, or {account} may not see it (--hf-token, HF_TOKEN)"
            ) from None
        except RevisionNotFoundError:
            raise ModelFileError(f"{self.name} has no branch {_REVISION}") from None
        except OfflineModeIsEnabled:
            raise HubForbidden("offline mode, HF_HUB_OFFLINE") from None
        except HfHubHTTPError as error:
            raise self._refusal(error, what) from None
        except (FileMetadataError, EntryNotFoundError) as error:
            raise ModelFileError(f"cannot fetch {what}: {_line(error)}") from None
        except HFValidationError:
            raise ModelFileError(f"{self.name!r} is no repository: expected user/model") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise HubUnreachable(f"{self._where} does not answer: {_line(error)}") from None
        except UnicodeEncodeError:
            raise ModelFileError("--hf-token: a token has only ASCII characters") from None
        except (ValueError, TypeError) as error:
            raise ModelFileError(f"{self._where} is no hub: its answer cannot be read ({_line(error)})") from None

    def _refusal(self, error: HfHubHTTPError, what: str) -> Exception:
        status = error.response.status_code
        if status == 401:
            return ModelFileError(
                f"{self._where} wants another token for {what} (--hf-token, HF_TOKEN), or has no such repository"
            )
        if status == 403:
            return ModelFileError(f"{self._where} refuses access to {what} (HTTP 403): see --hf-token, HF_TOKEN")
        if status == 404:
            return ModelFileError(f"{self._where} has no {what}")
        if status == 429 or status >= 500:
            return HubUnreachable(f"{self._where} answers HTTP {status}")
        return ModelFileError(f"{self._where} answers HTTP {status} for {what}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
