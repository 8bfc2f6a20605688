"""nano and SmolLM2 by the engine, by a StarCache in Transformers, and by a forward with the mask
written out: the same logits and tokens."""

from pathlib import Path

import asterism
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
MODELS = {"nano": ROOT / "models" / "nano", "smollm2": ROOT / "target" / "smollm2"}
BLOCK, ANCHOR = 256, 64
QUESTION = "\nWhat is the access code for the Lisbon vault? The access code is"


@pytest.fixture(scope="module", params=MODELS)
def folder(request):
    folder = MODELS[request.param]
    if not folder.exists():
        pytest.skip(f"benches/smollm2.py {folder} makes it")
    return folder


@pytest.fixture(scope="module")
def prompt(folder):
    engine = asterism.Engine(str(folder), device="cpu", dtype="f32")
    prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. " * 20
    text = f"{prose}The access code for the Lisbon vault is 48213. {prose}"
    return engine, engine.tokenize(text), engine.tokenize(QUESTION)


@pytest.fixture(scope="module")
def model(folder):
    load = transformers.AutoModelForCausalLM.from_pretrained
    return load(folder, torch_dtype=torch.float32).eval()


@pytest.mark.parametrize("revisit", ["none", "40"])
def test_the_engine_is_the_star_cache(prompt, model, revisit):
    from asterism.transformers import StarCache
    from asterism.transformers.cache import cache_name

    engine, context, question = prompt
    encoded = engine.encode(context, method=f"star:block={BLOCK}:anchor={ANCHOR}", hosts=2)
    answer = encoded.ask(question, max_tokens=12, logits=True, revisit=revisit)
    model.set_attn_implementation("star")
    ids = torch.tensor(np.concatenate([context, question]).astype(np.int64))[None]
    length = len(context)
    cache = StarCache(model.config, BLOCK, ANCHOR).encode(model, ids[:, :length])
    if revisit != "none":
        cache.revisit(model, ids[:, length:], int(revisit))
    with torch.no_grad():
        positions = torch.arange(length, ids.shape[1])[None]
        theirs = model(ids[:, length:], position_ids=positions, **{cache_name(model): cache})
    np.testing.assert_allclose(answer.logits, theirs.logits[0, -1].numpy(), atol=2e-4, rtol=0)
    tokens = cache.answer(
        model,
        ids[:, length:],
        revisit=None if revisit == "none" else int(revisit),
        max_new_tokens=12,
        do_sample=False,
    )
    assert tokens[0].tolist() == answer.tokens.tolist()
    if revisit == "none":
        assert "48213" in engine.detokenize(answer.tokens)


def test_the_engine_is_the_mask_written_out(prompt, model):
    engine, context, question = prompt
    encoded = engine.encode(context, method=f"star:block={BLOCK}:anchor={ANCHOR}")
    answer = encoded.ask(question, max_tokens=1, logits=True)
    ids = torch.tensor(np.concatenate([context, question]).astype(np.int64))[None]
    row, column = torch.arange(ids.shape[1])[:, None], torch.arange(ids.shape[1])
    in_block = (row // BLOCK == column // BLOCK) | (column < ANCHOR) | (row >= len(context))
    mask = torch.where((column <= row) & in_block, 0.0, torch.finfo(torch.float32).min)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = model(ids, attention_mask=mask[None, None]).logits
    np.testing.assert_allclose(answer.logits, logits[0, -1].numpy(), atol=2e-4, rtol=0)
