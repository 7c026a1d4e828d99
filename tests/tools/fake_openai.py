"""An OpenAI server that says what it was told to."""

import email
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import attrs

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "time_to_first_token_ms": 12.34,
    "prompt_tokens_per_second": 567.8,
    "tokens_per_second": 40.0,
}

IMAGE_USAGE = {"time_to_process_ms": 12.34, "time_per_generation_ms": 250.0, "generation_per_second": 4.0}
PATHS = ("/v1/chat/completions", "/v1/images/generations", "/v1/images/edits")


@attrs.frozen(kw_only=True)
class Asked:
    """A request that came in."""

    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]  # the JSON object, or the fields of a form
    path: str = "/v1/chat/completions"
    files: dict[str, bytes] = attrs.field(factory=dict)  # of a form


@attrs.frozen(kw_only=True)
class Reply:
    """What to answer. ``lines``: the body, written and flushed one by one."""

    status: int = 200
    content_type: str = "application/json"
    lines: Iterable[str] = ()


def whole(content: str) -> Reply:
    """An answer in one piece."""
    message = {"role": "assistant", "content": content}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
    return Reply(lines=[json.dumps(body)])


def refusal(status: int, message: str) -> Reply:
    """An error."""
    return Reply(status=status, lines=[json.dumps({"error": {"code": status, "message": message}})])


def streamed(*deltas: dict[str, Any], finish: str = "stop", tail: Sequence[str] | None = None) -> Reply:
    """Server-sent events, with pings between them; ``tail`` replaces the end."""

    def event(**fields: Any) -> str:
        return f"data: {json.dumps({'id': 'chatcmpl-1', **fields}, ensure_ascii=False)}\n\n"

    choices = [({"role": "assistant"}, None), *((delta, None) for delta in deltas), ({}, finish)]
    lines = [event(choices=[{"index": 0, "delta": d, "finish_reason": reason}]) for d, reason in choices]
    lines.insert(2, ": ping\n\n")
    end = [event(choices=[], usage=USAGE), "data: [DONE]\n\n"] if tail is None else tail
    return Reply(content_type="text/event-stream", lines=[*lines, *end])


def streamed_images(*items: dict[str, Any], tail: Sequence[str] | None = None) -> Reply:
    """Server-sent events, one with each item; ``tail`` replaces the end."""
    lines = [f"data: {json.dumps({'model': 'flux', 'data': [item], 'usage': None})}\n\n" for item in items]
    lines.insert(1, ": ping\n\n")
    end = [f"data: {json.dumps({'data': [], 'usage': IMAGE_USAGE})}\n\n", "data: [DONE]\n\n"] if tail is None else tail
    return Reply(content_type="text/event-stream", lines=[*lines, *end])


def _read_form(kind: str, content: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """The fields and the files of a multipart form."""
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + content)
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        data = part.get_payload(decode=True)
        if name is None or not isinstance(data, bytes):
            continue
        if part.get_filename() is None:
            fields[str(name)] = data.decode()
        else:
            files[str(name)] = data
    return fields, files


class FakeOpenAI:
    """Answers each request with what ``script`` makes of it, and keeps the requests."""

    def __init__(self, script: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        self._script = script
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                kind = self.headers["Content-Type"]
                form = kind.startswith("multipart/form-data")
                body, files = _read_form(kind, content) if form else (json.loads(content), {})
                headers = {k.lower(): v for k, v in self.headers.items()}
                asked = Asked(headers=headers, body=body, path=self.path, files=files)
                reply = owner._answer(asked) if self.path in PATHS else refusal(404, "not here")
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.end_headers()
                for line in reply.lines:
                    self.wfile.write(line.encode())
                    self.wfile.flush()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # closing the server waits for them
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _answer(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            return self._script(asked)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Serves until the end of the block."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def scripted(*replies: Reply) -> FakeOpenAI:
    """One reply a request, in order."""
    rest = iter(replies)
    return FakeOpenAI(lambda _: next(rest, refusal(500, "more requests than replies")))
