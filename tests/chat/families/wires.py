"""How each family writes one turn, from behind the generation prompt to before the turn's end."""

# ruff: noqa: RUF001 (the markers are spelled so)

import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.chat.families.samples import Call

type Wire = Callable[[Sequence[Call], str, str], str]


def js(value: Any) -> str:
    """JSON as the templates write it."""
    return json.dumps(value, ensure_ascii=False)


def raw(value: Any) -> str:
    """The value of a tagged argument: strings as they are, JSON for the rest."""
    return value if isinstance(value, str) else js(value)


def call_id(number: int) -> str:
    """An id of nine letters and digits, as Mistral's models write them."""
    return f"call{number:05d}"


# --- JSON with the name inside ---


def llama(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """One call, and nothing but the call."""
    if not calls:
        return content
    ((name, arguments),) = calls
    return f'{{"name": {js(name)}, "parameters": {js(arguments)}}}'


def _hermes_calls(calls: Sequence[Call]) -> str:
    return "\n".join(
        f'<tool_call>\n{{"name": {js(name)}, "arguments": {js(arguments)}}}\n</tool_call>' for name, arguments in calls
    )


def _listed(calls: Sequence[Call]) -> str:
    return "[" + ", ".join(js({"name": name, "arguments": arguments}) for name, arguments in calls) + "]"


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def hermes(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Hermes 2, Qwen 2.5, Granite 4."""
    return _lines(content, _hermes_calls(calls))


def qwq(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """The prompt has opened the reasoning."""
    return f"{reasoning}\n</think>\n\n" + hermes(calls, content, "")


def qwen3(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Reasoning when it likes to."""
    return (f"<think>\n{reasoning}\n</think>\n\n" if reasoning else "") + hermes(calls, content, "")


def smollm3(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """As Qwen 3 with one newline less."""
    return (f"<think>\n{reasoning}\n</think>\n" if reasoning else "") + hermes(calls, content, "")


def mistral_nemo(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """One list, the id last."""
    if not calls:
        return content
    items = [{"name": name, "arguments": a, "id": call_id(number)} for number, (name, a) in enumerate(calls)]
    return "[TOOL_CALLS]" + js(items)


def command_r7b(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """A list in lines, the id first; text between marks of its own."""
    thought = f"<|START_THINKING|>{reasoning}<|END_THINKING|>" if reasoning else ""
    if not calls:
        return f"{thought}<|START_RESPONSE|>{content}<|END_RESPONSE|>"
    items = [
        f'    {{"tool_call_id": "{number}", "tool_name": {js(name)}, "parameters": {js(arguments)}}}'
        for number, (name, arguments) in enumerate(calls)
    ]
    return thought + "<|START_ACTION|>[\n" + ",\n".join(items) + "\n]<|END_ACTION|>"


def firefunction(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """A word, then the list."""
    return content + (f" functools{_listed(calls)}" if calls else "")


def nemotron_nano_2(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """The prompt has opened the reasoning; a list between tags."""
    return f"{reasoning}\n</think>\n\n" + _lines(content, f"<TOOLCALL>{_listed(calls)}</TOOLCALL>" if calls else "")


def granite_3(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Text is wrapped where reasoning comes before it; the list has no end mark."""
    text = f"<response>{content}</response>" if reasoning and content else content
    thought = f"<think>{reasoning}</think>" if reasoning else ""
    return thought + text + (f"<|tool_call|>{_listed(calls)}" if calls else "")


def phi_4_mini(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """A list between marks."""
    return content + (f"<|tool_call|>{_listed(calls)}<|/tool_call|>" if calls else "")


def apertus(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """The name is the key."""
    return content + (f"<|tools_prefix|>{js([{name: a} for name, a in calls])}<|tools_suffix|>" if calls else "")


# --- the name outside, the arguments JSON ---


def mistral_small(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """With ids."""
    return content + "".join(
        f"[TOOL_CALLS]{name}[CALL_ID]{call_id(number)}[ARGS]{js(arguments)}"
        for number, (name, arguments) in enumerate(calls)
    )


def devstral(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Without ids."""
    return content + "".join(f"[TOOL_CALLS]{name}[ARGS]{js(arguments)}" for name, arguments in calls)


def ministral(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Reasoning in brackets."""
    return (f"[THINK]{reasoning}[/THINK]" if reasoning else "") + devstral(calls, content, "")


def deepseek_r1(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Arguments in a fence."""
    text = f"{reasoning}\n</think>\n\n{content}"
    if not calls:
        return text
    items = [
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{js(arguments)}\n```<｜tool▁call▁end｜>"
        for name, arguments in calls
    ]
    return text + "<｜tool▁calls▁begin｜>" + "\n".join(items) + "<｜tool▁calls▁end｜>"


def deepseek_v3(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """The same marks without the fence."""
    text = f"{reasoning}</think>{content}"
    if not calls:
        return text
    items = [f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{js(a)}<｜tool▁call▁end｜>" for name, a in calls]
    return text + "<｜tool▁calls▁begin｜>" + "".join(items) + "<｜tool▁calls▁end｜>"


def gpt_oss(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Messages on channels; the first one's start is in the prompt, the last one's end is the turn's."""
    messages = [f"<|channel|>analysis<|message|>{reasoning}"] if reasoning else []
    if calls:
        if content:
            messages.append(f"<|channel|>commentary<|message|>{content}")
        ((name, arguments),) = calls
        messages.append(f" to=functions.{name}<|channel|>commentary json<|message|>{js(arguments)}")
    elif content:
        messages.append(f"<|channel|>final<|message|>{content}")
    return "<|end|><|start|>assistant".join(messages)


def gpt_oss_own(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """As the model writes a call itself: the recipient behind the channel."""
    text = gpt_oss(calls, content, reasoning)
    for name, _ in calls:
        head = f" to=functions.{name}<|channel|>commentary json<|message|>"
        text = text.replace(head, f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>")
    return text


def chatglm(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """No marks at all."""
    if not calls:
        return f"\n{content}"
    ((name, arguments),) = calls
    return f"{name}\n{js(arguments)}"


def functionary_31(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """The name in a tag."""
    return content + "".join(f"<function={name}>{js(arguments)}</function>" for name, arguments in calls)


def functionary_32(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Recipients; the first one's mark is in the prompt."""
    parts = [("all", content)] if content else []
    parts += [(name, js(arguments)) for name, arguments in calls]
    return ">>>".join(f"{name}\n{text}" for name, text in parts)


def kimi(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """The name within the id."""
    text = f"<think>{reasoning}</think>{content}"
    if not calls:
        return text
    items = [
        f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>{js(arguments)}<|tool_call_end|>"
        for number, (name, arguments) in enumerate(calls)
    ]
    return text + "<|tool_calls_section_begin|>" + "".join(items) + "<|tool_calls_section_end|>"


# --- arguments as tags ---


def _tagged(name: str, arguments: dict[str, Any], before: str, after: str) -> str:
    values = "".join(f"<parameter={key}>{before}{raw(v)}{after}</parameter>\n" for key, v in arguments.items())
    return f"<function={name}>\n{values}</function>"


def qwen3_coder(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Values in lines of their own."""
    items = [f"<tool_call>\n{_tagged(name, a, '\n', '\n')}\n</tool_call>" for name, a in calls]
    return _lines(content + "\n" if content and calls else content, "\n".join(items))


def qwen3_coder_python(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """As its template writes values: true and false as in Python."""
    text = qwen3_coder(calls, content, reasoning)
    for word in (True, False):
        text = text.replace(f">\n{js(word)}\n</", f">\n{word}\n</")
    return text


def nemotron_3(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """As Qwen3-Coder, behind reasoning that the prompt has opened."""
    items = [f"<tool_call>\n{_tagged(name, a, '\n', '\n')}\n</tool_call>\n" for name, a in calls]
    text = f"{reasoning}\n</think>\n{content}".rstrip("\n")
    return text + ("\n" if calls else "") + "".join(items)


def seed_oss(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Values between the tags."""
    thought = f"<seed:think>{reasoning}</seed:think>" if reasoning else ""
    items = [f"<seed:tool_call>\n{_tagged(name, a, '', '')}\n</seed:tool_call>" for name, a in calls]
    return _lines(thought, content + "\n" if content and calls else content, "\n".join(items))


def glm_45(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Keys and values in tags, in lines."""
    items = []
    for name, arguments in calls:
        pairs = [f"<arg_key>{key}</arg_key>\n<arg_value>{raw(value)}</arg_value>\n" for key, value in arguments.items()]
        items.append(f"<tool_call>{name}\n{''.join(pairs)}</tool_call>")
    return "\n" + _lines(f"<think>{reasoning}</think>", content, *items)


def glm_47(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """The same without lines."""
    items = []
    for name, arguments in calls:
        pairs = [f"<arg_key>{key}</arg_key><arg_value>{raw(value)}</arg_value>" for key, value in arguments.items()]
        items.append(f"<tool_call>{name}{''.join(pairs)}</tool_call>")
    return f"{reasoning}</think>{content}{''.join(items)}"


def minimax(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Names in attributes, one section for all."""
    text = f"{reasoning}\n</think>\n\n{content}"
    if not calls:
        return text
    items = []
    for name, arguments in calls:
        values = [f'<parameter name="{key}">{raw(value)}</parameter>\n' for key, value in arguments.items()]
        items.append(f'<invoke name="{name}">\n{"".join(values)}</invoke>\n')
    return f"{text}\n<minimax:tool_call>\n{''.join(items)}</minimax:tool_call>"


def deepseek_dsml(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Each value says whether it is a string."""
    text = f"{reasoning}</think>{content}"
    if not calls:
        return text
    items = []
    for name, arguments in calls:
        values = [
            f'<｜DSML｜parameter name="{key}" string="{js(isinstance(v, str))}">{raw(v)}</｜DSML｜parameter>\n'
            for key, v in arguments.items()
        ]
        items.append(f'<｜DSML｜invoke name="{name}">\n{"".join(values)}</｜DSML｜invoke>\n')
    return f"{text}\n\n<｜DSML｜function_calls>\n{''.join(items)}</｜DSML｜function_calls>"


# --- notations of their own ---


def lfm2(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """Python calls; objects are JSON."""

    def literal(value: Any) -> str:
        if isinstance(value, str):
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
        return js(value) if isinstance(value, dict) else repr(value)

    text = (f"<think>{reasoning}</think>" if reasoning else "") + content
    if not calls:
        return text
    items = [f"{name}({', '.join(f'{key}={literal(v)}' for key, v in a.items())})" for name, a in calls]
    return f"{text}<|tool_call_start|>[{', '.join(items)}]<|tool_call_end|>"


def gemma_4(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """JSON with bare keys, and strings in quotation marks that are one token."""

    def written(value: Any) -> str:
        match value:
            case str():
                return f'<|"|>{value}<|"|>'
            case dict():
                return "{" + ",".join(f"{key}:{written(item)}" for key, item in sorted(value.items())) + "}"
            case list():
                return "[" + ",".join(map(written, value)) + "]"
            case _:
                return js(value)

    thought = f"<|channel>thought\n{reasoning}\n<channel|>" if reasoning else ""
    return thought + content + "".join(f"<|tool_call>call:{name}{written(a)}<tool_call|>" for name, a in calls)


def plain(calls: Sequence[Call], content: str, reasoning: str) -> str:
    """No calls."""
    assert not calls, "this family cannot call"
    return content
