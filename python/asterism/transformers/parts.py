"""Attention to a part of the keys, and the sum of parts: exact by their log-sum-exps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

# Scores that one tile holds at most.
TILE = 1 << 25
# Stands for minus infinity where a difference to it is taken.
FLOOR = -1e30

# out [batch, heads, queries, dim] and lse [batch, heads, queries], both f32.
Part = tuple[torch.Tensor, torch.Tensor]


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    visible: torch.Tensor | None = None,
) -> Part:
    """Attention of `query [batch, heads, queries, dim]` to `key`, `value [batch, kv_heads, keys,
    dim]`, of which a query sees those that `visible`, `[keys]` or `[queries, keys]`, says.

    A query that sees no key gets 0, with a log-sum-exp of minus infinity.
    """
    outs, lses = [], []
    for scores, heads in _tiles(query, key, scaling, visible):
        lse = torch.logsumexp(scores, -1)
        weights = torch.exp(scores - lse.clamp(min=FLOOR).unsqueeze(-1))
        out = weights.to(value.dtype) @ value
        outs.append(heads(out.float()))
        lses.append(heads(lse.unsqueeze(-1)).squeeze(-1))
    return torch.cat(outs, -2), torch.cat(lses, -1)


def weigh(
    query: torch.Tensor,
    key: torch.Tensor,
    scaling: float,
    lse: torch.Tensor,
) -> torch.Tensor:
    """The softmax weight of each key, `[keys]`, summed over batch, heads and queries, where `lse
    [batch, heads, queries]` is the log-sum-exp of all scores, of other keys as well."""
    total = torch.zeros(key.shape[2], dtype=torch.float32, device=key.device)
    done = 0
    for scores, heads in _tiles(query, key, scaling, None):
        rows = heads(scores)
        total += torch.exp(rows - lse[:, :, done : done + rows.shape[2], None]).sum((0, 1, 2))
        done += rows.shape[2]
    return total


def merge(parts: Sequence[Part]) -> Part:
    """Attention to the keys of all parts together."""
    lse = torch.logsumexp(torch.stack([part[1] for part in parts]), 0)
    out = torch.zeros_like(parts[0][0])
    for part, of_part in parts:
        out += torch.exp(of_part - lse.clamp(min=FLOOR)).unsqueeze(-1) * part
    return out, lse


def _tiles(
    query: torch.Tensor,
    key: torch.Tensor,
    scaling: float,
    visible: torch.Tensor | None,
) -> Iterator[tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]]:
    """Scores f32 `[batch, kv_heads, group * rows, keys]` of some queries after the other, the
    heads that share keys side by side; and what gives a tensor of that shape its heads back."""
    batch, all_heads, queries, dim = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    group = all_heads // kv_heads
    rows = max(1, TILE // max(1, batch * all_heads * keys))
    grouped = query.view(batch, kv_heads, group, queries, dim)
    for start in range(0, queries, rows):
        some = grouped[:, :, :, start : start + rows]
        count = some.shape[3]
        flat = some.reshape(batch, kv_heads, group * count, dim)
        scores = (flat @ key.transpose(-1, -2)).float() * scaling
        if visible is not None:
            seen = visible
            if visible.dim() == 2:
                seen = visible[start : start + count].repeat(group, 1)
            scores = scores.masked_fill(~seen, float("-inf"))

        def heads(tensor: torch.Tensor, count: int = count) -> torch.Tensor:
            last = tensor.shape[-1]
            return tensor.view(batch, kv_heads, group, count, last).reshape(
                batch, all_heads, count, last
            )

        yield scores, heads
