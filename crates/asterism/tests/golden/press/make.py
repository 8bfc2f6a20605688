"""Scores of kvpress 0.5.4 for random tensors: golden.safetensors beside this file.

    pip install kvpress==0.5.4 && python make.py        (made with torch 2.8.0, transformers 5.2.0)

One layer with 4 query heads, 2 KV heads of 16 elements, 268 tokens (8 first, a chunk of 256, 4
last, so that no chunk is filled up). Projections are the identity, so that hidden states are queries
(or, for leverage, keys) before rotary embedding.
"""

from pathlib import Path
from types import SimpleNamespace

import torch
from kvpress import (
    AdaKVPress,
    CompactorPress,
    ExpectedAttentionPress,
    KnormPress,
    SnapKVPress,
    StreamingLLMPress,
)
from kvpress.presses.leverage_press import LeverageScorePress
from kvpress.presses.non_causal_attention_press import NonCausalAttnPress
from safetensors.torch import save_file
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

HEADS, KV_HEADS, DIM, TOKENS, SKETCH = 4, 2, 16, 268, 48
THETA, RATIO = 10_000.0, 0.5


def rotary(_, positions):
    """Cosines and sines of the positions `[1, tokens]`, each `[1, tokens, DIM]`."""
    frequencies = THETA ** (-torch.arange(0, DIM, 2, dtype=torch.float32) / DIM)
    angles = positions[..., None].float() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def tokens_first(x):
    """[1, heads, tokens, ...] as [tokens, heads, ...]."""
    return x[0].transpose(0, 1).contiguous()


def main():
    torch.manual_seed(7)
    q = torch.randn(1, HEADS, TOKENS, DIM)
    k = torch.randn(1, KV_HEADS, TOKENS, DIM)
    v = torch.randn(1, KV_HEADS, TOKENS, DIM)
    cos, sin = rotary(None, torch.arange(TOKENS)[None])
    rotated_q, rotated_k = apply_rotary_pos_emb(q, k, cos, sin)

    def flat(x):
        return x.transpose(1, 2).reshape(1, TOKENS, -1)

    # Keys go through `k_proj` for leverage: both projections read their own part.
    hidden = torch.cat([flat(q), flat(k)], dim=-1)
    module = SimpleNamespace(
        config=SimpleNamespace(
            num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, _attn_implementation="sdpa"
        ),
        head_dim=DIM,
        q_proj=lambda h: h[..., : HEADS * DIM],
        k_proj=lambda h: h[..., HEADS * DIM :],
        rotary_emb=rotary,
    )
    kwargs = {"position_embeddings": (cos, sin)}

    def score(press):
        return press.score(module, hidden, rotated_k, v, None, kwargs)[0].contiguous()

    golden = {
        "q": tokens_first(rotated_q),
        "k": tokens_first(rotated_k),
        "v": tokens_first(v),
        "knorm": score(KnormPress()),
        "snapkv": score(SnapKVPress(window_size=64, kernel_size=5)),
        "streaming": score(StreamingLLMPress(compression_ratio=RATIO)),
        "expected": score(ExpectedAttentionPress(epsilon=0.0)),
        "expected_epsilon": score(ExpectedAttentionPress(epsilon=1e-2)),
    }
    inner = slice(8, TOKENS - 4)
    # The sketch that leverage draws first after a seed.
    torch.manual_seed(11)
    sketch = torch.randn(1, KV_HEADS, DIM, SKETCH) / SKETCH**0.5
    golden["sketch"] = sketch[0].contiguous()
    torch.manual_seed(11)
    leverage = LeverageScorePress.compute_leverage_scores(k[:, :, inner], SKETCH)
    golden["leverage"] = leverage[0].contiguous()
    repeated = rotated_k.repeat_interleave(HEADS // KV_HEADS, dim=1)
    columns = NonCausalAttnPress.non_causal_chunked_attn(
        rotated_q[:, :, inner], repeated[:, :, inner], 256
    )
    golden["columns"] = columns.view(1, KV_HEADS, -1, TOKENS - 12).mean(dim=2)[0].contiguous()
    torch.manual_seed(11)
    golden["compactor"] = score(CompactorPress(compression_ratio=RATIO))
    # 1 where AdaKV keeps a key, by Expected Attention.
    ada = AdaKVPress(ExpectedAttentionPress(compression_ratio=RATIO, epsilon=1e-2))
    ada.compress(module, hidden, rotated_k, v, None, kwargs)
    kept = torch.ones(KV_HEADS, TOKENS)
    _, heads, positions = module.masked_key_indices
    kept[heads, positions] = 0
    golden["adakv"] = kept
    save_file(
        {name: x.float() for name, x in golden.items()},
        Path(__file__).with_name("golden.safetensors"),
    )


if __name__ == "__main__":
    main()
