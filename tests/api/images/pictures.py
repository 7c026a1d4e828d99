"""Pictures, forms and streams of the tests of the images API."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import PIL.Image

from llamabox.images.encode import encode_image
from tests.api.conftest import Client, Reply
from tests.images.asking import gradient

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
VARIATIONS = "/v1/images/variations"


def png(width: int = 32, height: int = 32) -> bytes:
    return encode_image(gradient(width, height))


def url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def opened(text: str) -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(base64.b64decode(text)))
    image.load()
    return image


def form(fields: Mapping[str, str], files: Mapping[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A multipart body and its headers."""
    boundary = "xxBOUNDARYxx"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
        for name, text in fields.items()
    ]
    for name, data in files.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n'
        parts.append(f"{head}Content-Type: image/png\r\n\r\n".encode() + data + b"\r\n")
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


async def post_form(client: Client, fields: Mapping[str, str], files: Mapping[str, bytes], path: str = EDITS) -> Reply:
    body, headers = form(fields, files)
    return await client.send("POST", path, body, headers)


def stream_events(reply: Reply) -> list[Any]:
    assert reply.status == 200, reply.body
    events = reply.events
    assert events[-1] == "[DONE]"
    return events[:-1]
