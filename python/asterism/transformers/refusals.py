"""What Star Attention cannot do right is refused, with the reason."""

from __future__ import annotations

from typing import Any

import torch


class StarError(ValueError):
    """Something that Star Attention would do wrong. The message says what, and what to change."""


def check_config(config: Any) -> Any:
    """The configuration of the text decoder in `config`, if blocks can be encoded with it.

    Raises `StarError` for models whose layers are not causal attention over everything, or whose
    keys depend on more than their own positions.
    """
    if any(getattr(config, name, False) for name in ("is_encoder_decoder", "add_cross_attention")):
        raise StarError(
            f"{config.model_type}: layers of cross-attention read another text, which has no "
            "blocks: take a model that is a decoder alone"
        )
    config = config.get_text_config(decoder=True)
    kind = config.model_type
    if getattr(config, "num_attention_heads", None) is None:
        raise StarError(f"{kind}: no attention heads, so there are no keys to encode in blocks")
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"})
    window = getattr(config, "sliding_window", None)
    if not others and window and getattr(config, "layer_types", None) is None:
        others = [] if getattr(config, "use_sliding_window", True) is False else ["sliding_window"]
    if others:
        raise StarError(
            f"{kind}: layers of {', '.join(others)} do not attend to the whole context, as the "
            "answer must: take a model whose layers are all full attention (or, for a window that "
            "the model does not need, set config.sliding_window = None before it is made)"
        )
    if getattr(config, "alibi", False) or kind in ("bloom", "mpt"):
        raise StarError(
            f"{kind}: biases by distance (ALiBi) are computed from how many keys there are, "
            "and a block has fewer than the text before it: take a model with rotary positions"
        )
    rope = getattr(config, "rope_scaling", None) or getattr(config, "rope_parameters", None) or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling in ("dynamic", "longrope"):
        raise StarError(
            f"{kind}: rope of type {scaling!r} changes with the length of the text, so that keys "
            "of early blocks would not fit those of later ones: use yarn, llama3 or linear"
        )
    return config


def check_padding(attention_mask: torch.Tensor | None, where: str) -> None:
    """Refuses an `attention_mask [batch, tokens]` with a 0 in it."""
    if attention_mask is not None and not bool(attention_mask.all()):
        raise StarError(
            f"{where} has padding (zeros in attention_mask): blocks and anchor would be of padding "
            "in some rows and text in others: encode and ask texts one by one, or of equal length"
        )


def check_unpadded(ids: torch.Tensor, pad: Any) -> None:
    """Refuses `ids [batch, tokens]` of which only some rows begin or end with `pad`."""
    if ids.shape[0] == 1 or not isinstance(pad, int):
        return
    for column in (ids[:, 0], ids[:, -1]):
        padded = column == pad
        if bool(padded.any()) and not bool(padded.all()):
            check_padding(~padded, "the batch")
