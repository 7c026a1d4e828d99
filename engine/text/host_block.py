"""The pieces in which prompts are kept in host memory, and where a prompt is cut into them.

A prompt is cut at the same places whatever follows, so two prompts with a common beginning share its blocks.
"""

from bisect import bisect_left
from collections.abc import Buffer, Hashable

import attrs

from engine.text.media_cells import whole
from engine.text.tokens import Tokens, common_prefix


def block_end(tokens: Tokens, start: int, size: int) -> int:
    """Where the block that begins at ``start`` ends: ``size`` tokens on, or where the medium there ends."""
    end = min(start + size, len(tokens))
    while whole(tokens, end) != end:
        end += 1
    return end


@attrs.define(eq=False)
class Block:
    """A node of the host memory's trees: ``tokens`` at positions ``start`` … ``end - 1``, and their cells as bytes.

    ``state`` None: nothing but the place of the blocks behind it. Siblings are in the order of their tokens, and none
    of them begins with another one.
    """

    tokens: Tokens
    start: int
    parent: "Block | None"
    key: Hashable = ()
    state: Buffer | None = None
    size: int = 0  # bytes of the state
    children: "list[Block]" = attrs.field(factory=list)

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    def nearest(self, tokens: Tokens) -> "tuple[Block | None, int]":
        """The child with the longest common prefix with ``tokens``, and that length; (None, 0) if all differ."""
        at = bisect_left(self.children, tokens, key=_tokens)
        best: Block | None = None
        longest = 0
        for child in self.children[max(0, at - 1) : at + 1]:  # in their order the next ones have most in common
            length = common_prefix(child.tokens, tokens)
            if length > longest:
                best, longest = child, length
        return best, longest

    def add(self, child: "Block") -> None:
        self.children.insert(bisect_left(self.children, child.tokens, key=_tokens), child)

    def remove(self, child: "Block") -> None:
        del self.children[bisect_left(self.children, child.tokens, key=_tokens)]


def _tokens(block: Block) -> Tokens:
    return block.tokens
