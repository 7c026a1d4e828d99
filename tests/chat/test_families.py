"""The families of the tests: their templates render what they should, and as their models write."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.chat.families import CONTENT, FAMILIES, FULL, PLAIN, REASONING, TOOLS, Family
from tests.chat.families.samples import Call

USER = {"role": "user", "content": "what the user says"}

every = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
calling = pytest.mark.parametrize("family", [f for f in FAMILIES if f.tools], ids=lambda family: family.name)


def behind_the_prompt(family: Family, assistant: dict[str, Any]) -> str:
    """What the template writes of the assistant's turn, from where the prompt ends."""
    prompt = family.render([USER], TOOLS, prompt=True)
    text = family.render([USER, assistant], TOOLS)
    if forgets(family):
        # The turn goes on without the reasoning that the prompt has opened.
        prompt = prompt.rpartition("<think>")[0]
        return text.removeprefix(prompt).removeprefix("</think>")
    assert text.startswith(prompt)
    return text.removeprefix(prompt)


def forgets(family: Family) -> bool:
    """Whether the prompt opens reasoning that the template never writes."""
    return family.reasoning_open and not family.reasoning_kept


def written(family: Family, calls: Sequence[Call] = (), content: str = "") -> str:
    """The wire, as far as the template writes it."""
    text = family.wire(calls, content=content, reasoning=REASONING if family.reasoning_kept else "")
    return text.partition("</think>")[2].lstrip("\n") if forgets(family) else text


def calls_of(family: Family) -> list[Call]:
    """As many calls as fit in one turn, with arguments that the template writes as its model does."""
    calls = [*PLAIN, *(() if family.python_values else FULL)]
    return calls if family.parallel else calls[-1:]


def test_names_are_unique() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names) >= 28


@every
def test_plain(family: Family) -> None:
    system = [{"role": "system", "content": "what the system says"}] if family.system else []
    bare = family.render([*system, USER])
    text = family.render([*system, USER], prompt=True)
    for message in (*system, USER):
        assert message["content"] in text
    assert text.startswith(bare), "the prompt comes last"


@every
def test_turns_are_in_order(family: Family) -> None:
    turns = [
        {"role": "user", "content": "first-question"},
        family.assistant(content="first-answer"),
        {"role": "user", "content": "second-question"},
        family.assistant(content="second-answer"),
        {"role": "user", "content": "third-question"},
    ]
    text = family.render(turns, prompt=True)
    places = [text.index(turn["content"]) for turn in turns]
    assert places == sorted(places)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.reasoning], ids=lambda family: family.name)
def test_what_the_prompt_leaves_open_the_wire_closes(family: Family) -> None:
    on, off = (family.render([USER], prompt=True, thinking=thinking).rstrip() for thinking in (True, False))
    assert on.endswith("<think>") == family.reasoning_open
    assert off.endswith("<think>") == (family.name == "minimax-m2"), "it thinks always"
    assert ("</think>" in family.wire(content="x").partition("x")[0]) >= family.reasoning_open


@calling
def test_tools_appear(family: Family) -> None:
    text = family.render([USER], TOOLS, prompt=True)
    without = family.render([USER], prompt=True)
    for tool in TOOLS:
        function = tool["function"]
        for shown in (function["name"], function["description"], *function["parameters"]["properties"]):
            assert shown in text
        assert function["name"] not in without


def test_a_family_without_tools_shows_none() -> None:
    for family in FAMILIES:
        shows = family.render([USER], TOOLS, prompt=True) != family.render([USER], prompt=True)
        assert shows == family.tools, family.name


@calling
def test_calls_and_results_appear(family: Family) -> None:
    calls = [("get_weather", {"city": "sntnl-city", "days": 3}), ("store_note", {"text": "sntnl-text"})]
    calls = calls if family.parallel else calls[:1]
    turns = [USER, family.assistant(calls)]
    turns += [family.result(n, name, f"sntnl-result-{n}") for n, (name, _) in enumerate(calls)]
    text = family.render(turns, prompt=True)
    shown = [f"sntnl-{what}" for what in ("city", "text")[: len(calls)]]
    shown += [f"sntnl-result-{n}" for n in range(len(calls))]
    places = [text.index(sentinel) for sentinel in shown]
    assert places == sorted(places)
    later = family.render([*turns, family.assistant(content="sntnl-answer"), USER], prompt=True)
    assert "sntnl-answer" in later
    assert shown[0] in later


@calling
def test_the_wire_is_what_the_template_writes(family: Family) -> None:
    calls = calls_of(family)
    reasoning = REASONING if family.reasoning_kept else ""
    for content in {"", CONTENT} if family.content_beside_calls else {""}:
        text = behind_the_prompt(family, family.assistant(calls, content=content, reasoning=reasoning))
        wire = written(family, calls, content)
        assert text.startswith(wire)
        assert text.removeprefix(wire).startswith(family.end)


@every
def test_the_answer_on_the_wire_is_what_the_template_writes(family: Family) -> None:
    reasoning = REASONING if family.reasoning_kept else ""
    text = behind_the_prompt(family, family.assistant(content=CONTENT, reasoning=reasoning))
    assert text.startswith(written(family, content=CONTENT))


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.model_ids], ids=lambda family: family.name)
def test_ids_are_on_the_wire(family: Family) -> None:
    written = family.wire(PLAIN)
    for number, (name, _) in enumerate(PLAIN):
        assert family.id_of(number, name) in written


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.special], ids=lambda family: family.name)
def test_special_markers_are_of_the_format(family: Family) -> None:
    calls = FULL if family.parallel else FULL[:1]
    texts = [wire(calls, CONTENT, REASONING) for wire in (family.writes, *family.also)]
    texts += [family.wire(content=CONTENT, reasoning=REASONING), family.source]
    for marker in family.special:
        assert any(marker in text for text in texts) or marker == "<|python_tag|>"
