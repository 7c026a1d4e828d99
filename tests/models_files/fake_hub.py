"""A hub of repositories on loopback, as far as huggingface_hub asks one for models."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from tests.models_files.file_server import FileHandler, FileServer, Served, file_server

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"


@attrs.define
class Repo:
    """``error``: (status, X-Error-Code) of every answer about it; ``token``: what a request must bear."""

    files: dict[str, Served] = attrs.field(factory=dict)
    commit: str = COMMIT
    error: tuple[int, str] | None = None
    token: str | None = None


@attrs.define
class FakeHub(FileServer):
    repos: dict[str, Repo] = attrs.field(factory=dict)

    def add(self, name: str, *, commit: str = COMMIT, **files: bytes) -> Repo:
        """A repository of these files; "__" stands for the dot, "_s_" for the slash of a path."""
        served = {}
        for key, content in files.items():
            served[key.replace("__", ".").replace("_s_", "/")] = Served(content)
        repo = self.repos[name] = Repo(served, commit)
        return repo


class HubHandler(FileHandler):
    """Listings at /api/models/USER/MODEL, files at /USER/MODEL/resolve/REVISION/PATH."""

    files: FakeHub

    def answer(self, path: str, *, body: bool) -> None:
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._listing("/".join(parts[2:4]))
        elif parts[2:3] == ["resolve"]:
            self._file("/".join(parts[:2]), "/".join(parts[4:]), body=body)
        else:
            super().answer(path, body=body)

    def _repo(self, name: str) -> Repo | None:
        """The repository, or None after a refusal was sent."""
        repo = self.files.repos.get(name)
        status, code = (404, "RepoNotFound") if repo is None else repo.error or (0, "")
        if repo is not None and repo.token is not None and self.headers.get("Authorization") != f"Bearer {repo.token}":
            status, code = 401, "GatedRepo"
        if not status:
            return repo
        self.plain(status, {"X-Error-Code": code} if code else {})
        return None

    def _listing(self, name: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        siblings = [{"rfilename": path} for path in repo.files]
        body = json.dumps({"id": name, "modelId": name, "sha": repo.commit, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, name: str, path: str, *, body: bool) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        served = repo.files.get(path)
        if served is None:
            self.plain(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit})
            return
        served.headers = {
            "X-Repo-Commit": repo.commit,
            "X-Linked-Etag": f'"{hashlib.sha256(served.content).hexdigest()}"',
            "X-Linked-Size": str(len(served.content)),
            **served.headers,
        }
        self.serve(served, body=body)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A running hub without repositories."""
    with file_server(HubHandler, FakeHub()) as hub:
        yield hub
