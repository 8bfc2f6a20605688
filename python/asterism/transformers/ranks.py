"""Blocks of one context over the processes of a `torch.distributed` group.

Every process encodes blocks of its own behind the anchor, which it computes itself, and runs the
question and its answer like all others; of each layer they exchange output and log-sum-exp, whose
sum is exact (phase 2 of arXiv 2411.17116). All add up in the order of ranks, so that all have the
same bits, and choose the same tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from .parts import Part, merge


class Ranks:
    """The processes of `group`; this one alone if it is `None`."""

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.size = 1 if group is None else dist.get_world_size(group)
        self.rank = 0 if group is None else dist.get_rank(group)

    def owner(self, block: int, blocks: int) -> int:
        """The rank that holds `block` of `blocks`: each has a run of them, of nearly equal length.
        Of fewer blocks than ranks, the last ranks have none."""
        return block * self.size // blocks if blocks > self.size else block

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The `tensor` of every rank, all of one shape, in their order."""
        if self.group is None:
            return [tensor]
        tensor = tensor.contiguous()
        all_of_them = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(all_of_them, tensor, group=self.group)
        return all_of_them

    def merge(self, part: Part) -> Part:
        """Attention to the keys of all ranks, of which `part` is this one's."""
        if self.group is None:
            return part
        packed = torch.cat([part[0], part[1].unsqueeze(-1)], -1)
        return merge([(one[..., :-1], one[..., -1]) for one in self.gather(packed)])

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of every rank's `tensor`."""
        return torch.stack(self.gather(tensor)).sum(0)
