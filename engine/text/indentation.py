"""Ends a generation where a new line is indented less than asked for (``n_indent``, for code completion)."""


class IndentationGuard:
    """Watches the text; the line that generation started in is never judged."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._indent: int | None = None  # blanks at the current line's start, None: not there any more

    def feed(self, text: str) -> tuple[str, bool]:
        """The part of ``text`` that may be sent, and whether a line with too little indentation ended it."""
        if self._least <= 0:
            return text, False
        line_start = 0
        for i, char in enumerate(text):
            if char == "\n":
                self._indent = 0
                line_start = i + 1
            elif self._indent is not None and char in " \t":
                self._indent += 1
            elif self._indent is not None:
                if self._indent < self._least:
                    return text[:line_start], True
                self._indent = None
        return text, False
