"""Files that the command line names: read or refused with their name before anything is loaded."""

import os
import ssl
from pathlib import Path
from typing import Final

from cli.errors import UsageError
from cli.kinds import TextFile

MAX_TEXT: Final = 4 * 1024 * 1024  # bytes


def read_text(file: TextFile, option: str) -> str:
    """The UTF-8 text of a file. UsageError if it cannot be read, is empty or longer than MAX_TEXT."""
    try:
        with Path(file.path).open("rb") as stream:
            content = stream.read(MAX_TEXT + 1)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"{option}: cannot read {file.path}: {_reason(error)}") from None
    if len(content) > MAX_TEXT:
        raise UsageError(f"{option}: {file.path} is longer than {MAX_TEXT} bytes")
    if not text.strip():
        raise UsageError(f"{option}: {file.path} is empty")
    return text


def check_readable(path: str, option: str) -> None:
    """UsageError unless ``path`` is a file that can be opened."""
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{option}: cannot read {path}: {_reason(error)}") from None


def check_directory(path: str, option: str) -> None:
    """UsageError unless ``path`` is a directory in which files can be made."""
    if not Path(path).is_dir():
        raise UsageError(f"{option}: {path} is no directory")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"{option}: {path} cannot be written to")


def read_keys(path: str, option: str) -> tuple[str, ...]:
    """The keys of a file, one a line; empty lines and what follows # at the start of a line are skipped."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{option}: cannot read {path}: {_reason(error)}") from None
    keys = tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
    if not keys:
        # Going on would serve everybody where the operator meant to serve few.
        raise UsageError(f"{option}: {path} contains no key")
    return keys


def check_tls(*, key: str, certificate: str) -> None:
    """UsageError unless the two files are a private key without passphrase and its certificate."""
    check_readable(key, "--ssl-key-file")
    check_readable(certificate, "--ssl-cert-file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty passphrase instead of none: the library would ask on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"--ssl-cert-file: {certificate} and {key} are not a usable pair: {error}") from None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
