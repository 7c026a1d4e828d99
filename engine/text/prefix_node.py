"""The nodes of the prefix cache's trees."""

from collections.abc import Hashable, Iterator

import attrs

from engine.text.media_cells import last_position, weight
from engine.text.tokens import Tokens, row


@attrs.define(eq=False)
class Node:
    """One edge of the tree with the node at its end. ``tokens`` are at positions ``start`` … ``end - 1``."""

    tokens: Tokens
    start: int
    parent: "Node | None"
    children: dict[int, "Node"] = attrs.field(factory=dict)  # by first token
    ends: set[int] = attrs.field(factory=set)  # ids whose cells in the tree end here
    last_used: int = 0
    used_at: int = 0  # the cache's clock then
    cells: int = attrs.field(default=attrs.Factory(lambda node: weight(node.tokens), takes_self=True))
    key: Hashable = ()  # of a root: what the tree's cells were computed with
    n_active: int = 0  # active ids that hold it: those that end here or below

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)

    def subtree(self) -> "Iterator[Node]":
        yield self
        for child in self.children.values():
            yield from child.subtree()

    def holder(self) -> int:
        """Some id that holds all of this node."""
        node = self
        while not node.ends:
            node = next(iter(node.children.values()))
        return min(node.ends)

    def hold(self, above: "Node | None" = None) -> int:
        """One more active id holds this node and those on the way up to ``above``, which it held before.

        Returns how many cells no active id held before.
        """
        cells = 0
        node: Node | None = self
        while node is not None and node is not above:
            if not node.n_active:
                cells += node.cells
            node.n_active += 1
            node = node.parent
        return cells

    def let_go(self, above: "Node | None" = None) -> int:
        """The opposite of ``hold``. Returns how many cells no active id holds any more."""
        cells = 0
        node: Node | None = self
        while node is not None and node is not above:
            node.n_active -= 1
            if not node.n_active:
                cells += node.cells
            node = node.parent
        return cells

    def path(self) -> tuple[Hashable, Tokens]:
        """The tree's key, and all tokens from the root to this node's end."""
        parts: list[Tokens] = []
        node = self
        while node.parent is not None:
            parts.append(node.tokens)
            node = node.parent
        tokens = row()
        for part in reversed(parts):
            tokens += part
        return node.key, tokens

    @property
    def last_position(self) -> int:
        """The highest position that an id which ends here holds; -1: none."""
        return last_position(self.tokens[-1], self.end) if self.tokens else -1
