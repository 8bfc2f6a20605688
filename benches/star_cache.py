#!/usr/bin/env python3
"""Star Attention inside Transformers on a GPU: time to the first token and memory of a StarCache
beside Transformers' own dense pass over the same tokens.

    asterism bench --shape llama-8b --write-model target/llama-8b
    PYTHONPATH=python benches/star_cache.py target/llama-8b --lengths 32768,130048 --block 16384 --anchor 4096

Over several GPUs of one machine, a process each, which share the blocks of a context (NCCL):

    PYTHONPATH=python torchrun --nproc-per-node 2 benches/star_cache.py target/llama-8b --methods "star_cache star"

Prints a line per measurement. "star_cache sdpa" is a StarCache with PyTorch's SDPA, "star" with the
attention function of that name. The engine itself is measured by `asterism bench` on the same folder.
"""

import argparse
import json
import os
import statistics
import time

import torch
import torch.distributed as dist
import transformers
from asterism.transformers import StarCache


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="checkpoint folder")
    parser.add_argument("--lengths", default="32768,130048")
    parser.add_argument("--block", type=int, default=16384)
    parser.add_argument("--anchor", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--decode", type=int, default=32, help="tokens of the answer")
    parser.add_argument("--revisit", type=int, default=2048, help="tokens computed anew")
    parser.add_argument("--methods", default="dense sdpa,star_cache sdpa,star_cache star")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    args.ranks = int(os.environ.get("WORLD_SIZE", 1))
    if args.ranks > 1:
        args.device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(args.device)
        dist.init_process_group("nccl")
    say = print if not dist.is_initialized() or dist.get_rank() == 0 else lambda *_, **__: None
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.bfloat16, attn_implementation="sdpa", device_map=args.device
    ).eval()
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    say(json.dumps({"versions": versions, "device": torch.cuda.get_device_name(), **vars(args)}))
    torch.manual_seed(0)
    question = torch.randint(model.config.vocab_size, (1, 64), device=args.device)
    for length in map(int, args.lengths.split(",")):
        torch.manual_seed(length)
        ids = torch.randint(model.config.vocab_size, (1, length), device=args.device)
        methods = args.methods.split(",")
        results = {method: [] for method in methods}
        for run in range(args.runs + 1):
            for method in methods:
                kind, attention = method.split()
                model.set_attn_implementation(attention)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                measure = dense if kind == "dense" else star
                for name, times in measure(model, ids, question, args, attention == "star"):
                    # The first run warms up.
                    if run:
                        results.setdefault(name or method, []).append(times)
        for method, times in results.items():
            say(json.dumps({"length": length, "method": method, **medians(times)}), flush=True)


def now():
    torch.cuda.synchronize()
    return time.perf_counter()


def medians(times):
    return {key: round(statistics.median(one[key] for one in times), 4) for key in times[0]}


def decode(model, inputs, args, start):
    """Greedy tokens behind a prompt; seconds to the first one, and of each that follows."""
    first = None

    class Watch(transformers.LogitsProcessor):
        def __call__(self, _, scores):
            nonlocal first
            first = first or now()
            return scores

    tokens = {"max_new_tokens": args.decode, "min_new_tokens": args.decode, "do_sample": False}
    model.generate(**inputs, **tokens, logits_processor=[Watch()])
    end = now()
    return {
        "first_token_s": first - start,
        "token_s": (end - first) / (args.decode - 1),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


@torch.inference_mode()
def dense(model, ids, question, args, _):
    prompt = torch.cat([ids, question], 1)
    inputs = {"inputs": prompt, "attention_mask": torch.ones_like(prompt)}
    yield None, decode(model, inputs, args, now())


@torch.inference_mode()
def star(model, ids, question, args, can_revisit):
    start = now()
    group = dist.group.WORLD if args.ranks > 1 else None
    cache = StarCache(model.config, args.block, args.anchor, group=group).encode(model, ids)
    yield None, decode(model, cache.prompt(model, question), args, start)
    if can_revisit:
        # The second question: of the context nothing is encoded again.
        start = now()
        inputs = cache.prompt(model, question, revisit=args.revisit)
        yield "star_cache star, revisited", decode(model, inputs, args, start)


main()
if dist.is_initialized():
    dist.destroy_process_group()
