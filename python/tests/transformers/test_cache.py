"""A StarCache is one forward with Star Attention's mask written out."""

import gc
import weakref
from copy import deepcopy

import pytest
import torch
from asterism.transformers import StarCache, StarError, star
from asterism.transformers.cache import cache_name
from conftest import FAMILIES, masked_logits, random_model, star_mask
from transformers import DynamicCache

pytestmark = pytest.mark.usefixtures("tile")
CONTEXT, BLOCK, ANCHOR = 300, 64, 24


def question_logits(model, cache, ids):
    context = cache.tokens
    positions = torch.arange(context, ids.shape[1], device=ids.device)[None].expand(len(ids), -1)
    with torch.no_grad():
        return model(
            ids[:, context:], position_ids=positions, **{cache_name(model): cache}
        ).logits


def greedy(model, ids, mask_of, count):
    """The likeliest tokens by forwards over everything."""
    for _ in range(count):
        logits = masked_logits(model, ids, mask_of(ids.shape[1]))
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], 1)
    return ids[:, -count:]


@pytest.mark.parametrize("attention", ["star", "sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_tokens_are_those_of_the_mask_written_out(family, attention, ids):
    model = random_model(family)

    def mask_of(tokens):
        return star_mask(tokens, CONTEXT, BLOCK, ANCHOR)

    expected = masked_logits(model, ids, mask_of(ids.shape[1]))[:, CONTEXT:]
    tokens = greedy(model, ids, mask_of, 12)
    model.set_attn_implementation(attention)
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT], chunk=40)
    torch.testing.assert_close(question_logits(model, cache, ids), expected, atol=1e-4, rtol=0)
    for _ in range(2):
        answer = cache.answer(model, ids[:, CONTEXT:], max_new_tokens=12, do_sample=False)
        assert answer.tolist() == tokens.tolist()


@pytest.mark.parametrize("anchor", [0, 1, 24, 64])
@pytest.mark.parametrize("context", [1, 63, 64, 65, 256, 300])
def test_every_length_and_anchor_is_the_mask(context, anchor, ids):
    model = random_model("Llama")
    ids = ids[:, : context + 9]
    mask = star_mask(ids.shape[1], context, BLOCK, anchor)
    expected = masked_logits(model, ids, mask)[:, context:]
    model.set_attn_implementation("star")
    cache = StarCache(model.config, BLOCK, anchor).encode(model, ids[:, :context])
    torch.testing.assert_close(question_logits(model, cache, ids), expected, atol=1e-4, rtol=0)


def test_keys_are_those_of_the_paper_where_each_block_runs_behind_the_anchor(ids):
    """The paper's code runs [anchor, block] for every block but the first and keeps the block."""
    model = random_model("Qwen3", "sdpa")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    for start in range(0, CONTEXT, BLOCK):
        own = torch.arange(start, min(start + BLOCK, CONTEXT))
        positions = own if start == 0 else torch.cat([torch.arange(ANCHOR), own])
        naive = DynamicCache()
        with torch.no_grad():
            model(ids[:, positions], position_ids=positions[None], **{cache_name(model): naive})
        for ours, theirs in zip(cache.layers, naive.layers):
            for name in ("keys", "values"):
                kept = getattr(theirs, name)[:, :, -len(own) :]
                got = getattr(ours, name)[:, :, start : start + len(own)]
                torch.testing.assert_close(got, kept, atol=1e-5, rtol=1e-4)


def test_rows_of_a_batch_without_padding_are_those_alone(ids):
    model = random_model("Qwen2")
    both = torch.cat([ids, ids.flip(1)])
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, both[:, :CONTEXT])
    together = question_logits(model, cache, both)
    for row in range(2):
        alone = StarCache(model.config, BLOCK, ANCHOR).encode(model, both[row, None, :CONTEXT])
        expected = question_logits(model, alone, both[row, None])
        torch.testing.assert_close(together[row, None], expected, atol=1e-4, rtol=0)


def test_plain_generate_takes_the_cache_and_crop_returns_to_the_context(ids):
    model = random_model("Llama", "sdpa")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    settings = {
        "attention_mask": torch.ones_like(ids),
        "max_new_tokens": 8,
        "do_sample": False,
        cache_name(model): cache,
    }
    first = model.generate(ids, **settings)
    assert cache.get_seq_length() == first.shape[1] - 1
    cache.crop(CONTEXT - cache.get_seq_length())
    assert cache.get_seq_length() == CONTEXT
    assert model.generate(ids, **settings).tolist() == first.tolist()
    with pytest.raises(StarError, match="blocks stay whole"):
        cache.crop(-100)


