"""Continuing an assistant's last message: its text goes behind the generation prompt, never through the template."""

from typing import Any, Final

# What opens and closes reasoning in the templates that have it.
REASONING_MARKS: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)


def continued(prompt: str, message: dict[str, Any], source: str) -> str:
    """``prompt`` (ending in the generation prompt) with the text that the assistant has already said.

    Reasoning that the prompt leaves open is closed before the content; ``reasoning_content`` goes into it first. A
    message with reasoning alone leaves it open: the model goes on thinking. ``source`` is the template's text, which
    tells the marks where the prompt does not.
    """
    content: str = message["content"]
    reasoning = message.get("reasoning_content") or message.get("thinking") or ""
    opened = next((marks for marks in REASONING_MARKS if prompt.rstrip().endswith(marks[0])), None)
    if opened is None:
        known = next((marks for marks in REASONING_MARKS if marks[0] in source), None)
        if not reasoning or known is None:
            return prompt + content
        opened = known
        prompt += f"{opened[0]}\n"
    elif not reasoning and not content:
        return prompt
    text = prompt + reasoning
    if not content:
        return text
    return f"{text.rstrip()}\n{opened[1]}\n\n{content}"
