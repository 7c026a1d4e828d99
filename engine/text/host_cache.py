"""Prompts in host memory: trees of blocks, one for each set of adapters, within a limit of bytes.

Pure bookkeeping; what the bytes mean, and when they are copied, is the business of ``engine.text.host_memory``. The
tree is a prefix tree over blocks as in vLLM's automatic prefix caching (Kwon et al., 2023, arXiv:2309.06180), except
that a block may be shorter than the others and of use in part. What has not been used longest goes first, ends before
beginnings: a block without the ones before it cannot be reached.
"""

import itertools
from collections.abc import Buffer, Hashable

from engine.text.host_block import Block, block_end
from engine.text.tokens import Tokens, row


class HostCache:
    """``limit``: bytes of states that are kept at most; ``block_size``: tokens of a block, at least 1."""

    def __init__(self, limit: int, block_size: int) -> None:
        self.limit = limit
        self.block_size = block_size
        self.n_bytes = 0
        self.n_tokens = 0
        self._roots: dict[Hashable, Block] = {}
        self._used: dict[Block, None] = {}  # every block, the one that was not used longest first; children first

    def reach(self, tokens: Tokens, held: int, key: Hashable = ()) -> int:
        """How many leading tokens there would be with the blocks behind the first ``held`` ones; at least ``held``.

        What is found counts as used.
        """
        best, last = held, None
        for block, length in self._path(tokens, key):
            if block.end > held and block.state is None:
                break
            best, last = max(best, block.start + length), block
        self._touch(last)
        return best

    def block_at(self, tokens: Tokens, position: int, key: Hashable = ()) -> tuple[Block, int] | None:
        """The block with the state of ``position``, and up to which position it has the same tokens; None: no such."""
        for block, length in self._path(tokens, key):
            if block.start <= position < block.start + length:
                return None if block.state is None else (block, block.start + length)
        return None

    def missing(self, tokens: Tokens, first: int, key: Hashable = ()) -> list[tuple[int, int]]:
        """The blocks [p0, p1) of all that is behind ``first`` that have no state here, in order."""
        spans: list[tuple[int, int]] = []
        node: Block | None = self._roots.get(key)
        start = 0
        while start < len(tokens):
            end = block_end(tokens, start, self.block_size)
            child = None
            if node is not None:
                child, length = node.nearest(tokens[start:end])
                if length < end - start:
                    child = None
            # Where a longer block has lost its own state a shorter one finds no place beside it.
            if end > first and (child is None or (child.state is None and child.end == end)):
                spans.append((start, end))
            node, start = child, end
        return spans

    def put(self, tokens: Tokens, start: int, state: Buffer, key: Hashable = ()) -> bool:
        """Keep the state of the last block of ``tokens``, which begins at ``start``. False: it is too large.

        The blocks before it get their places. What is the beginning of it alone is replaced by it.
        """
        size = memoryview(state).nbytes
        if size > self.limit:
            return False
        node = self._roots.setdefault(key, Block(row(), 0, None, key))
        position = 0
        while position < len(tokens):
            end = block_end(tokens, position, self.block_size)
            node = self._child(node, tokens[position:end])
            position = end
        assert node.start == start, "a block that does not begin where blocks begin"
        self._drop_state(node)
        node.state, node.size = state, size
        self.n_bytes += size
        self.n_tokens += len(node.tokens)
        self._touch(node)
        while self.n_bytes > self.limit:
            self._drop(next(iter(self._used)))
        return True

    def drop(self, block: Block) -> None:
        """Its state is of no use; what is behind it may be. Does nothing for one that has gone already."""
        if block not in self._used:
            return
        if block.children:
            self._drop_state(block)
        else:
            self._drop(block)

    def erase(self, tokens: Tokens, key: Hashable = ()) -> None:
        """Drop the blocks of ``tokens`` from their end on, as far as no other prompt goes on behind them."""
        path = [block for block, length in self._path(tokens, key) if length == len(block.tokens)]
        for block in reversed(path):
            if block.children:
                return
            self._drop(block)

    def check_integrity(self) -> None:
        """Raise AssertionError where the books contradict themselves."""
        blocks: list[Block] = []
        for key, root in self._roots.items():
            assert root.children, "an empty tree"
            pending = [root]
            while pending:
                node = pending.pop()
                pending += node.children
                blocks += node.children
                assert node.key == key, "a block in another tree"
                assert node.children or node.state is not None, "a place for nothing"
                order = [child.tokens for child in node.children]
                assert order == sorted(order), "children that cannot be found"
                covered = any(b[: len(a)] == a for a, b in itertools.pairwise(order))
                assert not covered, "a child that another one covers"
                for child in node.children:
                    assert child.parent is node, "a child knows another parent"
                    assert child.start == node.end, "a child does not begin where its parent ends"
        place = {block: index for index, block in enumerate(self._used)}
        assert place.keys() == set(blocks), "blocks and their order of use disagree"
        assert all(b.parent is None or b.parent not in place or place[b] < place[b.parent] for b in blocks), "order"
        assert self.n_bytes == sum(block.size for block in blocks) <= self.limit, "bytes are counted wrongly"
        assert self.n_tokens == sum(len(b.tokens) for b in blocks if b.state is not None), "tokens are counted wrongly"

    # --- inside ---

    def _path(self, tokens: Tokens, key: Hashable) -> list[tuple[Block, int]]:
        """The blocks that ``tokens`` begin with, each with the number of its tokens that match; all but the last do."""
        path: list[tuple[Block, int]] = []
        node = self._roots.get(key)
        while node is not None and node.end < len(tokens):
            end = block_end(tokens, node.end, self.block_size)
            child, length = node.nearest(tokens[node.end : end])
            if child is None:
                break
            path.append((child, length))
            node = child if length == len(child.tokens) else None
        return path

    def _child(self, parent: Block, tokens: Tokens) -> Block:
        """The child with just these tokens, made if need be."""
        near, length = parent.nearest(tokens)
        if near is not None and near.tokens == tokens:
            return near
        child = Block(tokens, parent.end, parent, parent.key)
        if near is not None and length == len(near.tokens):  # a beginning of it, which ends where its prompt ended
            assert not near.children, "a block of its own size goes on where it ends"
            self._drop_state(near)
            parent.remove(near)
            del self._used[near]
        parent.add(child)
        self._used[child] = None
        return child

    def _touch(self, block: Block | None) -> None:
        """Children before parents: so the first one of all has no children."""
        while block is not None and block.parent is not None:
            del self._used[block]
            self._used[block] = None
            block = block.parent

    def _drop(self, block: Block | None) -> None:
        """Take out a block without children, and the places before it that lead nowhere then."""
        while block is not None and not block.children:
            parent = block.parent
            if parent is None:
                del self._roots[block.key]
                return
            self._drop_state(block)
            parent.remove(block)
            del self._used[block]
            block = parent if parent.state is None else None

    def _drop_state(self, block: Block) -> None:
        if block.state is not None:
            self.n_bytes -= block.size
            self.n_tokens -= len(block.tokens)
            block.state, block.size = None, 0
