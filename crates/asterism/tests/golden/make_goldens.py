"""Makes the golden values that the Rust tests compare against, with Hugging Face Transformers on the CPU.

    python -m venv .venv
    .venv/bin/pip install -r crates/asterism/tests/golden/requirements.txt
    .venv/bin/python crates/asterism/tests/golden/make_goldens.py            # everything, about a minute
    .venv/bin/python crates/asterism/tests/golden/make_goldens.py qwen3 chat # only the parts named

It writes, beside itself:

<family>/   A tiny random checkpoint in Hugging Face layout and its golden.safetensors:
                input_ids  i64 [96]
                logits     f32 [96, vocab]   of every position of input_ids
                greedy     i64 [64]          the greedy continuation, eos ignored
nano/       golden.safetensors for the checkpoint models/nano, on the chat made of nano/prompt.txt (its text, stripped,
            is the one user message; with the chat template that is exactly 2048 tokens):
                input_ids  i64 [2048]
                rows       i64 [8]           the positions that logits holds
                logits     f32 [8, 4096]
                greedy     i64 [64]
chat/       cases.json: `rendered` or `error` filled in for each case. Its other fields, and the templates, are written
            by hand. `variables` are passed to the template as they are; a null bos_token or eos_token is not passed,
            so that the template finds the name undefined, as it does in Transformers.

All arithmetic is float32 (eager attention) on the weights as the files hold them. The seeds are fixed, and chosen such
that greedy is safe: at each of its steps the best token leads the second best by at least MARGIN.
"""

import json
import shutil
import sys
from pathlib import Path

import jinja2
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent
NANO = HERE.parent.parent / "models" / "nano"
CODE = "48213"  # the answer that nano/prompt.txt asks for

PROMPT, STEPS = 96, 64
GAIN, BIAS_STD, NORM_STD = 1.5, 0.4, 0.2  # far from uniform attention, logits of std 1 to 3
MARGIN = 0.02

