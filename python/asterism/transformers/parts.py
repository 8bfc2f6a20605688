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
    dim]`, of which a query sees those that `visible [queries, keys]` says, or all.

    A query that sees no key gets 0, with a log-sum-exp of minus infinity.
    """
    if query.shape[2] == 0 or key.shape[2] == 0:
        return nothing(query, value)
    if visible is None and (part := _fused(query, key, value, scaling)) is not None:
        return part
    outs, lses = [], []
    for scores, heads in _tiles(query, key, scaling, visible):
        lse = torch.logsumexp(scores, -1)
        weights = torch.exp(scores - lse.clamp(min=FLOOR).unsqueeze(-1))
        out = weights.to(value.dtype) @ value
        outs.append(heads(out.float()))
        lses.append(heads(lse.unsqueeze(-1)).squeeze(-1))
    return torch.cat(outs, -2), torch.cat(lses, -1)


def attend_each(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    lengths: list[int],
    hidden: torch.Tensor | None,
) -> tuple[Part, list[torch.Tensor]]:
    """Attention of so few queries that they are one tile to the keys that are not `hidden [keys]`, and
    the log-sum-exps of its parts, which have `lengths` keys one after the other. That takes a few calls
    instead of some for each part: with few queries it is those that take the time."""
    ((scores, heads),) = _tiles(query, key, scaling, None)
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    lses = torch.stack([torch.logsumexp(part, -1) for part in scores.split(lengths, -1)])
    lse = torch.logsumexp(lses, 0)
    weights = torch.exp(scores - lse.clamp(min=FLOOR).unsqueeze(-1))
    out = heads((weights.to(value.dtype) @ value).float())

    def of_heads(lse: torch.Tensor) -> torch.Tensor:
        return heads(lse.unsqueeze(-1)).squeeze(-1)

    return (out, of_heads(lse)), [of_heads(lse) for lse in lses]


def is_one_tile(query: torch.Tensor, keys: int) -> bool:
    """Whether the scores of `query [batch, heads, queries, dim]` with so many keys are one tile."""
    return query[..., 0].numel() * keys <= TILE


def nothing(query: torch.Tensor, value: torch.Tensor) -> Part:
    """Attention to no key."""
    out = query.new_zeros((*query.shape[:3], value.shape[-1]), dtype=torch.float32)
    return out, query.new_full(query.shape[:3], float("-inf"), dtype=torch.float32)


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


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
) -> Part | None:
    """Attention to all keys by PyTorch's own kernel, which gives log-sum-exps as well; `None` where it
    has none for such tensors. Heads that share keys are so many more queries of one head."""
    batch, all_heads, queries, dim = query.shape
    kv_heads = key.shape[1]
    if dim % 8 or dim > 256 or value.shape[-1] != dim:
        return None
    grouped = query.reshape(batch, kv_heads, all_heads // kv_heads * queries, dim)
    if not query.is_cuda:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    elif query.dtype in (torch.bfloat16, torch.float16):
        kernel = torch.ops.aten._scaled_dot_product_flash_attention
    else:
        return None
    out, lse = kernel(grouped, key, value, scale=scaling)[:2]
    lse = lse[..., : grouped.shape[2]]
    return (
        out.reshape(batch, all_heads, queries, dim).float(),
        lse.reshape(batch, all_heads, queries).float(),
    )


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
            seen = visible[start : start + count].repeat(group, 1)
            scores = scores.masked_fill(~seen, float("-inf"))

        def heads(tensor: torch.Tensor, count: int = count) -> torch.Tensor:
            last = tensor.shape[-1]
            return tensor.view(batch, kv_heads, group, count, last).reshape(
                batch, all_heads, count, last
            )

        yield scores, heads
