"""What would be answered wrongly is refused, with the reason."""

import pytest
import torch
import transformers
from asterism.transformers import StarCache, StarError, star
from asterism.transformers.cache import cache_name
from conftest import random_model

CONTEXT = 300
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(
    "config, reason",
    [
        (transformers.MistralConfig(sliding_window=4096), "sliding"),
        (transformers.Gemma2Config(), "sliding"),
        (transformers.Qwen3NextConfig(), "linear_attention"),
        (transformers.BloomConfig(), "ALiBi"),
        (transformers.T5Config(), "cross-attention"),
        (transformers.MambaConfig(), "no attention heads"),
        (
            transformers.LlamaConfig(rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
            "dynamic",
        ),
    ],
)
def test_models_with_other_layers_are_refused(config, reason):
    with pytest.raises(StarError, match=reason):
        StarCache(config, 64, 24)


@pytest.mark.parametrize("block, anchor", [(0, 0), (-1, 0), (8, 9), (8, -1)])
def test_impossible_blocks_are_refused(block, anchor):
    with pytest.raises(StarError, match=f"block={block}, anchor={anchor}"):
        StarCache(transformers.LlamaConfig(**SMALL), block, anchor)


@pytest.mark.parametrize("attention", ["star", "sdpa"])
def test_the_context_fed_again_is_refused(attention, ids):
    """Transformers 5.24 feeds the whole prompt when there is no attention_mask."""
    model = random_model("Llama", attention)
    cache = StarCache(model.config, 64, 24).encode(model, ids[:, :CONTEXT])
    with pytest.raises(StarError, match="once more"), torch.no_grad():
        model(ids, **{cache_name(model): cache})
    # A long question is none.
    cache.reset()
    question = ids.flip(1)
    answer = cache.answer(model, question, max_new_tokens=2, do_sample=False)
    assert answer.shape == (1, 2)


def test_generate_without_a_mask_is_right_or_refused(ids):
    model = random_model("Llama")
    cache = StarCache(model.config, 64, 24).encode(model, ids[:, :CONTEXT])
    settings = {"max_new_tokens": 4, "do_sample": False}
    expected = cache.answer(model, ids[:, CONTEXT:], **settings).tolist()
    cache.reset()
    try:
        got = model.generate(ids, **settings, **{cache_name(model): cache})
    except StarError as error:
        assert "once more" in str(error)
    else:
        assert got[:, -4:].tolist() == expected


def test_padding_is_refused(ids):
    model = random_model("Llama")
    padded = torch.cat([ids, ids])
    mask = torch.ones_like(padded)
    mask[1, :5] = 0
    with pytest.raises(StarError, match="padding"):
        StarCache(model.config, 64, 24).encode(model, padded, attention_mask=mask)
    with pytest.raises(StarError, match="padding"), torch.no_grad():
        model(padded, attention_mask=mask)
    with pytest.raises(StarError, match="padding"), star(model, block=64, anchor=24):
        model.generate(padded, attention_mask=mask)
    model.config.pad_token_id = 96
    padded[:, 0], padded[1, 0] = 5, 96
    with pytest.raises(StarError, match="padding"):
        StarCache(model.config, 64, 24).encode(model, padded)
    # Questions of which one is padded: their positions say so.
    model.config.pad_token_id = None
    cache = StarCache(model.config, 64, 24).encode(model, torch.cat([ids, ids])[:, :CONTEXT])
    positions = torch.arange(CONTEXT, CONTEXT + 4).repeat(2, 1)
    positions[1] = torch.tensor([0, 0, CONTEXT, CONTEXT + 1])
    with pytest.raises(StarError, match="without gaps or padding"), torch.no_grad():
        model(padded[:, :4], position_ids=positions, **{cache_name(model): cache})


def test_masks_of_ones_own_are_refused_by_star_attention(ids):
    model = random_model("Llama")
    with pytest.raises(StarError, match="takes none"), torch.no_grad():
        model(ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1]))


def test_what_takes_star_attention_says_so(ids):
    model = random_model("Llama", "sdpa")
    cache = StarCache(model.config, 64, 24).encode(model, ids[:, :CONTEXT])
    for call in (cache.mass, lambda: cache.revisit(model, ids[:, CONTEXT:])):
        with pytest.raises(StarError, match="'sdpa'"):
            call()


def test_caches_are_filled_once_and_before_they_are_asked(ids):
    model = random_model("Llama")
    cache = StarCache(model.config, 64, 24)
    for call in (cache.mass, lambda: cache.answer(model, ids)):
        with pytest.raises(StarError, match="encode one first"):
            call()
    with pytest.raises(StarError, match="tokens > 0"):
        cache.encode(model, ids[:, :0])
    with pytest.raises(StarError, match="another configuration"):
        cache.encode(random_model("Llama"), ids)
    cache.encode(model, ids)
    with pytest.raises(StarError, match="already"):
        cache.encode(model, ids)


def test_two_questions_to_one_context_at_once_are_refused(ids):
    model = random_model("Llama")
    cache = StarCache(model.config, 64, 24).encode(model, ids[:, :CONTEXT])
    with pytest.raises(StarError, match="2 questions at once"):
        cache.answer(model, ids[:, CONTEXT:], num_beams=2, max_new_tokens=2, do_sample=False)


def test_a_context_without_a_question_is_refused(ids):
    model = random_model("Llama")
    with star(model, block=64, anchor=24, context_length=ids.shape[1]):
        with pytest.raises(StarError, match="before the question"):
            model.generate(ids)
