"""Dense and star attention at inference time, in the plainest form.

The context is encoded first (phase 1); the query and the answer then attend to all that was
cached (phase 2). The two methods differ in phase 1 only: with star attention, each block sees
the anchor and itself. Everything here runs in one process, without regard for speed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model import Cache, Model


@dataclass(frozen=True)
class Star:
    """Block and anchor length, in tokens. The anchor is the start of the first block."""

    block: int
    anchor: int


def _row(model: Model, values: list[int] | range) -> Tensor:
    device = model.embed_tokens.weight.device
    return torch.tensor([list(values)], device=device)  # [1, tokens]


@torch.no_grad()
def encode(model: Model, context: list[int], star: Star | None) -> Cache:
    """Phase 1: keys and values of the context. `star=None` is dense attention."""
    if star is None:
        return model(_row(model, context), _row(model, range(len(context))))[1]
    parts: list[Cache] = []
    for start in range(0, len(context), star.block):
        block = context[start : start + star.block]
        positions = list(range(start, start + len(block)))
        # The first block is its own anchor. Every token keeps its own position.
        anchor = star.anchor if start > 0 else 0
        ids = context[:anchor] + block
        cache = model(_row(model, ids), _row(model, list(range(anchor)) + positions))[1]
        parts.append([(k[:, :, anchor:], v[:, :, anchor:]) for k, v in cache])
    return _join(parts)


def _join(parts: list[Cache]) -> Cache:
    """Caches of consecutive tokens -> one cache."""
    joined = []
    for layer in zip(*parts, strict=True):
        joined.append((torch.cat([k for k, _ in layer], dim=2), torch.cat([v for _, v in layer], dim=2)))
    return joined


@torch.no_grad()
def predict(model: Model, cache: Cache, start: int, ids: list[int]) -> list[int]:
    """Phase 2, teacher-forced: the most likely next token after each of `ids`."""
    positions = range(start, start + len(ids))
    hidden, _ = model(_row(model, ids), _row(model, positions), cache)
    return model.logits(hidden).argmax(-1)[0].tolist()
