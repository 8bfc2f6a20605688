"""The model: a small Llama decoder with grouped-query attention and tied embeddings.

Submodules carry the names that Hugging Face uses for Llama weights, so exporting is a matter
of adding the prefix `model.` to each parameter (see export.py).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

# One (keys, values) pair per layer, each [batch, kv_heads, tokens, head_dim]. Keys are rotated.
Cache = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Config:
    """Sizes of the decoder. The defaults are those of models/nano."""

    vocab: int = 4096  # 4,094 tokenizer entries, rounded up
    hidden: int = 384
    ffn: int = 1024
    layers: int = 8
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 64
    rope_theta: float = 1e6
    max_positions: int = 131_072
    norm_eps: float = 1e-5


TINY = Config(hidden=128, ffn=256, layers=2, heads=2, kv_heads=1)


def rotary_table(positions: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Cosines and sines for `positions` [batch, tokens]; each result [batch, 1, tokens, head_dim]."""
    exponents = torch.arange(0, config.head_dim, 2, device=positions.device).float() / config.head_dim
    angles = positions[..., None].float() * config.rope_theta**-exponents  # [batch, tokens, head_dim / 2]
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos()[:, None], angles.sin()[:, None]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in the half-split layout: x is [batch, heads, tokens, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), self.eps).to(x.dtype)


class Attention(nn.Module):
    """Causal grouped-query attention over the new tokens and, if given, a cache before them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q_proj = nn.Linear(config.hidden, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.hidden, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, tokens, _ = x.shape
        q = self.q_proj(x).view(batch, tokens, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, tokens, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, tokens, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        new = (k, v)
        mask = None
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
            # [tokens, past + tokens]: all of the past, and the new tokens up to the diagonal
            mask = torch.ones(tokens, k.shape[2], dtype=torch.bool, device=x.device)
            mask = mask.tril(k.shape[2] - tokens)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(out.transpose(1, 2).reshape(batch, tokens, -1)), new


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer: attention, then feed-forward, each behind a norm and a residual."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, new = self.self_attn(self.input_layernorm(x), cos, sin, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), new


class Model(nn.Module):
    """The decoder. `forward` returns hidden states; `logits` turns them into scores."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden, config.norm_eps)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights; those that write to the residual stream start smaller, as in GPT-2."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = math.sqrt(2 * self.config.layers) if residual else 1.0
                nn.init.normal_(parameter, std=0.02 / scale)

    def forward(self, ids: Tensor, positions: Tensor, past: Cache | None = None) -> tuple[Tensor, Cache]:
        """ids and positions [batch, tokens] -> hidden [batch, tokens, hidden], cache of these tokens."""
        x = self.embed_tokens(ids)
        cos, sin = rotary_table(positions, self.config)
        cache: Cache = []
        for i, layer in enumerate(self.layers):
            x, new = layer(x, cos, sin, past[i] if past else None)
            cache.append(new)
        return self.norm(x), cache

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocab], through the tied embedding."""
        return F.linear(hidden, self.embed_tokens.weight)


def load_exported(folder: Path) -> Model:
    """Read a model in Hugging Face layout (config.json and *.safetensors), in float32."""
    raw = json.loads((folder / "config.json").read_text())
    config = Config(
        vocab=raw["vocab_size"],
        hidden=raw["hidden_size"],
        ffn=raw["intermediate_size"],
        layers=raw["num_hidden_layers"],
        heads=raw["num_attention_heads"],
        kv_heads=raw["num_key_value_heads"],
        head_dim=raw["head_dim"],
        rope_theta=raw["rope_theta"],
        max_positions=raw["max_position_embeddings"],
        norm_eps=raw["rms_norm_eps"],
    )
    weights: dict[str, Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(shard).items():
            weights[name.removeprefix("model.")] = tensor.float()
    model = Model(config)
    model.load_state_dict(weights)
    return model.eval()
