"""Logging: one line per record on standard error, as text or JSON, with the id of the request that it belongs to."""

import contextvars
import datetime
import json
import logging
import os
import sys
import traceback
from typing import Any, Final, TextIO

from llamabox.settings import LogFormat, LogSettings

# Our own loggers follow the verbosity; everybody else speaks from warnings on.
LOGGERS: Final = ("llamabox", "engine", "api", "cli", "llama.cpp", "stable-diffusion.cpp")

request_id: Final[contextvars.ContextVar[str | None]] = contextvars.ContextVar("request_id", default=None)

_HANDLER_NAME: Final = "llama-box"
_COLORS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_RESET: Final = "\x1b[0m"
# What every record has; anything else came in by ``extra=``.
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "request_id"}


def set_request_id(value: str) -> contextvars.Token[str | None]:
    """Name the request of this task; its children inherit the name. Give the token to ``reset_request_id``."""
    return request_id.set(value)


def reset_request_id(token: contextvars.Token[str | None]) -> None:
    """Undo ``set_request_id``, in the task that called it."""
    request_id.reset(token)


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send all records to ``stream`` (default: standard error). Calling it again replaces what it did before."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.name = _HANDLER_NAME
    handler.addFilter(_add_request_id)
    handler.setFormatter(_formatter(settings, stream))
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.name == _HANDLER_NAME]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if settings.verbosity >= 1 else logging.INFO)


def use_colors(settings: LogSettings, stream: TextIO) -> bool:
    """Whether text lines are colored: as set, else on a terminal that can and whose user does not object."""
    if settings.colors is not None:
        return settings.colors
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _formatter(settings: LogSettings, stream: TextIO) -> logging.Formatter:
    if settings.format is LogFormat.JSON:
        return JsonFormatter()
    return TextFormatter(colors=use_colors(settings, stream))


def _add_request_id(record: logging.LogRecord) -> bool:
    """Threads of the engine name the request by ``extra``; tasks have it in their context."""
    if getattr(record, "request_id", None) is None:
        record.request_id = request_id.get()
    return True


def _time(record: logging.LogRecord) -> str:
    """UTC, ISO 8601, milliseconds."""
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


def _exception(record: logging.LogRecord) -> str | None:
    if record.exc_info:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return record.exc_text


def _one_line(text: str) -> str:
    """``text`` without line breaks and terminal controls: what a client sends cannot fake a record."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class TextFormatter(logging.Formatter):
    """``TIME LEVEL logger [request] message key=value``; line breaks, those of tracebacks too, are written as \\n."""

    def __init__(self, *, colors: bool) -> None:
        super().__init__()
        self._colors = colors

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname:<8}"
        if self._colors:
            level = f"{_COLORS.get(record.levelno, '')}{level}{_RESET}"
        words = [_time(record), level, record.name]
        if identity := getattr(record, "request_id", None):
            words.append(f"[{_one_line(str(identity))}]")
        words.append(_one_line(record.getMessage()))
        words += [f"{name}={_one_line(str(value))}" for name, value in _extras(record).items()]
        if exception := _exception(record):
            words.append(_one_line(exception))
        return " ".join(words)


class JsonFormatter(logging.Formatter):
    """One JSON object: time, level, logger, message, request_id and exception where there are, and the extras."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := getattr(record, "request_id", None):
            entry["request_id"] = identity
        entry |= _extras(record)
        if exception := _exception(record):
            entry["exception"] = exception
        return json.dumps(entry, ensure_ascii=False, default=str)
