"""Which tokens are a block, where a process keeps it, and how much a question looks at it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .parts import Part
from .ranks import Ranks


class Block(NamedTuple):
    """Tokens `start..end` of the context, at `place` in the buffers of the rank that holds it."""

    index: int
    start: int
    end: int
    place: int


class Seen(NamedTuple):
    """What of a block is seen by the question whose tokens were computed anew, and by those."""

    # Indices within the block of keys that count, those of tokens that were not computed anew.
    keys: torch.Tensor
    # Of the chosen tokens, `first..last` are in the block.
    first: int
    last: int
    # `[last - first, keys]`: which of the keys each of them sees.
    visible: torch.Tensor

    @classmethod
    def of(cls, block: Block, chosen: torch.Tensor) -> Seen:
        """For a block, and the positions that were chosen, rising."""
        places = torch.arange(block.start, block.end, device=chosen.device)
        keys = (~torch.isin(places, chosen)).nonzero().squeeze(1)
        borders = torch.tensor([block.start, block.end], device=chosen.device)
        first, last = torch.searchsorted(chosen, borders).tolist()
        visible = places[keys] <= chosen[first:last, None]
        return cls(keys, first, last, visible)


def own_blocks(tokens: int, block: int, ranks: Ranks) -> list[Block]:
    """The blocks of a context of `tokens` tokens that this rank holds, in order."""
    count = -(-tokens // block)
    mine, place = [], 0
    for index in range(count):
        if ranks.owner(index, count) == ranks.rank:
            start, end = index * block, min((index + 1) * block, tokens)
            mine.append(Block(index, start, end, place))
            place += end - start
    return mine


class Mass:
    """Softmax weight that a layer gives to each of the blocks held here and to what stands behind
    the context, summed over batch, heads and tokens."""

    def __init__(self, mine: list[Block], blocks: int, block: int, is_first: bool) -> None:
        self.mine, self.block, self.is_first = mine, block, is_first
        # [blocks + 1]; the last is the question and its answer.
        self.sums = torch.zeros(blocks + 1)
        self.chosen: torch.Tensor | None = None
        self.indices = torch.tensor([block.index for block in mine], dtype=torch.long)

    def add(
        self,
        of_blocks: list[torch.Tensor],
        tail: Part,
        lse: torch.Tensor,
        anew: torch.Tensor | None,
    ) -> None:
        """Adds what some tokens give, whose scores have the log-sum-exp `lse` in all and those of
        `of_blocks` with each block: to blocks, to the tail and, by token, to those of the context that were computed anew, `anew [chosen]`."""
        # Nobody waits for a GPU here.
        self.sums = self.sums.to(lse.device)
        if of_blocks:
            sums = torch.exp(torch.stack(of_blocks) - lse).flatten(1).sum(1)
            self.sums[self.indices.to(lse.device)] += sums
        # All ranks compute the rest alike: it counts once.
        if self.is_first:
            self.sums[-1] += torch.exp(tail[1] - lse).sum()
            if anew is not None and self.chosen is not None:
                self.sums.index_add_(0, self.chosen.to(lse.device) // self.block, anew)
