"""The prefix cache where each id has a stream of cells of its own (llama.cpp's ``kv_unified = false``).

The trees say which id holds which prefix, as in ``engine.text.prefix_cache``, and a prefix is still computed once.
But a token in a tree stands for a cell of *each* id that holds it: to share is to copy, or to take over what an idle id
holds. Idle ids cost the steps of others nothing, so they stay until their streams are needed; and no id can take cells
from another, so nothing is ever evicted for its cells.

Which id a request gets that begins with something cached:

1. an idle id that holds the prefix and little more: its end is cut off;
2. a free id, into which the prefix is copied, so that whoever comes back to what lies behind still finds it;
3. the id that was idle longest: if it holds the prefix its end is cut off, else it is given up, and 2.

What is given up or cut off is offered to the heir before. A copy costs a pass over all cells of its source, whatever
part of them is wanted (``copy_price``): where computing the part takes no longer, that is done instead.
"""

from collections.abc import Hashable
from heapq import heappop
from typing import Final

from engine.text.prefix_cache import PrefixCache
from engine.text.prefix_node import Node
from engine.text.tokens import Tokens

# Tokens behind a prefix that are not worth a stream of their own. A conversation that goes on is seldom tokenized just
# as it was generated at its end, and a template may put something else behind an answer.
SHORT_TAIL: Final = 16
# As in engine.text.admission: fewer are not worth waiting for either.
LEAST_COPY: Final = 16
# Tokens computed in the time that a cell is copied, until it is measured: 20 µs and 10 ms, Qwen 0.5B on two cores.
COPY_PRICE: Final = 0.002


class StreamCache(PrefixCache):
    """As ``PrefixCache``; ``memory.copy`` is asked for beginnings only, and for ids that are empty."""

    idle_costs = False
    copy_price = COPY_PRICE  # whoever measures sets it

    def usable(self, tokens: Tokens, length: int, key: Hashable = ()) -> int:
        """See ``PrefixCache.usable``: none where they would have to be copied and are too few for that."""
        if length == 0:
            return 0
        node = self._node_at(tokens, length, key)
        if self._to_take_over(node, length) is not None:
            return length
        cost = self.copy_price * self._cells_of(self._source(node))
        return length if length >= max(LEAST_COPY, cost) else 0

    @property
    def used(self) -> int:
        """Cells of the trees' tokens in all streams."""
        return sum(map(self._cells_of, self._end))

    @property
    def used_active(self) -> int:
        """Those of them in the streams of active ids."""
        return sum(self._cells_of(seq) for seq in self._end if seq not in self._idle)

    def attach(self, tokens: Tokens, length: int, key: Hashable = ()) -> int:
        """See ``PrefixCache.attach``, and above for which id it is."""
        self._drop_empty_trees()
        node = self._cut_at(tokens, length, key)
        while (seq := self._to_take_over(node, length)) is None and not self._free:
            leaf = self._oldest_idle_leaf()
            assert leaf is not None, "more requests run than there are ids"
            self._trim(leaf, leaf.cells)
            node = self._cut_at(tokens, length, key)
        if seq is not None:
            self._retreat(seq, node)
        else:
            seq = heappop(self._free)
            if length:
                self._memory.copy(self._source(node), seq, 0, length)
            self._end[seq] = node
            node.ends.add(seq)
        self._activate(seq, node)
        return seq

    def make_private(self, seq: int, keep: int) -> bool:
        """See ``PrefixCache.make_private``. Nobody else's cells move, so it is always done."""
        end = self._end[seq]
        if end.end <= keep:
            return True
        if self._heir is not None and len(end.ends) == 1 and not end.children:
            self._heir.leaving(end, seq, max(keep, end.start))
        top = end
        while top.start > keep:
            assert top.parent is not None, "only the root starts at 0 and has no parent"
            top = top.parent
        if top.start == keep:
            assert top.parent is not None, "keep is behind the root"
            top = top.parent
        else:
            top = self._split(top, keep - top.start)
        self.active_cells -= end.let_go(top)
        self._move_up(seq, top)
        self._drop_redundant(top)
        return True

    def expire(self, age: int) -> None:
        """Nothing is too old: idle ids cost nobody anything."""

    # --- inside ---

    def _adopt(self, seq: int, node: Node) -> None:
        """The id keeps its own cells."""

    def _cells_of(self, seq: int) -> int:
        cells = 0
        node: Node | None = self._end[seq]
        while node is not None:
            cells += node.cells
            node = node.parent
        return cells

    def _to_take_over(self, node: Node, length: int) -> int | None:
        """The idle id, if any, that is to be cut off behind the first ``length`` tokens, which end in the node."""
        if length == 0:
            return None
        below = [(n.end - length, s) for n in node.subtree() for s in n.ends if s in self._idle]
        if not below:
            return None
        tail, seq = min(below)
        if tail <= SHORT_TAIL:
            return seq
        if self._free:
            return None
        oldest = self._oldest_idle_leaf()
        assert oldest is not None, "one is idle"
        (seq,) = oldest.ends
        return seq if (oldest.end - length, seq) in below else None

    def _source(self, node: Node) -> int:
        """The id that holds the node and least else: all that it holds is read for a copy."""
        return min((n.end, s) for n in node.subtree() for s in n.ends)[1]

    def _retreat(self, seq: int, node: Node) -> None:
        """Cut an idle id off behind the node that it holds."""
        leaf = self._end[seq]
        if leaf is node:
            return
        if self._heir is not None:
            self._heir.leaving(leaf, seq, leaf.start)  # what lies before that, others hold too
        self._move_up(seq, node)
        self._memory.remove(seq, node.end, None)

    def _move_up(self, seq: int, top: Node) -> None:
        """Let the id end at ``top``, which it holds; what only it held behind that leaves the tree."""
        node = self._end[seq]
        node.ends.discard(seq)
        while node is not top and not node.children and not node.ends:
            parent = node.parent
            assert parent is not None, "top is above"
            self.cells -= node.cells
            del parent.children[node.tokens[0]]
            node = parent
        self._end[seq] = top
        top.ends.add(seq)
        if node is not top:
            self._merge(node)
