"""Tokens computed anew for a question are those of the definition, its mask written out."""

import pytest
import torch
from asterism.transformers import StarCache, StarError, budget, choose, star
from conftest import FAMILIES, masked_logits, random_model, star_mask
from test_cache import question_logits

pytestmark = pytest.mark.usefixtures("tile")
CONTEXT, BLOCK, ANCHOR = 300, 64, 24


def naive(model, ids, chosen):
    """Logits of the question in one forward over the context, the chosen tokens once more, and the
    question: who sees what is written out."""
    context, count = CONTEXT, len(chosen)
    old, new = torch.arange(context), torch.tensor(chosen)
    rest = torch.arange(context, ids.shape[1])
    positions = torch.cat([old, new, rest])
    mask = torch.zeros(len(positions), len(positions), dtype=torch.bool)
    mask[:context, :context] = star_mask(context, context, BLOCK, ANCHOR)
    seen = ~torch.isin(old, new)
    mask[context:, :context] = seen & (old <= positions[context:, None])
    mask[context:, context:] = positions[context:] <= positions[context:, None]
    model.set_attn_implementation("eager")
    written = torch.where(mask, 0.0, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        logits = model(ids[:, positions], attention_mask=written, position_ids=positions[None])
    model.set_attn_implementation("star")
    return logits.logits[:, context + count :]


def naive_weights(model, ids):
    """How much the question looks at each token: softmax among the context's keys, summed."""
    model.set_attn_implementation("eager")
    mask = star_mask(ids.shape[1], CONTEXT, BLOCK, ANCHOR)
    written = torch.where(mask, 0.0, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        layers = model(ids, attention_mask=written, output_attentions=True).attentions
    model.set_attn_implementation("star")
    weights = torch.stack(layers)[:, 0, :, CONTEXT:, :CONTEXT]
    return (weights / weights.sum(-1, keepdim=True)).sum((0, 1, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_revisited_logits_are_those_of_the_definition(family, ids):
    model = random_model(family)
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    chosen = cache.revisit(model, ids[:, CONTEXT:], 40)
    assert len(chosen) == 40 and chosen.min() >= BLOCK
    assert chosen.tolist() == choose(naive_weights(model, ids), 40, BLOCK).tolist()
    got = question_logits(model, cache, ids)
    torch.testing.assert_close(got, naive(model, ids, chosen.tolist()), atol=1e-4, rtol=0)
    # Its mass is all there: blocks, and what stands behind them.
    torch.testing.assert_close(cache.mass().sum(1), torch.ones(len(cache.layers)))


def test_all_revisited_is_dense_and_none_is_star(ids):
    model = random_model("Llama")
    full = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    dense = masked_logits(model, ids, full)[:, CONTEXT:]
    model.set_attn_implementation("star")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    plain = question_logits(model, cache, ids)
    cache.revisit(model, ids[:, CONTEXT:], "100%")
    torch.testing.assert_close(question_logits(model, cache, ids), dense, atol=1e-4, rtol=0)
    assert cache.revisit(model, ids[:, CONTEXT:], None).tolist() == []
    assert torch.equal(question_logits(model, cache, ids), plain)
    assert (plain - dense).abs().max() > 1e-2


def test_the_tokens_of_generate_follow_the_definition(ids):
    model = random_model("Qwen3")
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :CONTEXT])
    answer = cache.answer(
        model, ids[:, CONTEXT:], revisit="10%", max_new_tokens=8, do_sample=False
    )
    whole = torch.cat([ids, answer], 1)
    expected = naive(model, whole, cache.chosen.tolist())
    question = ids.shape[1] - CONTEXT
    assert expected[0, question - 1 : -1].argmax(-1).tolist() == answer[0].tolist()
    with star(model, block=BLOCK, anchor=ANCHOR, context_length=CONTEXT, revisit="10%"):
        got = model.generate(ids, max_new_tokens=8, do_sample=False)
    assert got.tolist() == whole.tolist()


def test_a_budget_is_a_number_a_share_or_what_is_enough():
    for revisit, tokens, expected in [
        (None, 9000, 0),
        ("auto", 4001, 801),
        ("auto", 1 << 20, 2048),
        (500, 400, 400),
        ("5%", 1000, 50),
        ("100%", 1000, 1000),
    ]:
        assert budget(revisit, tokens) == expected
    for wrong in ("", "5", "x%", -1, True, "101%", 0.5):
        with pytest.raises(StarError, match="revisit="):
            budget(wrong, 100)


def test_neighbours_of_what_is_looked_at_come_along():
    scores = torch.zeros(200)
    scores[100], scores[5] = 1.0, 9.0
    assert choose(scores, 9, 32).tolist() == list(range(96, 105))
    assert choose(scores, 168, 32).tolist() == list(range(32, 200))
