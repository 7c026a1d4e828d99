"""The pictures of an edit: from a form's files, or from data URLs in JSON or in a form's fields."""

from typing import Final

import attrs

from api.decode import parse
from api.errors import bad_request
from api.http import ApiRequest
from api.images.fields import ABSENT, EditFields, ImageFields, VariationFields, fields_of_form
from api.images.forms import Form, read_form
from llamabox.media.inline import from_base64

_FORM: Final = "multipart/form-data"
_OTHER_FORM: Final = "application/x-www-form-urlencoded"
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
    if request.mimetype == _OTHER_FORM and not body.lstrip().startswith(b"{"):
        raise bad_request(f"A form with an image is {_FORM}, not {_OTHER_FORM}; or send JSON")
    fields = parse(body, EditFields if prompt is None else VariationFields)
    images = fields.image if isinstance(fields.image, list) else [fields.image]
    if len(images) != 1:
        raise bad_request(f"image: one image can be edited, not {len(images)}", "image")
    return Edit(
        fields=fields,
        image=await _from_url(images[0], "image"),
        mask=await _from_url(fields.mask, "mask") if fields.mask else None,
        control=await _from_url(fields.control, "control") if fields.control else None,
    )


async def _from_form(request: ApiRequest, prompt: str | None) -> Edit:
    form = await read_form(request)
    fields = fields_of_form([(name, text) for name, text in form.fields if name not in _FILES], prompt=prompt)
    for name, content in form.files:
        if content and name not in _FILES:
            raise bad_request(f"{name}: an edit takes the files image, mask and control", name)
    images = [picture for name in _IMAGE for picture in await _pictures(form, name)]
    if not images:
        raise bad_request("image: a file is needed", "image")
    if len(images) != 1:
        raise bad_request(f"image: one image can be edited, not {len(images)}", "image")
    return Edit(
        fields=fields,
        image=images[0],
        mask=_one(await _pictures(form, "mask"), "mask"),
        control=_one(await _pictures(form, "control"), "control"),
    )


def _one(pictures: list[bytes], name: str) -> bytes | None:
    if len(pictures) > 1:
        raise bad_request(f"{name}: one at most, not {len(pictures)}", name)
    return pictures[0] if pictures else None


async def _pictures(form: Form, name: str) -> list[bytes]:
    """The contents of a field's files, an empty one is as good as none, and behind them its data URLs."""
    contents = [content for file, content in form.files if file == name and content]
    urls = [text for field, text in form.fields if field == name and text not in ABSENT]
    return contents + [await _from_url(text, name) for text in urls]


async def _from_url(url: str, param: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise bad_request(f"{param}: expected a URL like data:image/png;base64,…", param)
    try:
        return await from_base64(data)
    except ValueError:
        raise bad_request(f"{param}: the URL's data is no base64", param) from None
