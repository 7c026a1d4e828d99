"""Which cells hold which prefix: radix trees over the tokens in the KV cache.

Every token in a tree stands for one cell, a medium's tokens together for as many as it takes (engine.text.media). A
sequence id *ends* at a node: it holds the cells of all tokens from the root to that node's end. Ids are *active* (a
running request computes on them) or *idle* (what an ended request left behind, kept for reuse). Sharing costs no
cells: the library lets one cell belong to several sequences.

Radix-tree prefix sharing follows SGLang's RadixAttention (Zheng et al., 2024, arXiv:2312.07104); here a node is kept
alive by sequence ids, because that is how llama.cpp names cells. Where the ids cannot share cells the trees are the
same, and ``engine.text.stream_cache`` says what differs.

What a token's cell holds depends on the adapters that it was computed with, so each set of them, the ``key``, has a
tree of its own; ids and the order of eviction are common to all trees. An id belongs to the tree that it ends in.

Tokens that a running request generates are its own ("private") and no part of the tree until it gives them away with
``extend``. Pure bookkeeping: the ``Memory`` is told what to do, never asked.

One file, though a long one: each operation has to leave trees, ids and the counts of cells right together.
"""

from collections.abc import Hashable, Iterator
from heapq import heappop, heappush
from operator import attrgetter
from typing import Final, Protocol

from engine.text.media_cells import weight, whole
from engine.text.prefix_node import Node
from engine.text.returns import Returns
from engine.text.tokens import Tokens, common_prefix, row

_LAST_USED: Final = attrgetter("last_used")


class SharedMemory(Protocol):
    """The two operations of the KV cache that sharing needs (see ``engine.text.backend.Memory``)."""

    def copy(self, src: int, dst: int, p0: int, p1: int) -> None: ...

    def remove(self, seq: int, p0: int, p1: int | None) -> None: ...


class Heir(Protocol):
    """Who is told what is about to be given up, while it is still there (see ``engine.text.host_memory``)."""

    def leaving(self, node: Node, seq: int, first: int) -> None:
        """The tokens from position ``first`` to the node's end go next; ``seq`` holds them."""


