"""The pictures of an edit: from a form's files, or from data URLs in JSON or in a form's fields."""

import base64
import binascii
from typing import Final

import attrs
from quart.datastructures import FileStorage
from werkzeug.datastructures import MultiDict

from api.decode import parse
from api.errors import bad_request
from api.http import ApiRequest
from api.images.fields import ABSENT, EditFields, ImageFields, VariationFields, fields_of_form

_FORM: Final = "multipart/form-data"
_IMAGE: Final = ("image", "image[]")
_FILES: Final = (*_IMAGE, "mask", "control")


@attrs.frozen(kw_only=True)
class Edit:
    """What is asked, with its pictures as files."""

    fields: ImageFields
    image: bytes
    mask: bytes | None
    control: bytes | None


async def read_edit(request: ApiRequest, *, prompt: str | None = None) -> Edit:
    """The body of an edit. ``prompt``: what to take where there is none; None: one is needed.

    Raises ApiError 400 naming the field.
    """
    if request.mimetype == _FORM:
        return await _from_form(request, prompt)
    body = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    fields = parse(body, EditFields if prompt is None else VariationFields)
    images = fields.image if isinstance(fields.image, list) else [fields.image]
    if len(images) != 1:
        raise bad_request(f"image: one image can be edited, not {len(images)}", "image")
    return Edit(
        fields=fields,
        image=_from_url(images[0], "image"),
        mask=_from_url(fields.mask, "mask") if fields.mask else None,
        control=_from_url(fields.control, "control") if fields.control else None,
    )


async def _from_form(request: ApiRequest, prompt: str | None) -> Edit:
    form, files = await request.form, await request.files
    texts = {name: text for name, text in form.items() if name not in _FILES}
    fields = fields_of_form(texts, prompt=prompt)
    for name in files:
        if name not in _FILES:
            raise bad_request(f"{name}: an edit takes the files image, mask and control", name)
    images = [picture for name in _IMAGE for picture in _pictures(form, files, name)]
    if not images:
        raise bad_request("image: a file is needed", "image")
    if len(images) != 1:
        raise bad_request(f"image: one image can be edited, not {len(images)}", "image")
    return Edit(
        fields=fields,
        image=images[0],
        mask=_one(_pictures(form, files, "mask"), "mask"),
        control=_one(_pictures(form, files, "control"), "control"),
    )


def _one(pictures: list[bytes], name: str) -> bytes | None:
    if len(pictures) > 1:
        raise bad_request(f"{name}: one at most, not {len(pictures)}", name)
    return pictures[0] if pictures else None


def _pictures(form: MultiDict[str, str], files: MultiDict[str, FileStorage], name: str) -> list[bytes]:
    """The contents of a field's files, an empty one is as good as none, and behind its data URLs."""
    contents = [file.read() for file in files.getlist(name)]
    urls = [text for text in form.getlist(name) if text not in ABSENT]
    return [content for content in contents if content] + [_from_url(text, name) for text in urls]


def _from_url(url: str, param: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise bad_request(f"{param}: expected a URL like data:image/png;base64,…", param)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise bad_request(f"{param}: the URL's data is no base64", param) from None
