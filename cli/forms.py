"""Readers of the option values that have a grammar of their own: sampler lists, biases, metadata, splits."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from cli.kinds import FALSE_WORDS, FILE, TRUE_WORDS, Form, Pairs, Real, parse_finite, split_names
from engine.native.options import MetadataValue, Scaled
from engine.text.requests import KNOWN_SAMPLERS, SAMPLER_LETTERS
from llamabox.models.address import HubName, ModelUrl

METADATA_TEXT_MAX: Final = 127  # bytes: the library keeps keys and texts in arrays of 128
TOKEN_MAX: Final = 2**31 - 1
LAYER_MAX: Final = 255  # of an image model


class _ScaledFiles(Pairs):
    def parse(self, text: str, *more: str) -> tuple[Any, ...]:
        return tuple(Scaled(*pair) for pair in super().parse(text, *more))


# One file of adapter weights, as a tuple of one: for repeatable options.
ADAPTER: Final = Form("a file", lambda path: (Scaled(FILE.parse(path)),))
SCALED_ADAPTER: Final = _ScaledFiles(FILE, Real(minimum=-1000, maximum=1000))


def samplers(text: str) -> tuple[str, ...]:
    """Sampler names by semicolon, in order."""
    names = tuple(name.strip() for name in text.split(";"))
    if any(name not in KNOWN_SAMPLERS for name in names):
        raise ValueError(text)
    return names


def sampler_letters(text: str) -> tuple[str, ...]:
    """Sampler names from their letters, in order."""
    if not text or any(letter not in SAMPLER_LETTERS for letter in text):
        raise ValueError(text)
    return tuple(SAMPLER_LETTERS[letter] for letter in text)


def logit_bias(text: str) -> tuple[tuple[int, float]]:
    """``ID+BIAS`` or ``ID-BIAS``; ``ID-inf`` forbids the token."""
    match = re.fullmatch(r"\s*([0-9]{1,10})\s*([+-].+)", text)
    if match is None or int(match[1]) > TOKEN_MAX:
        raise ValueError(text)
    bias = -math.inf if match[2].strip().lower() == "-inf" else parse_finite(match[2])
    return ((int(match[1]), bias),)


def _metadata_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(text)
    return int(text)


def _metadata_bool(text: str) -> bool:
    if text.lower() not in (*TRUE_WORDS, *FALSE_WORDS):
        raise ValueError(text)
    return text.lower() in TRUE_WORDS


def _metadata_text(text: str) -> str:
    if len(text.encode()) > METADATA_TEXT_MAX:
        raise ValueError(text)
    return text


_METADATA_READERS: Final[dict[str, Callable[[str], MetadataValue]]] = {
    "int": _metadata_int,
    "float": parse_finite,
    "bool": _metadata_bool,
    "str": _metadata_text,
}


def metadata(text: str) -> tuple[tuple[str, MetadataValue]]:
    """``KEY=TYPE:VALUE`` with TYPE int, float, bool or str."""
    match = re.fullmatch(r"([^=]+)=(int|float|bool|str):(.*)", text, re.DOTALL)
    if match is None or len(match[1].encode()) > METADATA_TEXT_MAX:
        raise ValueError(text)
    return ((match[1], _METADATA_READERS[match[2]](match[3])),)


def tensor_split(text: str) -> tuple[float, ...]:
    """Shares by ``,`` or ``/``, none negative, not all zero."""
    shares = tuple(parse_finite(part) for part in re.split("[,/]", text))
    if min(shares) < 0 or max(shares) == 0:
        raise ValueError(text)
    return shares


def devices(text: str) -> tuple[str, ...]:
    """Device names by comma; ``none`` alone is no device: CPU only."""
    return () if text.strip().lower() == "none" else split_names(text)


def rope_scale(text: str) -> float:
    """A factor by which the context grows, as the frequency scale that does it."""
    factor = parse_finite(text)
    if factor <= 0:
        raise ValueError(text)
    return 1 / factor


def origins(text: str) -> tuple[str, ...]:
    """``*``, or origins by comma, each ``scheme://host[:port]``."""
    found = tuple(origin.rstrip("/") for origin in split_names(text))
    if any(origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin) for origin in found):
        raise ValueError(text)
    return found


def visual_size(text: str) -> int:
    """0, or pixels of a side: at least 224 and a multiple of 14."""
    size = int(text)
    if size != 0 and (size < 224 or size % 14):
        raise ValueError(text)
    return size


def image_size(text: str) -> int:
    """Pixels of a side: at least 256 and a multiple of 64."""
    size = int(text)
    if size < 256 or size % 64:
        raise ValueError(text)
    return size


def layer_list(text: str) -> tuple[int, ...]:
    """Layer numbers by semicolon or comma."""
    layers = tuple(int(part) for part in re.split("[;,]", text))
    if min(layers) < 0 or max(layers) > LAYER_MAX:
        raise ValueError(text)
    return layers


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_object(text: str) -> dict[str, Any]:
    """A JSON object."""
    value = _json(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def json_schema(text: str) -> str:
    """The text of a JSON object or boolean, which is what a schema can be."""
    if not isinstance(_json(text), dict | bool):
        raise ValueError(text)
    return text


def model_url(text: str) -> str:
    """A URL that a model can be fetched from."""
    ModelUrl.parse(text)
    return text.strip()


def hub_name(text: str) -> str:
    """A repository, with a quantisation or without."""
    HubName.parse(text)
    return text.strip()
