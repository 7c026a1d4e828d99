import pytest

from llamabox.chat.formats.base import Marks
from llamabox.chat.injection import ControlTokens, Shield
from llamabox.chat.prefill import continued

THINK = Marks("<think>\n", "\n</think>\n\n")
PLAIN = Marks("<r>", "</r>")
FORCED = Marks("", "\n</think>\n\n")


@pytest.mark.parametrize(
    ("prompt", "content", "reasoning", "marks", "end"),
    [
        # Nothing is open.
        ("bot:", "A ", "", None, "A "),
        ("bot:", "A ", "", THINK, "A "),
        ("bot:", "", "", THINK, ""),
        ("bot:", "A", "R", THINK, "<think>\nR\n</think>\n\nA"),
        ("bot:", "", " R ", THINK, "<think>\n R "),
        ("bot:", "A", "R", None, "A"),
        ("bot:", "A", "R", PLAIN, "<r>R</r>A"),
        # The prompt leaves the reasoning open.
        ("bot:<think>\n", "A", "", THINK, "\n</think>\n\nA"),
        ("bot:<think>", "A", "", THINK, "\n</think>\n\nA"),
        ("bot:<think>\n", "A", "R\n", THINK, "R\n</think>\n\nA"),
        ("bot:<think>", "A", "R", THINK, "\nR\n</think>\n\nA"),
        ("bot:<think>\n", "", "R\n", THINK, "R\n"),
        ("bot:<think>\n", "", "", THINK, ""),
        ("bot:<r>", "A", "R", PLAIN, "R</r>A"),
        # The prompt has closed it.
        ("bot:<think>\n\n</think>\n\n", "A", "", THINK, "A"),
        ("bot:<think>\n\n</think>\n\n", "A", "R", THINK, "A"),
        # The prompt alone opens it.
        ("bot:", "A", "R", FORCED, "R\n</think>\n\nA"),
        ("bot:", "A", "", FORCED, "\n</think>\n\nA"),
        ("bot:</think>", "A", "R", FORCED, "A"),
        ("", "A", "R", FORCED, "R\n</think>\n\nA"),
        # Marks that everybody knows.
        ("bot:<think>\n", "A", "R", None, "R\n</think>\n\nA"),
        ("bot:<seed:think>", "A", "R", None, "R</seed:think>A"),
        ("bot:[THINK]", "A", "R", None, "R[/THINK]A"),
        ("bot:<|START_THINKING|>", "A", "", PLAIN, "<|END_THINKING|>A"),
    ],
)
def test_continued(prompt: str, content: str, reasoning: str, marks: Marks | None, end: str) -> None:
    message = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    assert continued(prompt, message, marks) == prompt + end


def test_the_marks_of_the_formats_reasoning_are_left_to_the_template() -> None:
    tokens = ControlTokens(frozenset({"<r>", "</r>", "<think>", "<end>"}))
    message = {"role": "assistant", "content": "<r>R</r><think><end>"}
    shield = Shield(tokens, PLAIN)
    hidden = shield.hide_message(message)["content"]
    assert hidden.startswith("<r>R</r><think>q")
    assert [(piece.text, piece.trusted) for piece in shield.pieces(hidden)] == [
        ("<r>R</r><think>", True),
        ("<end>", False),
    ]
    assert not Shield(tokens).hide_message(message)["content"].startswith("<r>")
    assert not Shield(tokens, PLAIN).hide_message({**message, "role": "user"})["content"].startswith("<r>")
