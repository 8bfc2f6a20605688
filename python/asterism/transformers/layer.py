"""One layer of a `StarCache`: its keys and values, in one buffer that grows behind the context."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import CacheLayerMixin

from .refusals import StarError

if TYPE_CHECKING:
    from .blocks import Block
    from .cache import StarCache

# Tokens by which the buffer grows.
PAGE = 256

Pair = tuple[torch.Tensor, torch.Tensor]


class StarLayer(CacheLayerMixin):
    """Keys and values of the context's blocks that this process holds, then those of the question
    and its answer, the *tail*."""

    is_sliding = False
    is_croppable = True

    def __init__(self, star: StarCache) -> None:
        super().__init__()
        self.belong_to(star)
        # While a block is encoded: keys and values of the anchor and of the block so far.
        self.view: Pair | None = None
        self.anchor: Pair | None = None
        # Tokens of the context in the buffer, and tokens of the tail behind them.
        self.held = 0
        self.tail = 0
        # Keys and values of the context's tokens that were computed anew for this question.
        self.patch: Pair | None = None
        # Keys went to the model's attention, which has not come back with them to ours.
        self.is_awaited = False

    def belong_to(self, star: StarCache) -> None:
        """Makes `star` the cache that the layer is part of. The cache holds the layer, not the other way
        round: so its memory, of which a GPU has little, is free as soon as nobody has the cache."""
        self._star = weakref.ref(star)

    @property
    def star(self) -> StarCache:
        """The cache that the layer is part of."""
        star = self._star()
        if star is None:
            raise StarError("the StarCache of this layer is gone: keep it as long as its layers are used")
        return star

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocates the buffers `[batch, kv_heads, room, head_dim]`."""
        room = self.star.own_tokens + PAGE

        def empty(like: torch.Tensor) -> torch.Tensor:
            return like.new_empty((like.shape[0], like.shape[1], room, like.shape[3]))

        self.keys, self.values = empty(key_states), empty(value_states)
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Pair:
        """What the tokens that come with `key_states`, `value_states` are to attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        stage = self.star.stage
        if stage == "encode":
            new = (key_states, value_states)
            if self.view is not None:
                new = tuple(torch.cat(pair, -2) for pair in zip(self.view, new))
            self.view = new
            return self._await(*new)
        if stage == "revisit":
            self.patch = (key_states, value_states)
            return self._await(key_states.view_as(key_states), value_states)
        self.star.check_question(self, key_states, value_states)
        self._append(key_states, value_states)
        self.tail += key_states.shape[-2]
        end = self.held + self.tail
        start = self.held if self.star.is_attended_here else 0
        return self._await(self.keys[:, :, start:end], self.values[:, :, start:end])

    def end_block(self, anchor: int, is_kept: bool) -> None:
        """Keeps the block in view, without the anchor before it, and puts the first `anchor` tokens
        in view for the next one."""
        if self.view is None:
            raise StarError("the model did not hand this layer any keys: it shares those of others")
        behind = 0 if self.anchor is None else self.anchor[0].shape[-2]
        if self.anchor is None:
            self.anchor = tuple(t[:, :, :anchor].clone() for t in self.view)
        if is_kept:
            block = tuple(t[:, :, behind:] for t in self.view)
            self._append(*block)
            self.held += block[0].shape[-2]
        self.view = self.anchor if anchor else None

    def end_context(self) -> None:
        """No more blocks come."""
        self.view = self.anchor = None

    def block(self, block: Block) -> Pair:
        """Keys and values of a block that is held here."""
        start, end = block.place, block.place + block.end - block.start
        return self.keys[:, :, start:end], self.values[:, :, start:end]

    def context(self) -> Pair:
        """Keys and values of all blocks that are held here."""
        return self.keys[:, :, : self.held], self.values[:, :, : self.held]

    def forget(self) -> None:
        """Leaves the context alone."""
        self.tail, self.patch, self.is_awaited = 0, None, False

    def _append(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        start = self.held + self.tail
        end = start + key_states.shape[-2]
        for name, new in (("keys", key_states), ("values", value_states)):
            buffer = getattr(self, name)
            if end > buffer.shape[2]:
                grown = buffer.new_empty((*buffer.shape[:2], end + PAGE, buffer.shape[3]))
                grown[:, :, :start] = buffer[:, :, :start]
                setattr(self, name, grown)
                buffer = grown
            buffer[:, :, start:end] = new

    def _await(self, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        """Has the attention function "star" find this layer by the keys that it is given."""
        if self.star.is_attended_here:
            self.check_met()
            keys.star_layer, self.is_awaited = self, True
        return keys, values

    def check_met(self) -> None:
        """Refuses a model whose attention did not get the keys that the cache gave it."""
        if self.is_awaited:
            raise StarError(
                "the model changes keys between its cache and its attention, so that the attention "
                "function 'star' does not see whose they are: use another, such as "
                "model.set_attn_implementation('sdpa')"
            )

    def get_seq_length(self) -> int:
        """Tokens that stand before the next one."""
        if self.star.stage == "encode":
            return 0 if self.view is None else self.view[0].shape[-2]
        return self.star.tokens + self.tail

    def get_mask_sizes(self, query_length: int | torch.Tensor) -> tuple[int, int]:
        """How many keys `query_length` more tokens attend to, and the place of the first. Up to
        Transformers 5.3 it is the tokens' positions that come."""
        count = query_length if isinstance(query_length, int) else query_length.shape[0]
        return self.get_seq_length() + count, 0

    def get_max_length(self) -> int:
        """There is no largest length."""
        return -1

    get_max_cache_shape = get_max_length

    def crop(self, count: int) -> None:
        """Takes `-count` tokens from the tail's end, or leaves `count` tokens in all."""
        left = self.get_seq_length() + count if count < 0 else count
        if not count or left >= self.get_seq_length():
            return
        if left < self.star.tokens:
            raise StarError(
                f"{left} tokens would be left of a context of {self.star.tokens}: its blocks stay "
                "whole; encode a shorter context"
            )
        self.tail = left - self.star.tokens

    def reset(self) -> None:
        """Leaves the context alone."""
        self.forget()

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Takes the rows `beam_idx` of the batch."""
        for name in ("keys", "values"):
            setattr(self, name, getattr(self, name).index_select(0, beam_idx.to(self.device)))
