"""A cache of Transformers that holds a context encoded by Star Attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from transformers import Cache

from .blocks import Block, Mass, Seen, own_blocks
from .layer import StarLayer
from .ranks import Ranks
from .refusals import StarError, check_config, check_padding, check_unpadded
from .revisit import Revisit, budget, choose


class StarCache(Cache):
    """A context, encoded once in blocks of `block` tokens that each see the first `anchor` tokens
    of the first one and themselves, to be asked any number of questions.

    `config` is the model's. With `group`, a group of `torch.distributed` (NCCL on GPUs, gloo on
    CPUs), each process holds a share of the blocks, and all must make the same calls.

    `encode` fills it. Then `answer`, or `model.generate` with the whole prompt, an
    `attention_mask` of ones and `past_key_values=cache`; `reset` before the next question.

    Any attention that Transformers has will do. The one called `"star"`
    (`model.set_attn_implementation("star")`) needs no mask, copies no keys, and is what `mass`,
    `revisit` and `group` take.
    """

    def __init__(self, config: Any, block: int, anchor: int, *, group: Any = None) -> None:
        self.config = check_config(config)
        if block < 1 or not 0 <= anchor <= block:
            raise StarError(
                f"block={block}, anchor={anchor}: a block has at least one token, and the anchor, "
                "the first tokens of the first block, at most as many as it"
            )
        self.block, self.anchor, self.ranks = block, anchor, Ranks(group)
        # What the model runs for: "encode", "ask", "weigh" or "revisit".
        self.stage = "encode"
        # Token ids of the context, `[batch, tokens]`, once it is encoded.
        self.ids: torch.Tensor | None = None
        self.tokens = 0
        self.own_blocks: list[Block] = []
        # Tokens of the context that are computed anew for this question, rising; whether a token
        # that is held here is one of them, `[held]`; and what of each block held here is still seen.
        self.chosen: torch.Tensor | None = None
        self.hidden: torch.Tensor | None = None
        self.seen: dict[int, Seen] = {}
        # How much a question looks at each token, `[tokens]`, while it is weighed.
        self.weights = torch.zeros(0)
        super().__init__(layers=[StarLayer(self) for _ in range(self.config.num_hidden_layers)])
        if group is not None:
            self._need_star("a group of processes")

    def __deepcopy__(self, memo: dict[int, Any]) -> StarCache:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        for name, value in vars(self).items():
            # Configuration and processes are the model's, and shared.
            setattr(copied, name, value if name in ("config", "ranks") else deepcopy(value, memo))
        for layer in copied.layers:
            layer.belong_to(copied)
        return copied

    @property
    def is_attended_here(self) -> bool:
        """The model's attention is the function "star"."""
        return self.config._attn_implementation == "star"

    @property
    def own_tokens(self) -> int:
        """Tokens of the context that this process holds."""
        return sum(block.end - block.start for block in self.own_blocks)

    @property
    def blocks(self) -> int:
        """Blocks of the context."""
        return -(-self.tokens // self.block)

    @torch.no_grad()
    def encode(
        self,
        model: Any,
        ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        chunk: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> StarCache:
        """Phase 1: encodes the context `ids [batch, tokens]`, each of its blocks on its own, in
        passes of at most `chunk` tokens. `progress` is called with tokens done and tokens to do.
        Returns this cache.

        Raises `StarError` for padding (`attention_mask` says where it is), an empty or a second
        context, and models that Star Attention does not fit.
        """
        if ids.dim() != 2 or ids.shape[1] == 0:
            raise StarError(f"a context of shape {tuple(ids.shape)}: give ids [batch, tokens > 0]")
        if self.ids is not None:
            raise StarError("the cache holds a context already: make another StarCache")
        check_padding(attention_mask, "the context")
        check_unpadded(ids, getattr(self.config, "pad_token_id", None))
        decoder = check_config(model.config)
        if decoder.num_hidden_layers != len(self.layers) or decoder is not self.config:
            raise StarError("the cache was made with another configuration: give it model.config")
        chunk = chunk or self.block
        tokens = ids.shape[1]
        self.own_blocks = own_blocks(tokens, self.block, self.ranks)
        todo, done = self._spans(tokens), 0
        try:
            for start, end, is_own in todo:
                for at in range(start, end, chunk):
                    self._forward(model, ids, torch.arange(at, min(at + chunk, end)))
                    done += min(at + chunk, end) - at
                    if progress is not None:
                        progress(done, sum(end - start for start, end, _ in todo))
                for layer in self.layers:
                    layer.end_block(min(self.anchor, tokens), is_own)
        except BaseException:
            self.layers = [StarLayer(self) for _ in self.layers]
            self.own_blocks = []
            raise
        for layer in self.layers:
            layer.end_context()
        self.ids, self.tokens = ids, tokens
        self.reset()
        return self

    def _spans(self, tokens: int) -> list[tuple[int, int, bool]]:
        """What this process runs: start, end, and whether that is a block of its own; the anchor
        alone comes first where the first block is another's."""
        spans = [(block.start, block.end, True) for block in self.own_blocks]
        if spans and spans[0][0] > 0 and self.anchor:
            spans.insert(0, (0, min(self.anchor, tokens), False))
        return spans

    def _forward(self, model: Any, ids: torch.Tensor, positions: torch.Tensor) -> None:
        """Runs the model's layers, without its head, on the tokens of `ids` at `positions`, or on
        all of `ids` if they are as many."""
        positions = positions.to(ids.device)
        some = ids if ids.shape[1] == len(positions) else ids[:, positions]
        model.base_model(
            input_ids=some,
            position_ids=positions[None].expand(len(ids), -1),
            use_cache=True,
            **{cache_name(model): self},
        )
        for layer in self.layers:
            layer.check_met()

    @torch.no_grad()
    def revisit(self, model: Any, question: torch.Tensor, tokens: Revisit = "auto") -> torch.Tensor:
        """Has the tokens of the context that `question [1, tokens]` looks at computed anew, with
        all of the context before them in sight, for the answer that comes next: so many (`2048`),
        a share (`"5%"`), or a fifth and at most 2,048 (`"auto"`). Returns which, rising.

        It takes the attention "star". The context stays as it is; `reset` forgets them.
        """
        ids = self._context("revisit")
        self._need_star("revisiting")
        if len(ids) != 1:
            raise StarError(f"{len(ids)} contexts in a batch look at different tokens: revisit one")
        self.reset()
        exact = min(self.block, self.tokens)
        count = min(budget(tokens, self.tokens), self.tokens - exact)
        if not count:
            return torch.empty(0, dtype=torch.long)
        try:
            self.stage, self.weights = "weigh", torch.zeros(self.tokens)
            self._forward(model, question, self.tokens + torch.arange(question.shape[1]))
            for layer in self.layers:
                layer.forget()
            weights = self.ranks.sum(self.weights.to(ids.device)).cpu()
            chosen = choose(weights, count, exact)
            self.chosen = chosen.to(ids.device)
            held = [torch.arange(block.start, block.end) for block in self.own_blocks]
            held = torch.cat([*held, torch.empty(0, dtype=torch.long)]).to(ids.device)
            self.hidden = torch.isin(held, self.chosen)
            self.seen = {block.index: Seen.of(block, self.chosen) for block in self.own_blocks}
            self.stage = "revisit"
            self._forward(model, ids[:, self.chosen], chosen)
        except BaseException:
            self.reset()
            raise
        self.stage = "ask"
        self._clear_mass()
        return chosen

    def prompt(
        self, model: Any, question: torch.Tensor, *, revisit: Revisit = None
    ) -> dict[str, Any]:
        """Forgets the question before, and returns the arguments by which `model.generate` answers
        `question [batch, tokens]`: the whole prompt, its mask and this cache."""
        ids = self._context("a question")
        check_unpadded(question, getattr(self.config, "pad_token_id", None))
        self.reset()
        if revisit is not None:
            self.revisit(model, question, revisit)
        prompt = torch.cat([ids, question.to(ids.device)], 1)
        return {
            "inputs": prompt,
            "attention_mask": torch.ones_like(prompt),
            cache_name(model): self,
        }

    def answer(
        self, model: Any, question: torch.Tensor, *, revisit: Revisit = None, **generate: Any
    ) -> torch.Tensor:
        """Phase 2: answers `question [batch, tokens]` with `model.generate`, which gets all else
        (`max_new_tokens`, `do_sample`, …). Returns the new tokens `[batch, tokens]`."""
        check_padding(generate.pop("attention_mask", None), "the question")
        prompt = self.prompt(model, question, revisit=revisit)
        result = model.generate(**prompt, **generate)
        sequences = result if isinstance(result, torch.Tensor) else result.sequences
        return sequences[:, prompt["inputs"].shape[1] :]

    def mass(self) -> torch.Tensor:
        """The share of its softmax weight that each layer gave to each block and, last, to question
        and answer, `[layers, blocks + 1]`: the mean over heads and all tokens since `reset`. It
        takes the attention "star"."""
        self._context("mass")
        self._need_star("the mass of blocks")
        sums = torch.stack([mass.sums.to(self.ids.device) for mass in self._mass])
        sums = self.ranks.sum(sums).cpu()
        return sums / sums.sum(1, keepdim=True).clamp(min=1e-30)

    def reset(self) -> None:
        """Forgets question, answer and what was computed anew; the context stays."""
        self.chosen = self.hidden = None
        self.seen = {}
        if self.ids is not None:
            self.stage = "ask"
        for layer in self.layers:
            layer.forget()
        self._clear_mass()

    def _clear_mass(self) -> None:
        is_first = self.ranks.rank == 0
        self._mass = [
            Mass(self.own_blocks, self.blocks, self.block, is_first) for _ in self.layers
        ]
        for mass in self._mass:
            mass.chosen = self.chosen

    def mass_of(self, layer: StarLayer) -> Mass:
        """Where a layer adds up its mass."""
        return self._mass[self.layers.index(layer)]

    def check_question(
        self, layer: StarLayer, key_states: torch.Tensor, value_states: torch.Tensor
    ) -> None:
        """Refuses tokens that are no question to this context: the context itself once more, which
        `generate` feeds without an `attention_mask`, or another number of rows."""
        if layer.held and key_states.shape[0] != layer.keys.shape[0]:
            raise StarError(
                f"{key_states.shape[0]} questions at once to a cache of {layer.keys.shape[0]} "
                "contexts: encode the context so many times, without beams, or ask one by one"
            )
        is_long = layer.held and not layer.tail and key_states.shape[-2] >= self.tokens
        if not is_long or layer is not self.layers[0]:
            return
        # In the first layer values depend on nothing but the tokens.
        first = self.own_blocks[0]
        again = value_states[:, :, first.start : first.end]
        if torch.allclose(again, layer.block(first)[1], rtol=1e-2, atol=1e-3):
            raise StarError(
                "the context came once more on top of the cache that holds it: give generate "
                "attention_mask=torch.ones_like(prompt), or use StarCache.answer"
            )

    def check_positions(self, positions: torch.Tensor) -> None:
        """Refuses rows that do not follow the context one by one: padding."""
        first = positions[:, :1] if positions.dim() == 2 else positions[:1]
        steps = torch.arange(positions.shape[-1], device=positions.device)
        if not bool((positions == first + steps).all()) or int(first.min()) < self.tokens:
            raise StarError(
                f"a question at positions {positions.tolist()[0][:4]}… of a context of "
                f"{self.tokens} tokens: it must follow the context without gaps or padding"
            )

    def _context(self, what: str) -> torch.Tensor:
        if self.ids is None:
            raise StarError(f"{what}: the cache holds no context: encode one first")
        return self.ids

    def _need_star(self, what: str) -> None:
        if not self.is_attended_here:
            raise StarError(
                f"{what} takes the attention function 'star', and the model's is "
                f"{self.config._attn_implementation!r}: model.set_attn_implementation('star')"
            )


def cache_name(model: Any) -> str:
    """What `model` calls a cache among its arguments: Transformers 5.24 renamed it."""
    names = inspect.signature(model.base_model.forward).parameters
    return "cache" if "cache" in names else "past_key_values"
