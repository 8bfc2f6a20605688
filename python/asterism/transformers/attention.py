"""The attention function `"star"` of Transformers: no mask is written out, and a `StarCache` gets
exact attention to blocks that lie anywhere, with the softmax mass of each.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface

from .layer import StarLayer
from .parts import Part, attend, attend_each, is_one_tile, merge, nothing, weigh
from .refusals import StarError, check_padding

# Queries whose mask is written out at a time where no kernel takes a causal mask as such.
ROWS = 256


def star_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of `query [batch, heads, queries, dim]`, the last of the tokens that `key`,
    `value [batch, kv_heads, keys, dim]` are of; with a `StarCache`, to all of its context as well.
    Returns `[batch, queries, heads, dim]`."""
    if attention_mask is not None:
        raise StarError(
            "the attention function 'star' writes no masks out and takes none: "
            "use model.set_attn_implementation('sdpa') for a mask of your own"
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: StarLayer | None = getattr(key, "star_layer", None)
    if layer is not None:
        layer.is_awaited = False
    if layer is None or layer.star.stage == "encode":
        return causal(query, key, value, scaling, dropout).transpose(1, 2), None
    positions = kwargs.get("position_ids")
    is_first = layer is layer.star.layers[0]
    if is_first and layer.star.stage != "revisit" and positions is not None:
        layer.star.check_positions(positions)
    out = _of_context(layer, query, key, value, scaling)
    return out.to(query.dtype).transpose(1, 2), None


def star_mask(*args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> None:
    """No mask; refuses padding, which would need one."""
    check_padding(attention_mask, "the input")


def causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention of the last tokens of `key`, each to those before it and itself."""
    group = query.shape[1] // key.shape[1]
    if group > 1:
        key, value = (t.repeat_interleave(group, 1) for t in (key, value))
    queries, keys = query.shape[2], key.shape[2]
    settings = {"scale": scaling, "dropout_p": dropout}
    if queries == keys or queries == 1:
        return F.scaled_dot_product_attention(
            query, key, value, is_causal=queries > 1, **settings
        )
    if query.is_cuda:
        from torch.nn.attention.bias import causal_lower_right

        mask = causal_lower_right(queries, keys)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **settings)
    before, outs = keys - queries, []
    for start in range(0, queries, ROWS):
        end = min(start + ROWS, queries)
        mask = torch.ones(end - start, before + end, dtype=torch.bool, device=query.device)
        outs.append(
            F.scaled_dot_product_attention(
                query[:, :, start:end],
                key[:, :, : before + end],
                value[:, :, : before + end],
                attn_mask=mask.tril(before + start),
                **settings,
            )
        )
    return torch.cat(outs, 2)


def _of_context(
    layer: StarLayer,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    """Attention to the context's blocks, here and on other ranks, to the tokens computed anew
    instead of some of theirs, and to the tail; or, while those are computed, to one another."""
    star, queries = layer.star, query.shape[2]
    of_own, lses = _of_blocks(layer, query, value, scaling)
    context = star.ranks.merge(of_own)
    if star.stage == "weigh":
        for block in star.own_blocks:
            weights = weigh(query, layer.block(block)[0], scaling, context[1])
            star.weights[block.start : block.end] += weights.to(star.weights.device)
    behind: list[Part] = []
    is_patched = layer.patch is not None and star.stage != "revisit"
    if is_patched:
        behind.append(attend(query, *layer.patch, scaling))
    places = torch.arange(key.shape[2], device=query.device)
    is_seen = places <= places[-queries:, None]
    behind.append(attend(query, key, value, scaling, None if queries == 1 else is_seen))
    out, lse = merge([context, *behind])
    if star.stage == "ask":
        anew = weigh(query, layer.patch[0], scaling, lse) if is_patched else None
        star.mass_of(layer).add(lses, behind[-1], lse, anew)
    return out


def _of_blocks(
    layer: StarLayer, query: torch.Tensor, value: torch.Tensor, scaling: float
) -> tuple[Part, list[torch.Tensor]]:
    """Attention to the context's blocks that are held here, and the log-sum-exps of each; without the
    old keys of tokens that are computed anew."""
    star = layer.star
    if not star.own_blocks:
        return nothing(query, value), []
    is_revisit = star.stage == "revisit"
    if not is_revisit and is_one_tile(query, layer.held):
        lengths = [block.end - block.start for block in star.own_blocks]
        return attend_each(query, *layer.context(), scaling, lengths, star.hidden)
    parts = []
    for block in star.own_blocks:
        key, value = layer.block(block)
        seen = star.seen.get(block.index)
        if seen is not None:
            key, value = (t.index_select(2, seen.keys) for t in (key, value))
        if seen is None or not is_revisit:
            parts.append(attend(query, key, value, scaling))
            continue
        # Tokens in front of the block see nothing of it, those behind it all.
        before, inside, behind = query.tensor_split([seen.first, seen.last], 2)
        some = attend(inside, key, value, scaling, seen.visible)
        of_rows = [nothing(before, value), some, attend(behind, key, value, scaling)]
        outs, lses = zip(*of_rows)
        parts.append((torch.cat(outs, 2), torch.cat(lses, 2)))
    return merge(parts), [lse for _, lse in parts]


AttentionInterface.register("star", star_attention)
AttentionMaskInterface.register("star", star_mask)
