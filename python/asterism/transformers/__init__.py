"""Star Attention inside Hugging Face Transformers, in pure PyTorch.

A context is encoded once, in blocks that each see the *anchor* (its first tokens) and themselves;
questions about it attend exactly to everything (arXiv 2411.17116)::

    from asterism.transformers import StarCache

    model.set_attn_implementation("star")
    cache = StarCache(model.config, block=16384, anchor=4096).encode(model, context_ids)
    new_tokens = cache.answer(model, question_ids, max_new_tokens=64)

or, for a prompt whose last tokens are the question::

    from asterism.transformers import star

    with star(model, block=16384, anchor=4096, context_length=context_ids.shape[1]):
        tokens = model.generate(prompt_ids, max_new_tokens=64)

Importing this module registers the attention function ``"star"`` with Transformers. Nothing here
needs the engine that the rest of the package ``asterism`` is.
"""

from .attention import star_attention
from .cache import StarCache
from .context import star
from .refusals import StarError
from .revisit import budget, choose

__all__ = ["StarCache", "StarError", "budget", "choose", "star", "star_attention"]
