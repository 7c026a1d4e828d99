"""A compiled chat template."""

from functools import lru_cache
from typing import Any, Final

import jinja2

from llamabox.chat.budget import Limits, copy_plain
from llamabox.chat.environment import ChatEnvironment
from llamabox.chat.errors import TemplateError, TemplateLimitError, TemplateSyntaxInvalidError
from llamabox.chat.functions import date_line, today

MAX_SOURCE: Final = 1024 * 1024  # characters


class ChatTemplate:
    """A template's text, compiled. Not thread-safe: one rendering at a time."""

    def __init__(self, source: str) -> None:
        """Compile. Raises TemplateSyntaxInvalidError naming the line, TemplateLimitError."""
        if len(source) > MAX_SOURCE:
            raise TemplateLimitError(f"the template is longer than {MAX_SOURCE} characters")
        self._environment = ChatEnvironment()
        try:
            self._template = self._environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateSyntaxInvalidError(f"line {error.lineno}: {error.message}") from None
        except TemplateLimitError:
            raise
        except (RecursionError, MemoryError, SyntaxError, ValueError, jinja2.TemplateError) as error:
            raise TemplateSyntaxInvalidError(f"{type(error).__name__}: {error}") from None

    def render(self, variables: dict[str, Any], limits: Limits | None = None) -> str:
        """The text for ``variables`` (JSON values; copied, a template may change its copy).

        Raises TemplateError if the template refuses them or fails, TemplateLimitError if it does too much.
        """
        limits = limits or Limits()
        self._environment.start(limits)
        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate({**_expected(), **copy_plain(variables)}):
                length += len(part)
                if length > limits.output:
                    raise TemplateLimitError(f"the template writes more than {limits.output} characters")
                parts.append(part)
        except TemplateError:
            raise
        except RecursionError:
            raise TemplateLimitError("the template calls itself too deeply") from None
        except MemoryError:
            raise TemplateLimitError("the template takes too much memory") from None
        except Exception as error:  # whatever Python raises for input that the template did not expect
            raise TemplateError(f"the chat template failed: {type(error).__name__}: {error}") from error
        return "".join(parts)


def _expected() -> dict[str, str]:
    """What some templates insist on. ``datetime`` is a day: a prompt that changes by the second is never cached."""
    return {"date_string": today(), "datetime": date_line(), "functions": ""}


@lru_cache(maxsize=8)
def compiled(source: str) -> ChatTemplate:
    """The template of a text, compiled once per interpreter. Raises as ChatTemplate does."""
    return ChatTemplate(source)
