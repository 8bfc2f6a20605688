"""`with star(model, …)`: `model.generate` that encodes its prompts by Star Attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .cache import StarCache
from .refusals import StarError, check_padding
from .revisit import Revisit


class Star:
    """What `star` yields."""

    def __init__(self) -> None:
        #: The cache of the last prompt; `None` before, and for prompts without a context.
        self.cache: StarCache | None = None


@contextmanager
def star(
    model: Any,
    *,
    block: int,
    anchor: int,
    context_length: int | None = None,
    question_length: int = 256,
    revisit: Revisit = None,
    group: Any = None,
) -> Iterator[Star]:
    """Within it, `model.generate(ids)` encodes the first `context_length` tokens of its prompt in
    blocks, and answers the rest with everything in sight. Without a `context_length` the last
    `question_length` tokens are the rest; a prompt that is not longer is run as it is.

    A context that comes again is not encoded again. `revisit` and `group` are those of
    `StarCache`. Behind it, the model is as it was before.
    """
    attention = model.config._attn_implementation
    state, generate = Star(), model.generate

    def generate_by_star(inputs: torch.Tensor | None = None, **settings: Any) -> Any:
        ids = settings.pop("input_ids", inputs)
        if ids is None or {"cache", "past_key_values", "inputs_embeds"} & settings.keys():
            raise StarError("within star() generate takes token ids, and no cache or embeddings")
        length = ids.shape[1] - question_length if context_length is None else context_length
        if length >= ids.shape[1]:
            raise StarError(
                f"a context of {length} tokens leaves nothing of a prompt of {ids.shape[1]} to "
                "answer: give a context_length that ends before the question"
            )
        check_padding(settings.pop("attention_mask", None), "the prompt")
        if length <= 0:
            state.cache = None
            return generate(ids, attention_mask=torch.ones_like(ids), **settings)
        context, cache = ids[:, :length], state.cache
        if cache is None or cache.ids is None or not torch.equal(cache.ids, context):
            # The one before goes first: two may not fit.
            state.cache = None
            cache = StarCache(model.config, block, anchor, group=group).encode(model, context)
            state.cache = cache
        return generate(**cache.prompt(model, ids[:, length:], revisit=revisit), **settings)

    model.set_attn_implementation("star")
    had_own = "generate" in vars(model)
    model.generate = generate_by_star
    try:
        yield state
    finally:
        if had_own:
            model.generate = generate
        else:
            del model.generate
        model.set_attn_implementation(attention)
