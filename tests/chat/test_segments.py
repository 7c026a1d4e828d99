"""Prompts in pieces: the same tokens as the whole, and what was tokenized once is not tokenized again."""

import re
import sys
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from llamabox.chat import segments
from llamabox.chat.injection import ControlTokens
from llamabox.chat.segments import Segments

CONTROLS = {"<a>": 1000, "<b>": 1001, "<a>x": 1002, "<strip>": 1003}
_SPLIT = re.compile("(" + "|".join(sorted(CONTROLS, key=len, reverse=True)) + ")")


class Tokenizer:
    """Words with the space before them are tokens; ``<strip>`` swallows the white space around it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str) -> list[int]:
        self.asked.append(text)
        tokens: list[int] = []
        parts = _SPLIT.split(text)
        for n, part in enumerate(parts):
            if n % 2:
                tokens.append(CONTROLS[part])
                continue
            if n and parts[n - 1] == "<strip>":
                part = part.lstrip()
            if n + 1 < len(parts) and parts[n + 1] == "<strip>":
                part = part.rstrip()
            tokens += [sum(map(ord, word)) for word in re.findall(r"\s?\S*", part) if word]
        return tokens


def make() -> tuple[Segments, Tokenizer]:
    tokenizer = Tokenizer()
    return Segments(CONTROLS, ControlTokens(frozenset(CONTROLS)), tokenizer), tokenizer


def tokens_of(found: Segments, tokenizer: Tokenizer, text: str) -> list[int]:
    parts = found.split(text)
    return found.join(parts, {part: tokenizer(part) for part in found.missing(parts)})


PROMPTS = st.lists(st.sampled_from([*CONTROLS, "hello world", " ", "\n", "x", "<", "<a", " end"]), max_size=12)


@given(prompts=st.lists(PROMPTS.map("".join), min_size=1, max_size=4))
def test_the_same_tokens_as_in_one_piece(prompts: list[str]) -> None:
    found, tokenizer = make()
    for text in prompts:
        assert tokens_of(found, tokenizer, text) == Tokenizer()(text)


def test_only_what_is_new_is_tokenized() -> None:
    found, tokenizer = make()
    tokens_of(found, tokenizer, "<a>one two<b>three<b>")
    tokenizer.asked.clear()
    assert tokens_of(found, tokenizer, "<a>one two<b>three<b>four") == Tokenizer()("<a>one two<b>three<b>four")
    assert tokenizer.asked == ["four"]


def test_the_oldest_are_forgotten(monkeypatch) -> None:
    found, tokenizer = make()
    tokens_of(found, tokenizer, "aaaa")
    monkeypatch.setattr(segments, "CAPACITY", 2 * found.size)
    for text in ("bbbb", "aaaa", "cccc"):
        tokens_of(found, tokenizer, text)
    assert found.missing(["aaaa", "bbbb", "cccc"]) == ["bbbb"]


def test_what_is_kept_takes_little_memory_and_what_the_limit_counts() -> None:
    found, tokenizer = make()
    texts = [f"{n:04} " + " ".join(f"{word}" for word in range(n, n + 200)) for n in range(100)]
    tokens_of(found, tokenizer, "warm")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        counted = found.size
        for n in range(len(texts)):
            found.join([texts[n]], {texts[n]: [1000 + token for token in range(800)]})
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    text_bytes = sum(sys.getsizeof(text) for text in texts)
    assert taken < 100 * 800 * 6, "four bytes a token and a little, not a number object each"
    assert taken + text_bytes <= 1.1 * (found.size - counted)
