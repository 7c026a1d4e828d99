"""Common beginnings and ends of texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamabox.chat.analysis.diff import common_prefix, common_suffix, marks_in, paired

texts = st.lists(st.sampled_from(["<a>", "</a>", "<a=", "[B]", "[", "x", "y1", " ", "\n", "<", ">"])).map("".join)


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        ("<bot>\n<think>x", "<bot>\n</think>x", "<bot>\n"),
        ("assistant\nanswer", "assistant\naction", "assistant\n"),
        ("[TOOL_CALLS]f", "[TOOL_CALLS][", "[TOOL_CALLS]"),
        ("[ARGS]", "[ARG]", ""),
        ("same", "same", "same"),
        ("", "x", ""),
    ],
)
def test_prefix_cuts_no_mark_and_no_word(a: str, b: str, shared: str) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == shared


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        (">\n<parameter=", "\n</parameter>\n<parameter=", "\n<parameter="),
        ("</call><function=", "<section><function=", "<function="),
        ("}</call><|end|>", "]<|end|>", "<|end|>"),
        ("<|eom|>", "<|eot|>", ""),
        ("one last", "two fast", ""),
    ],
)
def test_suffix_cuts_no_mark_and_no_word(a: str, b: str, shared: str) -> None:
    assert common_suffix(a, b) == common_suffix(b, a) == shared


@given(texts, texts)
@settings(max_examples=100)
def test_what_is_shared_is_in_both(a: str, b: str) -> None:
    prefix, suffix = common_prefix(a, b), common_suffix(a, b)
    assert a.startswith(prefix)
    assert b.startswith(prefix)
    assert a.endswith(suffix)
    assert b.endswith(suffix)
    for text in (a, b):
        cuts = (len(prefix), len(text) - len(suffix))
        assert not any(mark.start < cut < mark.end for mark in marks_in(text) for cut in cuts)


@given(texts)
@settings(max_examples=50)
def test_a_text_shares_all_with_itself(text: str) -> None:
    assert common_prefix(text, text) == common_suffix(text, text) == text


@pytest.mark.parametrize(
    ("start", "end", "yes"),
    [
        ("<think>", "</think>", True),
        ("[THINK]", "[/THINK]", True),
        ("<|START_THINKING|>", "<|END_THINKING|>", True),
        ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", True),
        ("<|tools_prefix|>", "<|tools_suffix|>", True),
        ("<think>", "<think>", False),
        ("</think>", "</think>", False),
        ("<|content|>", "<|end|>", False),
        ("<|bot|>", "</think>", False),
    ],
)
def test_pairs(start: str, end: str, yes: bool) -> None:
    assert paired(start, end) is yes
