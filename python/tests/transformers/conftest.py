"""Small models with random weights, and the definition of Star Attention to compare with."""

import pytest
import torch
import transformers

import asterism.transformers.parts  # registers "star"

torch.set_num_threads(1)

FAMILIES = ("Llama", "Qwen2", "Qwen3", "Mistral")


def random_model(family, attention="star", **more):
    """Two layers, 4 heads on 2 of keys; weights large enough that attention is not flat."""
    config = getattr(transformers, f"{family}Config")(
        **{
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": 97,
            "max_position_embeddings": 8192,
            "initializer_range": 0.2,
            "sliding_window": None,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        }
        | more
    )
    torch.manual_seed(1)
    kind = getattr(transformers, f"{family}ForCausalLM")
    return kind._from_config(config, attn_implementation=attention).float().eval()


def star_mask(tokens, context, block, anchor, chosen=()):
    """`[tokens, tokens]`, what each token sees: the definition of Star Attention for a prompt whose
    first `context` tokens are the context. `chosen` see all before them."""
    row, column = torch.arange(tokens)[:, None], torch.arange(tokens)
    in_block = (row // block == column // block) | (column < anchor)
    is_free = (row >= context) | torch.isin(row, torch.tensor(list(chosen), dtype=torch.long))
    return (column <= row) & (in_block | is_free)


def masked_logits(model, ids, mask):
    """Logits of one forward with `mask` written out."""
    model.set_attn_implementation("eager")
    written = torch.where(mask, 0.0, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        return model(ids, attention_mask=written.expand(len(ids), -1, -1, -1)).logits


@pytest.fixture
def ids():
    torch.manual_seed(7)
    return torch.randint(0, 97, (1, 320))


@pytest.fixture(params=[asterism.transformers.parts.TILE, 1], ids=["one tile", "many tiles"])
def tile(request, monkeypatch):
    """Few queries are attended in one tile, many block by block: both are tried with few."""
    monkeypatch.setattr(asterism.transformers.parts, "TILE", request.param)
