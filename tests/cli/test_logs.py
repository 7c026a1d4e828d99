"""Log lines: levels, formats, request ids, and no way to fake a second line."""

import contextvars
import io
import json
import logging

import pytest

from llamabox.logs import LOGGERS, configure, request_id, reset_request_id, set_request_id, use_colors
from llamabox.settings import LogFormat, LogSettings


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


def start(**settings) -> io.StringIO:
    stream = io.StringIO()
    configure(LogSettings(**settings), stream)
    return stream


@pytest.mark.parametrize("name", LOGGERS)
def test_verbosity_decides_about_debug(name: str):
    quiet = start()
    logging.getLogger(f"{name}.x").debug("hidden")
    logging.getLogger(f"{name}.x").info("shown")
    assert "shown" in quiet.getvalue()
    assert "hidden" not in quiet.getvalue()
    loud = start(verbosity=1)
    logging.getLogger(f"{name}.x").debug("now shown")
    assert "now shown" in loud.getvalue()
    assert "now shown" not in quiet.getvalue()  # configuring again replaces the first stream


def test_others_are_heard_from_warnings_on():
    stream = start(verbosity=2)
    logging.getLogger("somebody").info("chatter")
    logging.getLogger("somebody").warning("trouble")
    assert "chatter" not in stream.getvalue()
    assert "trouble" in stream.getvalue()


def test_text_has_the_request_and_the_extras():
    stream = start()
    token = set_request_id("req-1")
    logging.getLogger("api").info("done in %d", 3, extra={"status": 200})
    reset_request_id(token)
    logging.getLogger("api").info("idle")
    first, second = stream.getvalue().splitlines()
    assert first.split(" ", 1)[1] == "INFO     api [req-1] done in 3 status=200"
    assert first.split(" ")[0].endswith("Z")
    assert second.split(" ", 1)[1] == "INFO     api idle"


def test_json_has_the_request_and_the_extras():
    stream = start(format=LogFormat.JSON)
    logging.getLogger("engine").warning("é\n", extra={"request_id": "req-2", "n": 1, "odd": object})
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning", "logger": "engine", "message": "é\n", "request_id": "req-2", "n": 1, "odd": str(object),
    }  # fmt: skip


@pytest.mark.parametrize("format_", LogFormat)
def test_a_traceback_is_one_record_one_line(format_: LogFormat):
    stream = start(format=format_)
    try:
        raise ValueError("first\nsecond\x1b[31m\u2028third")
    except ValueError:
        logging.getLogger("api").exception("bad\r\nINFO api faked")
    assert len(stream.getvalue().splitlines()) == 1 or format_ is LogFormat.JSON
    assert stream.getvalue().count("\n") == 1
    assert "Traceback" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_request_ids_belong_to_their_context():
    context = contextvars.copy_context()
    context.run(set_request_id, "inner")
    assert request_id.get() is None
    assert context.run(request_id.get) == "inner"


def test_colors_are_for_terminals_that_want_them(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert use_colors(LogSettings(), Terminal())
    assert not use_colors(LogSettings(), io.StringIO())
    assert not use_colors(LogSettings(colors=False), Terminal())
    assert use_colors(LogSettings(colors=True), io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not use_colors(LogSettings(), Terminal())
    stream = start(colors=True)
    logging.getLogger("api").error("red")
    assert "\x1b[31mERROR   \x1b[0m api red" in stream.getvalue()