class PrefixCache:
    """The trees, the ids and their states. ``n_seqs`` ids exist, 0 … n_seqs - 1. ``heir``: None: nobody asks."""

    idle_costs = True  # idle cells slow the steps of others down, so they are given up in time

    def __init__(self, n_seqs: int, memory: SharedMemory, heir: Heir | None = None) -> None:
        self._memory = memory
        self._heir = heir
        self._roots: dict[Hashable, Node] = {}
        self._free = list(range(n_seqs))  # a heap; the smallest id is taken first
        self._end: dict[int, Node] = {}  # id → node where it ends
        self._idle: set[int] = set()  # ids that hold something and are not active
        self._tick = 0
        self._oldest = (-1, 0)  # the idle id that was found to be the oldest, and when it had been used last
        self.clock = 0  # tokens computed so far; the caller counts
        self.cells = 0  # cells of the tokens in all trees
        self.active_cells = 0  # those of them that active ids hold
        self.returns = Returns()

    # --- asking ---

    def match(self, tokens: Tokens, key: Hashable = ()) -> int:
        """Length of the longest cached prefix of ``tokens``."""
        node, offset = self._walk(tokens, key)
        return node.start + offset

    def usable(self, tokens: Tokens, length: int, key: Hashable = ()) -> int:
        """How many of the first ``length`` tokens, which are cached, are worth to ``attach`` to: all, or none."""
        return length

    def length(self, seq: int) -> int:
        """Tokens of its tree that the id holds."""
        node = self._end[seq]
        return node.start + len(node.tokens)

    def idle_paths(self, key: Hashable = ()) -> Iterator[Tokens]:
        """All tokens of each idle id of a tree."""
        for seq in sorted(self._idle):
            found, tokens = self._end[seq].path()
            if found == key:
                yield tokens

    @property
    def n_free(self) -> int:
        """Ids that hold nothing."""
        return len(self._free)

    @property
    def oldest_idle(self) -> tuple[Node, int] | None:
        """The leaf that will be given up next, and the id that ends there; None: nothing is idle."""
        leaf = self._oldest_idle_leaf()
        return None if leaf is None else (leaf, min(leaf.ends))

    @property
    def idle_cells(self) -> int:
        """Cells that ``evict`` could free at most."""
        return self.cells - self.active_cells

    def idle_in_prefix(self, tokens: Tokens, length: int, key: Hashable = ()) -> int:
        """How many of the cells of a cached prefix no active id holds."""
        node: Node | None = self._node_at(tokens, length, key)
        while node is not None and not node.n_active:
            node = node.parent
        held = min(length, node.end if node is not None else 0)
        return weight(tokens[held:length])

    # --- using ---

    def attach(self, tokens: Tokens, length: int, key: Hashable = ()) -> int:
        """Take an id for a running request and let it share the first ``length`` tokens, which must be cached.

        The caller makes sure that fewer ids are active than exist.
        """
        self._drop_empty_trees()
        node = self._cut_at(tokens, length, key)
        while not self._free:
            leaf = self._oldest_idle_leaf()
            assert leaf is not None, "more requests run than there are ids"
            if leaf is node:  # nothing else is idle: take over the id that holds just this prefix
                (seq,) = node.ends
                break
            parent = leaf.parent
            self._trim(leaf, leaf.cells)
            if parent is node:  # it may have been joined with its other child
                node = self._cut_at(tokens, length, key)
        else:
            seq = heappop(self._free)
            if length:
                self._memory.copy(node.holder(), seq, 0, length)
            self._end[seq] = node
            node.ends.add(seq)
        self._activate(seq, node)
        return seq

    def extend(self, seq: int, tokens: Tokens) -> None:
        """The active id has computed ``tokens`` behind what it holds: from now on they can be shared.

        The row is the cache's from now on.
        Where the tree has the same tokens already, the id gives up its own cells and shares those.
        """
        node = self._end[seq]
        if not tokens:
            return
        node.ends.discard(seq)
        done = 0
        while done < len(tokens):
            child = node.children.get(tokens[done])
            if child is None:
                node = self._grow(node, tokens[done:] if done else tokens)
                break
            shared = _shared(child.tokens, tokens, done)
            if shared < len(child.tokens):
                child = self._split(child, shared)
            self._adopt(seq, child)
            self.active_cells += child.hold(child.parent)
            done += shared
            node = child
        self._end[seq] = node
        node.ends.add(seq)
        self._touch(node)
        self._drop_redundant(node)

    def release(self, seq: int) -> None:
        """The request is over; what the id holds of the tree stays as idle, unless others hold all of it anyway."""
        self._idle.add(seq)
        node = self._end[seq]
        self.active_cells -= node.let_go()
        if node.parent is None:
            self._forget(seq)
            return
        self._touch(node)
        self._drop_redundant(node)
        self._merge(node)

    def make_private(self, seq: int, keep: int) -> bool:
        """Take all tokens behind position ``keep`` that this active id holds out of the tree, for a context shift.

        Idle ids that share them are dropped. False (and nothing changed) when another active id shares them.
        """
        node = self._end[seq]
        if node.end <= keep:
            return True
        while node.start > keep:
            parent = node.parent
            assert parent is not None, "only the root starts at 0 and has no parent"
            node = parent
        # `node` is on the path and holds position `keep`, so everybody in its subtree shares what lies behind.
        others = [s for n in node.subtree() for s in n.ends if s != seq]
        if any(s not in self._idle for s in others):
            return False
        if self._heir is not None:
            self._heir.leaving(self._end[seq], seq, keep)
        if node.start < keep:
            node = self._split(node, keep - node.start)
            top = node
            (lower,) = node.children.values()
        else:
            lower = node
            assert node.parent is not None, "keep is behind the root"
            top = node.parent
        self.active_cells -= self._end[seq].let_go(top)
        for other in sorted(others):
            self._forget(other)
        self.cells -= sum(n.cells for n in lower.subtree())
        del top.children[lower.tokens[0]]
        self._end[seq] = top
        top.ends.add(seq)
        self._drop_redundant(top)
        return True

    def evict(self, n_cells: int) -> int:
        """Free ``n_cells`` cells of idle ids, the oldest first, from the end; media as a whole. Returns how many."""
        freed = 0
        while freed < n_cells:
            leaf = self._oldest_idle_leaf()
            if leaf is None:
                break
            freed += self._trim(leaf, n_cells - freed)
        return freed

    def expire(self, age: int) -> None:
        """Drop idle leaves that nobody has used while ``age`` tokens were computed."""
        while (leaf := self._oldest_idle_leaf()) is not None and leaf.used_at < self.clock - age:
            self.returns.went(self._trim(leaf, leaf.cells))

    def clear(self) -> None:
        """Drop everything idle."""
        self.evict(self.cells)

    def erase(self, tokens: Tokens, key: Hashable = ()) -> None:
        """Drop the cached prefix of ``tokens`` from its end on, as far as nobody runs on it or continues it."""
        node, offset = self._walk(tokens, key)
        alone = offset == len(node.tokens)
        while alone and node.parent is not None and not node.children and node.ends <= self._idle:
            parent = node.parent
            alone = len(parent.children) == 1 and not parent.ends
            self._trim(node, len(node.tokens), bequeath=False)
            node = parent

    # --- checking ---

    def check_integrity(self) -> None:
        """Raise AssertionError where the books contradict themselves."""
        cells = active_cells = 0
        ends: dict[int, Node] = {}
        for node in (node for root in self._roots.values() for node in root.subtree()):
            cells += node.cells
            active = sum(len(below.ends - self._idle) for below in node.subtree())
            assert node.n_active == active, "active ids that are counted wrongly"
            active_cells += node.cells if active else 0
            assert node.cells == weight(node.tokens), "an edge that is counted wrongly"
            assert whole(node.tokens, 0) == 0, "an edge that begins inside a medium"
            for seq in node.ends:
                assert seq not in ends, f"id {seq} ends twice"
                ends[seq] = node
            for first, child in node.children.items():
                assert child.parent is node, "a child knows another parent"
                assert child.start == node.end, "a child does not start where its parent ends"
                assert child.tokens[0] == first, "a child is filed under another token"
            if node.parent is not None:
                assert node.tokens, "an empty edge"
                assert node.children or node.ends, "cells that nobody holds"
                idle = node.ends & self._idle
                assert not idle or (not node.children and len(node.ends) == 1), "an idle id that adds nothing"
        assert cells == self.cells, f"{cells} cells in the tree, {self.cells} in the books"
        assert active_cells == self.active_cells, f"{active_cells} active cells, {self.active_cells} in the books"
        assert ends == self._end, "ids and nodes disagree"
        assert self._idle <= set(ends), "an idle id without a node"
        assert not set(self._free) & set(ends), "a free id that holds cells"
        oldest = min(self._idle_leaves(), key=_LAST_USED, default=None)
        assert self._oldest_idle_leaf() is oldest, "another leaf is taken for the oldest"

    def spans(self) -> dict[int, int]:
        """Id → n where it holds positions 0 … n - 1 of its tree."""
        return {seq: node.last_position + 1 for seq, node in self._end.items()}

    def is_active(self, seq: int) -> bool:
        return seq in self._end and seq not in self._idle

    # --- inside ---

    def _drop_empty_trees(self) -> None:
        if len(self._roots) > 1:
            self._roots = {key: root for key, root in self._roots.items() if root.children or root.ends}

    def _root(self, key: Hashable) -> Node:
        node = self._roots.get(key)
        if node is None:
            node = self._roots[key] = Node(row(), 0, None, key=key)
        return node

    def _walk(self, tokens: Tokens, key: Hashable) -> tuple[Node, int]:
        """The node where matching ends, and how many of its tokens match."""
        node = self._root(key)
        done, n_tokens = 0, len(tokens)
        while done < n_tokens:
            child = node.children.get(tokens[done])
            if child is None:
                break
            node = child
            shared = _shared(child.tokens, tokens, done)
            if shared < len(child.tokens):
                return node, shared
            done += shared
        return node, len(node.tokens)

    def _node_at(self, tokens: Tokens, length: int, key: Hashable) -> Node:
        """The node that holds the last of the first ``length`` tokens, which must be cached: no other is compared."""
        node = self._root(key)
        while (end := node.end) < length:
            node = node.children[tokens[end]]
        assert length == 0 or node.tokens[length - 1 - node.start] == tokens[length - 1], (
            "what is asked for is not cached"
        )
        return node

    def _cut_at(self, tokens: Tokens, length: int, key: Hashable) -> Node:
        """The node that ends exactly behind the first ``length`` tokens, which must be cached."""
        node = self._node_at(tokens, length, key)
        return node if node.end == length else self._split(node, length - node.start)

    def _activate(self, seq: int, node: Node) -> None:
        """A running request has taken the id, which ends at the node."""
        self._idle.discard(seq)
        revived = node.hold()
        self.active_cells += revived
        self.returns.came_back(revived)
        self._touch(node)
        self._drop_redundant(node)

    def _adopt(self, seq: int, node: Node) -> None:
        """The id has computed what the node holds already: it gives up its own cells and shares those."""
        self._memory.remove(seq, node.start, node.end)
        self._memory.copy(node.holder(), seq, node.start, node.end)

    def _split(self, node: Node, at: int) -> Node:
        """Cut the edge after ``at`` tokens; returns the new upper node. The lower one keeps its identity."""
        parent = node.parent
        assert parent is not None, "the root has nothing to split"
        upper = Node(node.tokens[:at], node.start, parent, {}, set(), node.last_used, node.used_at)
        upper.n_active = node.n_active
        parent.children[upper.tokens[0]] = upper
        node.tokens = node.tokens[at:]
        node.cells -= upper.cells
        node.start += at
        node.parent = upper
        upper.children[node.tokens[0]] = node
        return upper

    def _grow(self, node: Node, tokens: Tokens) -> Node:
        """Put the tokens of an active id, which are the tree's from now on, behind the node that it ended at."""
        cells = weight(tokens)
        self.cells += cells
        self.active_cells += cells
        if node.parent is not None and not node.children and not node.ends:
            node.tokens.extend(tokens)
            node.cells += cells
            return node
        child = Node(tokens, node.end, node, cells=cells, n_active=1)
        node.children[tokens[0]] = child
        self._drop_redundant(node)
        return child

    def _touch(self, node: Node | None) -> None:
        self._tick += 1
        while node is not None:
            node.last_used, node.used_at = self._tick, self.clock
            node = node.parent

    def _drop_redundant(self, node: Node) -> None:
        """Idle ids at a node that others hold anyway add nothing."""
        if node.ends.isdisjoint(self._idle):  # nearly always
            return
        for seq in sorted(node.ends & self._idle):
            if node.children or len(node.ends) > 1:
                self._forget(seq)

    def _forget(self, seq: int) -> None:
        """Drop an id and all its cell references; what only it held must have left the tree already."""
        self._memory.remove(seq, 0, None)
        self._end.pop(seq).ends.discard(seq)
        self._idle.discard(seq)
        heappush(self._free, seq)

    def _oldest_idle_leaf(self) -> Node | None:
        if not self._idle:
            return None
        # Whoever becomes idle has been used just now: the oldest stays the oldest, until it is used, cut or given up.
        seq, used = self._oldest
        leaf = self._end.get(seq)
        if leaf is not None and leaf.last_used == used:
            return leaf
        # An idle id always ends at a leaf that it alone ends at (see check_integrity); no two were used last at once.
        leaf = min(self._idle_leaves(), key=_LAST_USED)
        (seq,) = leaf.ends
        self._oldest = seq, leaf.last_used
        return leaf

    def _idle_leaves(self) -> Iterator[Node]:
        return map(self._end.__getitem__, self._idle)

    def _trim(self, leaf: Node, n_cells: int, *, bequeath: bool = True) -> int:
        """Cut ``n_cells`` cells off an idle leaf's end, or all; more where a medium goes. Returns how many."""
        (seq,) = leaf.ends
        kept = whole(leaf.tokens, max(0, len(leaf.tokens) - n_cells))
        if bequeath and self._heir is not None:
            self._heir.leaving(leaf, seq, leaf.start + kept)
        cut = weight(leaf.tokens[kept:]) if kept else leaf.cells
        self.cells -= cut
        if kept:
            self._memory.remove(seq, leaf.start + kept, None)
            del leaf.tokens[kept:]
            leaf.cells -= cut
            return cut
        parent = leaf.parent
        assert parent is not None, "the root is never idle"
        del parent.children[leaf.tokens[0]]
        leaf.ends.discard(seq)
        self._end[seq] = parent
        parent.ends.add(seq)
        if parent.parent is None or parent.children or len(parent.ends) > 1:
            self._forget(seq)
        else:
            self._memory.remove(seq, parent.end, None)
        self._merge(parent)
        return cut

    def _merge(self, node: Node) -> None:
        """Join a node with its only child, which keeps its identity, where nobody ends in between."""
        parent = node.parent
        if parent is None or node.ends or len(node.children) != 1:
            return
        (child,) = node.children.values()
        node.tokens.extend(child.tokens)
        child.tokens = node.tokens
        child.start = node.start
        child.cells += node.cells
        child.last_used = max(node.last_used, child.last_used)
        child.used_at = max(node.used_at, child.used_at)
        child.parent = parent
        parent.children[child.tokens[0]] = child


def _shared(edge: Tokens, tokens: Tokens, done: int) -> int:
    """How many tokens of the edge are those behind the first ``done``."""
    part = tokens[done : done + len(edge)]
    return len(edge) if part == edge else common_prefix(edge, part)