# config.json of each family with the field names found on the Hub. `seed` and `keep_saved` are ours and not written:
# keep_saved leaves the config as the installed Transformers saves it (`rope_parameters`, `dtype`).
COMMON = dict(
    vocab_size=128, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, hidden_act="silu",
    max_position_embeddings=512, initializer_range=0.02, use_cache=True, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
LLAMA = dict(architectures=["LlamaForCausalLM"], model_type="llama", pretraining_tp=1, rms_norm_eps=1e-5)
QWEN = dict(attention_dropout=0.0, rms_norm_eps=1e-6, use_sliding_window=False, max_window_layers=2)
FAMILIES = {
    # The first generation names neither rope_theta nor head_dim: 10000 and hidden / heads are implied.
    "llama2": LLAMA | dict(
        seed=26, hidden_size=32, num_attention_heads=2, num_key_value_heads=2, rope_scaling=None,
        tie_word_embeddings=False, torch_dtype="float32", transformers_version="4.31.0",
    ),
    # The wavelengths 6.3, 32 and 167.. of head_dim 16 fall in the kept, the blended and the stretched band.
    "llama3": LLAMA | dict(
        seed=11, hidden_size=64, num_key_value_heads=2, head_dim=16, attention_bias=False, attention_dropout=0.0,
        mlp_bias=False, eos_token_id=[2, 3, 4], rope_theta=500000.0,
        rope_scaling=dict(
            factor=8.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=64,
            rope_type="llama3",
        ),
        tie_word_embeddings=True, torch_dtype="bfloat16", transformers_version="4.45.0",
    ),
    "llama_linear": LLAMA | dict(
        seed=17, keep_saved=True, hidden_size=64, num_key_value_heads=1, rope_theta=10000.0,
        rope_scaling=dict(rope_type="linear", factor=4.0), tie_word_embeddings=False, torch_dtype="float16",
    ),
    "mistral": dict(
        seed=17, architectures=["MistralForCausalLM"], model_type="mistral", attention_dropout=0.0, hidden_size=48,
        num_hidden_layers=3, num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, rope_theta=1000000.0,
        sliding_window=None, tie_word_embeddings=False, torch_dtype="bfloat16", transformers_version="4.43.0",
    ),
    "qwen2": QWEN | dict(
        seed=18, architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=64, num_key_value_heads=2,
        rope_theta=1000000.0, sliding_window=512, tie_word_embeddings=True, torch_dtype="bfloat16",
        transformers_version="4.43.1",
    ),
    "qwen3": QWEN | dict(
        seed=21, architectures=["Qwen3ForCausalLM"], model_type="qwen3", attention_bias=False, hidden_size=64,
        num_key_value_heads=2, head_dim=32, rope_theta=1000000.0, rope_scaling=None, sliding_window=None,
        tie_word_embeddings=True, torch_dtype="bfloat16", transformers_version="4.51.0",
    ),
}  # fmt: skip


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


@torch.no_grad()
def run(model, ids, steps=STEPS):
    """logits [len, vocab] of `ids`, its greedy continuation [steps], and the smallest lead of a greedy token."""
    out = model(ids[None], use_cache=True)
    logits, cache = out.logits[0], out.past_key_values
    greedy, lead, last = [], float("inf"), logits[-1]
    for _ in range(steps):
        best, second = last.topk(2).values
        lead = min(lead, (best - second).item())
        greedy.append(last.argmax().item())
        last = model(torch.tensor([greedy[-1:]]), past_key_values=cache, use_cache=True).logits[0, -1]
    return logits, torch.tensor(greedy), lead


def random_weights(model, seed):
    rng = torch.Generator().manual_seed(seed)
    std = GAIN / model.config.hidden_size**0.5
    for name, weight in model.named_parameters():  # a tied head is listed once, as the embedding
        noise = torch.randn(weight.shape, generator=rng)
        if "norm" in name:
            weight.data = 1 + NORM_STD * noise
        else:
            weight.data = (BIAS_STD if name.endswith(".bias") else std) * noise


def check_bands(config):
    """Llama 3's rule treats wavelengths in three ways; a test that misses one proves little."""
    s = config["rope_scaling"]
    dim, base, old = config["head_dim"], config["rope_theta"], s["original_max_position_embeddings"]
    turns = [old / (2 * torch.pi * base ** (i / dim)) for i in range(0, dim, 2)]  # within the old context
    kept = sum(t > s["high_freq_factor"] for t in turns)
    stretched = sum(t < s["low_freq_factor"] for t in turns)
    assert kept and stretched and kept + stretched < len(turns), turns


def make_family(name):
    folder = HERE / name
    config = COMMON | FAMILIES[name]
    seed, keep_saved = config.pop("seed"), config.pop("keep_saved", False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    classic = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(classic)
    if name == "llama3":
        check_bands(config)

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    random_weights(model, seed)
    model.to(getattr(torch, config["torch_dtype"]))
    model.save_pretrained(folder, max_shard_size="75KB" if name == "llama2" else "1MB")
    assert len(list(folder.glob("model*.safetensors"))) == (2 if name == "llama2" else 1)

    ids = torch.randint(config["vocab_size"], [PROMPT], generator=torch.Generator().manual_seed(100 + seed))
    logits, greedy, lead = run(load(folder), ids)
    if not keep_saved:
        (folder / "config.json").write_text(classic)
        again, _, _ = run(load(folder), ids, steps=0)
        assert torch.equal(logits, again), f"{name}: the Hub's config fields changed the logits"
    save_file(dict(input_ids=ids, logits=logits, greedy=greedy), folder / "golden.safetensors")

    print(f"{name:12} logits std {logits.std():.2f}, {greedy.unique().numel()} greedy tokens, smallest lead {lead:.3f}")
    assert 1 < logits.std() < 3 and lead >= MARGIN, f"{name}: choose another seed"


def make_nano():
    folder = HERE / "nano"
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    prompt = (folder / "prompt.txt").read_text(encoding="ascii").strip()
    messages = [dict(role="user", content=prompt)]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert len(ids) == 2048, f"nano/prompt.txt must make 2048 tokens, not {len(ids)}"

    ids = torch.tensor(ids)
    rows = torch.tensor([0, 1, 63, 511, 1000, 1535, 2046, 2047])
    logits, greedy, lead = run(load(NANO), ids)
    save_file(dict(input_ids=ids, rows=rows, logits=logits[rows].clone(), greedy=greedy), folder / "golden.safetensors")

    text = tokenizer.decode(greedy)
    print(f"nano         smallest lead {lead:.3f}, greedy {text!r}")
    assert CODE in text.split(tokenizer.eos_token)[0] and lead >= MARGIN


def make_chat():
    file = HERE / "chat" / "cases.json"
    cases = json.loads(file.read_text(encoding="utf-8"))
    for case in cases:
        case.pop("rendered", None), case.pop("error", None)
        tokens = {key: case[key] for key in ("bos_token", "eos_token") if case[key] is not None}
        try:
            [case["rendered"]], _ = render_jinja_template(
                [case["messages"]],
                chat_template=(HERE / "chat" / case["template"]).read_text(encoding="utf-8"),
                add_generation_prompt=case["add_generation_prompt"],
                **tokens,
                **case["variables"],
            )
        except jinja2.TemplateError as error:
            # raise_exception raises the base class; any other kind is a mistake in the template
            assert type(error) is jinja2.TemplateError, f"{case['name']}: {error!r}"
            case["error"] = error.message
        print(f"chat         {case['name']}: {'error' if 'error' in case else 'rendered'}")
    file.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    logging.disable_progress_bar()
    parts = [*FAMILIES, "nano", "chat"]
    chosen = sys.argv[1:] or parts
    if unknown := set(chosen) - set(parts):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    for part in chosen:
        make_family(part) if part in FAMILIES else {"nano": make_nano, "chat": make_chat}[part]()


if __name__ == "__main__":
    main()
