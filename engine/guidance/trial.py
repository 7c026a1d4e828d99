"""Tries a grammar in a child process when compiling it here might crash this one, or never end.

llguidance bounds most of what a grammar can cost, but not its own recursion (some thousand rules in a chain end the
process), nor the intersection of patterns, which takes time exponential in their number and cannot be interrupted.
Grammars with nothing of that kind are not tried: the child takes a fifth of a second.
"""

import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

from engine.errors import EngineUnavailable, InvalidRequest
from engine.guidance import library
from engine.native.trial import module_command, no_core_dump, run_child

_PLAIN_CHARACTERS: Final = 64 * 1024
_PLAIN_RULES: Final = 500
_PLAIN_OBJECTS: Final = 300  # where schemas refer to each other; else the parser bounds how deep they go
_SUSPICIOUS: Final = re.compile(r'[&~]|"allOf"|"pattern|"not"|substring|\\u')
_TIMEOUT: Final = 10.0  # seconds
_STACK: Final = 4 * 2**20  # bytes: half of what threads have here, where it must not overflow


def needs_trial(source: str) -> bool:
    """Whether a grammar has anything in it that could do harm."""
    return (
        len(source) > _PLAIN_CHARACTERS
        or source.count("\n") > _PLAIN_RULES
        or ('"$ref"' in source and source.count("{") > _PLAIN_OBJECTS)
        or _SUSPICIOUS.search(source) is not None
    )


def check(source: str) -> None:
    """Compile a grammar in a child.

    Raises InvalidRequest if that kills the child or takes too long, EngineUnavailable if there can be no child.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="replace", prefix="llama-box-") as file:
        file.write(source)
        file.flush()
        outcome = run_child(module_command("engine.guidance.trial"), file.name, _TIMEOUT)
    if outcome.status == 0:
        return
    if outcome.killed_by or outcome.status is None:
        raise InvalidRequest("the grammar is too complex")
    raise EngineUnavailable(f"the grammar could not be tried: {outcome.complaint or outcome.status}")


class _Bytes:
    """A vocabulary of the 256 bytes and an end token, as llguidance wants it."""

    eos_token_id: Final = 256
    bos_token_id: Final = None
    tokens: Final = (*(bytes([value]) for value in range(256)), b"\xff<end>")
    special_token_ids: Final = (256,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def compile_with_bytes(source: str) -> Any:
    """A matcher of the grammar over single bytes that has looked for what may come first. May kill the process."""
    guidance = library.load()
    tokenizer = guidance.LLTokenizer(guidance.TokenizerWrapper(_Bytes()))
    grammar = guidance.LLMatcher.grammar_from_lark(source)
    matcher = guidance.LLMatcher(tokenizer, grammar, log_level=0, limits=library.limits())
    matcher.compute_bitmask()
    matcher.compute_ff_tokens()
    return matcher


def main(path: str) -> int:
    """The child: exit status 0 unless it dies. Errors of the grammar are the parent's to find."""
    no_core_dump()
    threading.stack_size(_STACK)
    thread = threading.Thread(target=compile_with_bytes, args=(Path(path).read_text(encoding="utf-8"),))
    thread.start()
    thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
