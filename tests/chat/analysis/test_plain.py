"""Descriptions as data."""

import json

import pytest

from llamabox.chat.analysis.description import Description
from llamabox.chat.analysis.plain import from_plain, to_plain
from llamabox.chat.formats.base import Marks
from tests.chat.analysis.templates import describe, template
from tests.chat.analysis.test_calls import LEARNED


@pytest.mark.parametrize("call", [call for call, _ in LEARNED.values()], ids=LEARNED)
def test_there_and_back_through_json(call: str) -> None:
    description = describe(template(call))
    assert from_plain(json.loads(json.dumps(to_plain(description)))) == description


def test_marks_and_nothing() -> None:
    for description in (
        Description(),
        Description(reasoning=Marks("<a>", "</a>"), wrapping=Marks("", "b"), id_length=9, closed_by_prompt="<a></a>"),
    ):
        assert from_plain(json.loads(json.dumps(to_plain(description)))) == description