def test_long_answers_grow_the_buffer(ids):
    model = random_model("Llama")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :100])
    answer = cache.answer(model, ids[:, 100:105], max_new_tokens=300, do_sample=False)
    whole = torch.cat([ids[:, :105], answer], 1)
    logits = masked_logits(model, whole, star_mask(whole.shape[1], 100, BLOCK, ANCHOR))
    assert logits[0, 104:-1].argmax(-1).tolist() == answer[0].tolist()


def test_within_star_plain_generate_reads_in_blocks_and_the_model_is_left_as_it_was(ids):
    model = random_model("Mistral", "sdpa")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    expected = cache.answer(model, ids[:, CONTEXT:], max_new_tokens=8, do_sample=False)
    dense = model.generate(ids, max_new_tokens=8, do_sample=False).tolist()
    with star(model, block=BLOCK, anchor=ANCHOR, context_length=CONTEXT) as state:
        got = model.generate(ids, max_new_tokens=8, do_sample=False)
        encoded = state.cache
        again = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
        assert state.cache is encoded and encoded.tokens == CONTEXT
    assert got[:, :-8].tolist() == ids.tolist() and got[:, -8:].tolist() == expected.tolist()
    assert again.tolist() == got.tolist()
    assert model.config._attn_implementation == "sdpa"
    assert model.generate(ids, max_new_tokens=8, do_sample=False).tolist() == dense
    with star(model, block=BLOCK, anchor=ANCHOR, question_length=400) as state:
        assert model.generate(ids, max_new_tokens=8, do_sample=False).tolist() == dense
        assert state.cache is None


def test_mass_of_blocks_is_that_of_the_softmax(ids):
    model = random_model("Llama", num_hidden_layers=1)
    mask = star_mask(ids.shape[1], CONTEXT, BLOCK, ANCHOR)
    model.set_attn_implementation("eager")
    written = torch.where(mask, 0.0, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        weights = model(ids, attention_mask=written, output_attentions=True).attentions[0]
    weights = weights[0, :, CONTEXT:].mean((0, 1))
    expected = [weights[s : min(s + BLOCK, CONTEXT)].sum() for s in range(0, CONTEXT, BLOCK)]
    expected.append(weights[CONTEXT:].sum())
    model.set_attn_implementation("star")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    question_logits(model, cache, ids)
    torch.testing.assert_close(cache.mass()[0], torch.stack(expected), atol=1e-4, rtol=0)


def test_star_without_a_cache_is_dense_attention(ids):
    model = random_model("Llama")
    with torch.no_grad():
        got = model(ids).logits
    full = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    torch.testing.assert_close(got, masked_logits(model, ids, full), atol=1e-4, rtol=0)
    model.set_attn_implementation("star")
    got = model.generate(ids, max_new_tokens=6, do_sample=False)
    model.set_attn_implementation("sdpa")
    assert got.tolist() == model.generate(ids, max_new_tokens=6, do_sample=False).tolist()


def test_an_interrupted_encoding_leaves_an_empty_cache(ids):
    model = random_model("Llama")
    cache = StarCache(model.config, BLOCK, ANCHOR)

    def stop(done, all_of_them):
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.encode(model, ids[:, :CONTEXT], progress=stop)
    heard = []
    cache.encode(model, ids[:, :CONTEXT], progress=lambda *step: heard.append(step))
    assert heard[-1] == (CONTEXT, CONTEXT)
    mask = star_mask(ids.shape[1], CONTEXT, BLOCK, ANCHOR)
    got = question_logits(model, cache, ids)
    expected = masked_logits(model, ids, mask)[:, CONTEXT:]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_memory_is_free_as_soon_as_nobody_has_the_cache(ids):
    model = random_model("Llama")
    model.set_attn_implementation("star")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    cache.answer(model, ids[:, CONTEXT:], max_new_tokens=2, do_sample=False)
    keys = weakref.ref(cache.layers[0].keys)
    gc.disable()
    try:
        del cache
        assert keys() is None
    finally:
        gc.enable()


def test_a_copy_answers_for_itself(ids):
    model = random_model("Llama")
    model.set_attn_implementation("star")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    expected = question_logits(model, cache, ids)
    copied = deepcopy(cache)
    cache.reset()
    del cache
    copied.reset()
    torch.testing.assert_close(question_logits(model, copied, ids), expected)
