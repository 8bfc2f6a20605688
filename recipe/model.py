"""The model: a small Llama decoder with grouped-query attention and tied embeddings.

Submodules carry the names that Hugging Face uses for Llama weights, so exporting is a matter
of adding the prefix `model.` to each parameter (see export.py).
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

NORM_EPS = 1e-5

# One (keys, values) pair per layer, each [batch, heads, tokens, head_dim]. Keys are rotated.
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


TINY = Config(hidden=128, ffn=256, layers=2, heads=2, kv_heads=1)


def rotary_table(positions: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Cosines and sines for `positions` [tokens]; each result [tokens, 1, head_dim]."""
    exponents = torch.arange(0, config.head_dim, 2, device=positions.device).float() / config.head_dim
    angles = positions[:, None].float() * config.rope_theta**-exponents  # [tokens, head_dim / 2]
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos()[:, None], angles.sin()[:, None]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in the half-split layout: x is [tokens, heads, head_dim]."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


def normalize(x: Tensor, weight: Tensor) -> Tensor:
    """Root-mean-square normalisation, computed in float32."""
    return F.rms_norm(x.float(), x.shape[-1:], weight.float(), NORM_EPS).to(x.dtype)


# A layer is two functions of single tokens with attention between them. They take the tokens of
# all samples in one row, so that they see one shape, and compile once, at any length.


def before_attention(
    x: Tensor, cos: Tensor, sin: Tensor, norm: Tensor, wq: Tensor, wk: Tensor, wv: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x [tokens, hidden] -> queries, keys, values, each [tokens, heads, head_dim]; keys are rotated."""
    h = normalize(x, norm)
    tokens, head_dim = x.shape[0], cos.shape[-1]
    q = rotate(F.linear(h, wq).view(tokens, -1, head_dim), cos, sin)
    k = rotate(F.linear(h, wk).view(tokens, -1, head_dim), cos, sin)
    v = F.linear(h, wv).view(tokens, -1, head_dim)
    group = q.shape[1] // k.shape[1]
    # Each key-value head serves `group` query heads in a row.
    k = k[:, :, None].expand(-1, -1, group, -1).reshape(q.shape)
    v = v[:, :, None].expand(-1, -1, group, -1).reshape(q.shape)
    return q, k, v


def after_attention(
    x: Tensor, attended: Tensor, wo: Tensor, norm: Tensor, gate: Tensor, up: Tensor, down: Tensor
) -> Tensor:
    """Adds what attention gave [tokens, heads * head_dim], then SwiGLU, to x [tokens, hidden]."""
    x = x + F.linear(attended, wo)
    h = normalize(x, norm)
    return x + F.linear(F.silu(F.linear(h, gate)) * F.linear(h, up), down)


def attend(q: Tensor, k: Tensor, v: Tensor, past: tuple[Tensor, Tensor] | None) -> Tensor:
    """Causal attention over a cache, if given, and the new tokens; all [batch, heads, tokens, head_dim]."""
    if past is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
    # [tokens, past + tokens]: all of the past, and the new tokens up to the diagonal
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.tril(k.shape[2] - q.shape[2]))


class Norm(nn.Module):
    """Holds the weight of a normalisation."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


class Attention(nn.Module):
    """Holds the four projections of grouped-query attention."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.q_proj = nn.Linear(config.hidden, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.hidden, bias=False)


class FeedForward(nn.Module):
    """Holds the three projections of SwiGLU."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.hidden, bias=False)


class Layer(nn.Module):
    """One decoder layer: attention, then feed-forward, each behind a norm and a residual."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.input_layernorm = Norm(config.hidden)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = Norm(config.hidden)
        self.mlp = FeedForward(config)

    def before(self) -> tuple[Tensor, ...]:
        """The weights of `before_attention`."""
        a = self.self_attn
        return self.input_layernorm.weight, a.q_proj.weight, a.k_proj.weight, a.v_proj.weight

    def after(self) -> tuple[Tensor, ...]:
        """The weights of `after_attention`."""
        m, norm = self.mlp, self.post_attention_layernorm
        wo = self.self_attn.o_proj.weight
        return wo, norm.weight, m.gate_proj.weight, m.up_proj.weight, m.down_proj.weight


class Model(nn.Module):
    """The decoder. `forward` returns hidden states; `logits` turns them into scores."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.hidden)
        self.before_attention, self.after_attention = before_attention, after_attention
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
        batch, tokens = ids.shape
        x = F.embedding(ids.flatten(), self.embed_tokens.weight)  # [batch * tokens, hidden]
        cos, sin = rotary_table(positions.flatten(), self.config)
        cache: Cache = []
        for i, layer in enumerate(self.layers):
            parts = self.before_attention(x, cos, sin, *layer.before())
            q, k, v = (part.view(batch, tokens, *part.shape[1:]).transpose(1, 2) for part in parts)
            attended = attend(q, k, v, past[i] if past else None)
            attended = attended.transpose(1, 2).reshape(batch * tokens, -1)
            x = self.after_attention(x, attended, *layer.after())
            cache.append((k, v))
        return normalize(x, self.norm.weight).view(batch, tokens, -1), cache

    def compile_parts(self) -> None:
        """Compile the token-wise parts: one compilation for all layers and lengths."""
        self.before_attention = torch.compile(before_attention, dynamic=False, fullgraph=True)
        self.after_attention = torch.compile(after_attention, dynamic=False, fullgraph=True)

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
    )
    if raw["rms_norm_eps"] != NORM_EPS:
        raise ValueError(f"{folder}: rms_norm_eps is {raw['rms_norm_eps']}, this model has {NORM_EPS}")
    weights: dict[str, Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(shard).items():
            weights[name.removeprefix("model.")] = tensor.float()
    model = Model(config)
    model.load_state_dict(weights)
    return model.eval()


def deepened(model: Model, layers: int) -> Model:
    """A model of `layers` layers that computes the same: the added ones, at the end, begin as nothing."""
    if layers < model.config.layers:
        raise ValueError(f"{layers} layers are fewer than the model's {model.config.layers}")
    deeper = Model(replace(model.config, layers=layers))
    deeper.load_state_dict(model.state_dict(), strict=False)
    for layer in deeper.layers[model.config.layers :]:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    return deeper
